"""Which side of a ring waits for the other: one definition for report, web page, plan and elastic engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Side", "Waiting"]

_NOTICED = 0.1
"""Waiting for less than this share of the time is ignored."""


class Side(StrEnum):
    """The side of a ring that waits more."""

    WORKERS = "workers"
    LEARNER = "learner"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The average share of its time, 0 to 1, that a process of each side was blocked by the other side.

    Workers are blocked while they wait for a free slot, the learner while it waits for a batch. Time spent on simulation or
    training is not waiting.
    """

    workers: float
    learner: float

    @classmethod
    def over(
        cls, seconds: float, *, blocked_writer_s: float, blocked_reader_s: float, writers: int = 1, readers: int = 1
    ) -> Waiting:
        """From the total time [s] that all writers, and all readers, were blocked within `seconds`."""
        span = max(seconds, 1e-9)
        return cls(
            workers=min(1.0, max(0.0, blocked_writer_s) / (span * max(1, writers))),
            learner=min(1.0, max(0.0, blocked_reader_s) / (span * max(1, readers))),
        )

    @classmethod
    def between(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> Waiting:
        """From two stream records in a run's metrics. If the ring was recreated in between, its counters start from 0."""

        def grown(name: str) -> float:
            difference = after[name] - before[name]
            return difference if difference >= 0 else after[name]

        return cls.over(
            after["time"] - before["time"],
            blocked_writer_s=grown("blocked_writer_s"),
            blocked_reader_s=grown("blocked_reader_s"),
            writers=int(after.get("workers", 1)),
        )

    @property
    def side(self) -> Side:
        """The side that waits more, if any does."""
        if max(self.workers, self.learner) < _NOTICED:
            return Side.NOBODY
        return Side.WORKERS if self.workers >= self.learner else Side.LEARNER

    @property
    def advice(self) -> str:
        """A sentence on which side waits, and the remedy."""
        match self.side:
            case Side.WORKERS:
                return f"workers blocked {self.workers:.0%}: lower K or add learners"
            case Side.LEARNER:
                return f"learner waits {self.learner:.0%}: add workers or raise K"
            case Side.NOBODY:
                return "nobody waits: workers and learner keep up with each other"
