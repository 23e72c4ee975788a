"""What every store carries: trajectories of random 64-bit words that tell their number, and whose sum is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

READS = 10
"""Reads a trajectory: the tightest bound of the paper's sweep."""
BATCH = 2


class Content:
    """Trajectory n is `base + n` modulo 2^64: incompressible, so that nobody wins by compression."""

    def __init__(self, words: int) -> None:
        self.words = words
        self.base = np.random.default_rng(7).integers(0, 1 << 64, words, np.uint64)
        self._sum = int(self.base.sum())

    def write(self, number: int, out: NDArray[np.uint64]) -> None:
        """Makes trajectory `number` in place."""
        np.add(self.base, np.uint64(number), out=out)

    def is_summed_right(self, found: NDArray[np.uint64]) -> bool:
        """Reads every word once: the timed part of a read."""
        number = int(found[0]) - int(self.base[0])
        return int(found.sum()) == (self._sum + number * self.words) % (1 << 64)

    def is_whole(self, found: NDArray[np.uint64]) -> bool:
        """Compares word by word: done before anything is timed."""
        return found.shape == (self.words,) and np.array_equal(found - found[0], self.base - self.base[0])
