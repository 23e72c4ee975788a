"""How much experience each training iteration takes in for the first time."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from learner.data.dataset import LeasedBatch
from learner.data.windows import Coverage


class Taken(NamedTuple):
    """What one training iteration was fed."""

    new_pairs: int
    """State-action pairs never read before: this iteration's E."""
    pairs: int
    """State-action pairs in all."""
    reads: float
    """Mean over its trajectories of how often each had been read, this time included."""
    age_s: float
    """Mean time since their publication [s]; 0 for sources that do not publish."""


class Experience:
    """Counts what a learner is fed, batch by batch. Remembers the `capacity` trajectories read last: more than any ring holds."""

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._capacity = capacity
        self._coverage = Coverage(capacity)
        self._counted: OrderedDict[int, int] = OrderedDict()
        self.new_pairs = 0
        """E summed over all iterations."""

    def take(self, batch: LeasedBatch) -> Taken:
        """Books one batch."""
        new = 0
        for view, count in zip(batch.windows, self._coverage.take(batch.windows), strict=True):
            new += count - self._counted.pop(view.trajectory_id, 0)
            self._counted[view.trajectory_id] = count
        while len(self._counted) > self._capacity:
            self._counted.popitem(last=False)
        self.new_pairs += new
        ages = getattr(batch.lease, "ages_s", None)
        return Taken(
            new_pairs=new,
            pairs=sum(view.action.shape[0] * view.action.shape[1] for view in batch.windows),
            reads=float(np.mean([view.read_index + 1 for view in batch.windows])),
            age_s=0.0 if ages is None else float(np.mean(ages)),
        )
