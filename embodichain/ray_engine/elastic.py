"""How many workers there should be: more while the learner waits for them, fewer while they wait for room. Values, without Ray."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodichain.errors import ConfigError
from embodichain.ring.waiting import Waiting

__all__ = ["Elastic", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elastic:
    """Between how many workers a run may breathe, and what for."""

    least: int
    most: int
    target_pairs: float = 0.0
    """E that is wanted: state-action pairs that an iteration reads for the first time; 0 asks for no number, only for balance."""
    every_s: float = 20.0
    """Between two decisions [s]: a new worker takes some of it to start."""
    idle: float = 0.3
    """Workers that are blocked for a larger share of their time are too many."""
    hungry: float = 0.1
    """A learner that waits for a larger share of its time wants more."""

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ConfigError(f"workers must be min:max with 1 <= min <= max, got {self.least}:{self.most}")
        if self.target_pairs < 0 or self.every_s <= 0 or not 0 < self.hungry < 1 or not 0 < self.idle < 1:
            raise ConfigError(f"elastic takes target_pairs >= 0, every_s > 0 and shares between 0 and 1, got {self}")


def decide(config: Elastic, workers: int, waiting: Waiting, unique_pairs: float | None) -> int:
    """How many workers to have from now on: at most twice and at least half as many, so that one odd stretch does little.

    Args:
        config: between how many, and what for.
        workers: that there are now, those that are starting included.
        waiting: who waited since the last decision.
        unique_pairs: E of late; None when it is not known.
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
    if waiting.workers > config.idle:  # those that stay are then blocked for half of what is allowed
        return max(workers // 2, math.ceil(workers * (1.0 - waiting.workers) / (1.0 - config.idle / 2)))
    return workers
