"""Measures E: how many state-action pairs each training iteration reads for the first time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from learner.data.windows import Coverage, Read


class Taken(NamedTuple):
    """The data of one training iteration."""

    new_pairs: int
    """State-action pairs never read before: this iteration's E."""
    pairs: int
    """State-action pairs in all."""
    reads: float
    """How often its trajectories had been read, this time included; mean over the trajectories."""
    age_s: float
    """Mean time since their publication [s]; 0 for sources that do not publish."""


class Experience:
    """Counts the data of each batch. Remembers the last `capacity` trajectories, which is more than any ring holds."""

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._capacity = capacity
        self._coverage = Coverage(capacity)
        self._counted: OrderedDict[int, int] = OrderedDict()
        self.new_pairs = 0
        """E summed over all iterations."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: without it a resumed run would count the same pairs as new once more."""
        counted = {"ids": [*self._counted], "pairs": [*self._counted.values()]}
        return {"new_pairs": self.new_pairs, "coverage": self._coverage.state(), "counted": counted}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.new_pairs = int(state["new_pairs"])
        self._coverage.restore(state["coverage"])
        counted = state["counted"]
        self._counted = OrderedDict(zip(map(int, counted["ids"]), map(int, counted["pairs"]), strict=True))

    def take(self, reads: Sequence[Read]) -> Taken:
        """Counts the data of one iteration."""
        new = 0
        for read, count in zip(reads, self._coverage.take(reads), strict=True):
            new += count - self._counted.pop(read.trajectory_id, 0)
            self._counted[read.trajectory_id] = count
        while len(self._counted) > self._capacity:
            self._counted.popitem(last=False)
        self.new_pairs += new
        return Taken(
            new_pairs=new,
            pairs=sum(read.length * read.horizon for read in reads),
            reads=float(np.mean([read.reads for read in reads])),
            age_s=float(np.mean([read.age_s for read in reads])),
        )
