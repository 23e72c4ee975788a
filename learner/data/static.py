"""A fixed set of trajectories as a source: each is read at most K times, as in a ring, and recorded in the same ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, RingTimeout
from embodichain.ring.contract import AnyLease, AnyRing
from embodichain.types import RingSpec

__all__ = ["Mixture", "StaticSet"]

Load = Callable[[int], Mapping[str, NDArray]]
"""Loads trajectory `number` of a set: the arrays of the stream's schema, cut to the length of the episode."""


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """One read of a trajectory of a set."""

    arrays: Mapping[str, NDArray]
    read_index: int
    trajectory_id: int

    def __getitem__(self, name: str, /) -> NDArray:
        return self.arrays[name]


class StaticSet:
    """Trajectories in private memory, each with its count of reads; a trajectory is loaded when it is drawn for the first time."""

    def __init__(self, ids: Sequence[int], load: Load, max_reads: int) -> None:
        """`ids` are the packed ids of the trajectories, `max_reads` the bound K."""
        self._ids, self._load, self.max_reads = list(ids), load, max_reads
        self._loaded: dict[int, Mapping[str, NDArray]] = {}
        self._reads = np.zeros(len(ids), np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def reads_left(self) -> int:
        """Reads that the bound still allows, of all trajectories together."""
        return int((self.max_reads - self._reads).clip(0).sum())

    def available(self, want: int) -> int:
        """How many different trajectories a draw of `want` would give."""
        return min(want, int(np.count_nonzero(self._reads < self.max_reads)))

    def take(self, count: int, rng: np.random.Generator) -> list[_Read]:
        """Draws one read each of `count` different trajectories, uniformly over those that have reads left."""
        picks = rng.choice(np.flatnonzero(self._reads < self.max_reads), count, replace=False).tolist()
        taken = []
        for pick in picks:
            if pick not in self._loaded:
                self._loaded[pick] = self._load(pick)
            taken.append(_Read(self._loaded[pick], int(self._reads[pick]), self._ids[pick]))
        self._reads[picks] += 1  # only after all are loaded: a draw that failed costs no reads
        return taken

    def state(self) -> list[int]:
        """Reads of each trajectory so far, for a checkpoint."""
        return self._reads.tolist()

    def restore(self, reads: Sequence[int]) -> None:
        """The inverse of `state`; raises ConfigError when the set has another size now."""
        if len(reads) != len(self._ids):
            raise ConfigError(f"the static data set had {len(reads)} episodes, and has {len(self._ids)} now: keep to one")
        self._reads[:] = reads


class _Mixed:
    """A lease of trajectories of a fixed set followed by those of a ring."""

    def __init__(self, static: Sequence[_Read], ring: AnyLease | None) -> None:
        self._static, self._ring = static, ring

    def __len__(self) -> int:
        return len(self._static) + (0 if self._ring is None else len(self._ring))

    def __getitem__(self, index: int, /) -> Any:
        own = len(self._static)
        if index < own or self._ring is None:
            return self._static[index]
        return self._ring[index - own]

    @property
    def trajectory_ids(self) -> NDArray[np.uint64]:
        """Packed ids, [B]."""
        return self._joined([read.trajectory_id for read in self._static], "trajectory_ids", np.uint64)

    @property
    def read_indices(self) -> NDArray[np.int64]:
        """How often each had been read before, [B]."""
        return self._joined([read.read_index for read in self._static], "read_indices", np.int64)

    @property
    def ages_s(self) -> NDArray[np.float64]:
        """Time since publication [s], [B]; 0 for trajectories of the set."""
        return self._joined([0.0] * len(self._static), "ages_s", np.float64)

    def _joined(self, own: Sequence[float], name: str, dtype: Any) -> NDArray:
        theirs = np.zeros(0, dtype) if self._ring is None else getattr(self._ring, name)
        return np.concatenate([np.array(own, dtype), theirs])

    def release(self) -> None:
        """Returns the ring's trajectories to it."""
        if self._ring is not None:
            self._ring.release()


class Mixture:
    """Draws a share of each batch from a fixed set and the rest from a ring; with a share of 1 the ring is not used.

    A batch holds whole trajectories, so fractions of a trajectory are carried over to later batches, and the share is exact over
    time. When the set has no reads left, batches come from the ring alone, or the stream ends if the share is 1.
    """

    def __init__(self, ring: AnyRing, static: StaticSet, share: float) -> None:
        self.spec: RingSpec = ring.spec
        self._ring, self._static, self._share = ring, static, share
        self._owed = 0.0

    def acquire(self, batch_size: int, timeout_s: float, *, rng: np.random.Generator, partial: bool = False) -> _Mixed:
        """Leases `batch_size` trajectories; raises RingTimeout when the ring, or a set without a ring, has too few."""
        alone = self._share >= 1.0
        owed = self._owed + batch_size * self._share
        count = self._static.available(batch_size if alone else min(batch_size, int(owed + 1e-9)))
        if alone and (count == 0 or (count < batch_size and not partial)):
            raise RingTimeout(f"of {len(self._static)} static episodes {count} have reads left (K = {self._static.max_reads})")
        rest = None
        if not alone and count < batch_size:
            rest = self._ring.acquire(batch_size - count, timeout_s, rng=rng, partial=partial)
        try:
            taken = self._static.take(count, rng) if count else []
        except BaseException:
            if rest is not None:
                rest.release()
            raise
        self._owed = min(owed - count, 1.0)
        return _Mixed(taken, rest)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"static": {"reads": self._static.state(), "owed": self._owed}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; from a checkpoint of a run without a set, all trajectories count as unread."""
        if saved := state.get("static"):
            self._static.restore(saved["reads"])
            self._owed = float(saved["owed"])
