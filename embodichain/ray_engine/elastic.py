"""Rules for an elastic number of workers: more while the learner waits, fewer while workers wait. Does not import ray."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodichain.errors import ConfigError
from embodichain.ring.waiting import Waiting

__all__ = ["Elastic", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elastic:
    """Limits and goal of an elastic number of workers."""

    least: int
    most: int
    target_pairs: float = 0.0
    """Wanted E, state-action pairs read for the first time in an iteration; 0 only balances waiting times."""
    every_s: float = 20.0
    """Time between two decisions [s]; it should be longer than the start of a worker."""
    idle: float = 0.3
    """If workers are blocked for a larger share of their time, there are too many."""
    hungry: float = 0.1
    """If the learner waits for a larger share of its time, there are too few."""

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ConfigError(f"workers must be min:max with 1 <= min <= max, got {self.least}:{self.most}")
        if self.target_pairs < 0 or self.every_s <= 0 or not 0 < self.hungry < 1 or not 0 < self.idle < 1:
            raise ConfigError(f"elastic takes target_pairs >= 0, every_s > 0 and shares between 0 and 1, got {self}")


def decide(config: Elastic, workers: int, waiting: Waiting, unique_pairs: float | None) -> int:
    """The new number of workers, at most twice and at least half the present one, so that a single odd interval has little effect.

    Args:
        config: limits and goal.
        workers: the present number, including workers that are starting.
        waiting: waiting times since the last decision.
        unique_pairs: the recent E; None if unknown.
    """
    return min(config.most, max(config.least, _wanted(config, workers, waiting, unique_pairs)))


def _wanted(config: Elastic, workers: int, waiting: Waiting, unique_pairs: float | None) -> int:
    short = False
    if config.target_pairs and unique_pairs is not None:
        if unique_pairs > 1.1 * config.target_pairs and waiting.learner <= config.hungry:
            return max(workers // 2, math.floor(workers * config.target_pairs / unique_pairs))
        short = unique_pairs < 0.95 * config.target_pairs and waiting.workers <= config.idle
    if waiting.learner > config.hungry or short:
        share = min(0.5, max(waiting.learner, 0.1))
        return max(workers + 1, math.floor(workers / (1.0 - share)))
    if waiting.workers > config.idle:  # the remaining workers should be blocked for half of the allowed share
        return max(workers // 2, math.ceil(workers * (1.0 - waiting.workers) / (1.0 - config.idle / 2)))
    return workers
