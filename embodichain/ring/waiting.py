"""Who waits for whom at a ring: one definition for the report, the page, the plan and the engine that grows and shrinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Side", "Waiting"]

_NOTICED = 0.1
"""Shares of time below this one are nobody's trouble."""


class Side(StrEnum):
    """Of a ring."""

    WORKERS = "workers"
    LEARNER = "learner"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Which share of its time a process of each side was blocked by the other, on average: 0 to 1.

    Workers are blocked while they want a slot and every slot is taken; the learner while it wants a batch and too little is ready.
    What a worker takes to simulate, or a learner to learn, is not waiting.
    """

    workers: float
    learner: float

    @classmethod
    def over(
        cls, seconds: float, *, blocked_writer_s: float, blocked_reader_s: float, writers: int = 1, readers: int = 1
    ) -> Waiting:
        """From how long all writers and all readers together were blocked within `seconds` [s]."""
        span = max(seconds, 1e-9)
        return cls(
            workers=min(1.0, max(0.0, blocked_writer_s) / (span * max(1, writers))),
            learner=min(1.0, max(0.0, blocked_reader_s) / (span * max(1, readers))),
        )

    @classmethod
    def between(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> Waiting:
        """From two records of the stream in a run's metrics; a ring that began anew in between counts from 0."""

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
        """Which side waits more, if any does."""
        if max(self.workers, self.learner) < _NOTICED:
            return Side.NOBODY
        return Side.WORKERS if self.workers >= self.learner else Side.LEARNER

    @property
    def advice(self) -> str:
        """In words, who waits and what helps."""
        match self.side:
            case Side.WORKERS:
                return f"workers blocked {self.workers:.0%}: lower K or add learners"
            case Side.LEARNER:
                return f"learner waits {self.learner:.0%}: add workers or raise K"
            case Side.NOBODY:
                return "nobody waits: workers and learner keep up with each other"
