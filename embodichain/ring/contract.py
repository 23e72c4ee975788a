"""What every ring, slot and lease can do, wherever the trajectories lie: all that the rest of the code may ask of one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from embodichain.ring.participants import Health
from embodichain.types import RingSpec


class AnySlot(Mapping[str, NDArray]):
    """One slot to write a trajectory into. Implementations: `lease.Slot`, `device_lease.DeviceSlot`.

    As a context manager, leaving the block publishes and an exception abandons. A class and no protocol, for it is a mapping.
    """

    __slots__ = ()
    index: int
    """Which slot of the ring."""

    @abstractmethod
    def publish(self, timeout_s: float = 5.0) -> None:
        """Makes the trajectory readable; waits at most `timeout_s` [s] for what still writes it.

        Raises RingTimeout when that takes longer (it is published by a later call of the ring), RingClosed when the ring has ended.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Gives the slot back empty; once more does nothing."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class AnyLease(Protocol):
    """A batch of different trajectories, held for reading. Implementations: `lease.Lease`, `device_lease.DeviceLease`."""

    @property
    def slots(self) -> NDArray[np.int64]:
        """Slot indices."""
        ...

    @property
    def read_indices(self) -> NDArray[np.int64]:
        """How often each trajectory had been read before this draw."""
        ...

    @property
    def trajectory_ids(self) -> NDArray[np.uint64]:
        """Packed trajectory ids."""
        ...

    @property
    def published_ns(self) -> NDArray[np.int64]:
        """When each trajectory was published (CLOCK_MONOTONIC)."""
        ...

    @property
    def ages_s(self) -> NDArray[np.float64]:
        """Time from publication to this draw [s]."""
        ...

    def check(self) -> None:
        """Raises RingError when the lease is over."""
        ...

    def release(self) -> None:
        """Lets go of every slot; once more does nothing."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any:
        """One trajectory: a mapping of its fields, and who it is (`trajectory_id`, `slot`, `read_index`, `age_s`)."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class SlotSource(Protocol):
    """Where trajectories are written. Implementations: every ring, and `gateway.RemoteRing` on a node that has none."""

    def reserve(self, timeout_s: float = 5.0) -> AnySlot:
        """Takes a slot to write one trajectory into; blocks while none is free, at most `timeout_s` [s].

        Raises RingTimeout when there is none in time, RingClosed when the ring has ended.
        """
        ...


class AnyRing(SlotSource, Protocol):
    """One attachment to a ring. Implementations: `ring.Ring` in host memory, `device_ring.DeviceRing`."""

    spec: RingSpec
    path: Path

    @property
    def closed(self) -> bool:
        """Whether this attachment or the whole ring has ended."""
        ...

    def acquire(
        self, batch_size: int, timeout_s: float = 5.0, rng: np.random.Generator | None = None, *, partial: bool = False
    ) -> AnyLease:
        """Draws one read each of `batch_size` different trajectories; see `Ring.acquire`."""
        ...

    def sample(
        self, batch_size: int, timeout_s: float = 5.0, rng: np.random.Generator | None = None, *, partial: bool = False
    ) -> AnyLease:
        """`acquire` for a `with` block."""
        ...

    @property
    def readable(self) -> NDArray[np.uint8]:
        """The ring's file as leases show it, read-only: where the payload lies in host memory, that too."""
        ...

    def field(self, name: str) -> Any:
        """One field of all slots, shape [num_slots, *shape]: index it with `lease.slots` to gather a batch."""
        ...

    def stats(self) -> RingStats:
        """One look at slots, counters and participants; does not disturb anybody."""
        ...

    def set_max_reads(self, max_reads: int) -> None:
        """Changes K for what is in the ring and what will come; see `Ring.set_max_reads`."""
        ...

    def snapshot(self, path: Path | str) -> int:
        """Writes every trajectory that has reads left; returns how many."""
        ...

    def reap(self) -> int:
        """Clears away every participant that is provably dead; returns how many."""
        ...

    def close(self) -> None:
        """Leaves the ring; by the owner: ends it for all."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """What one participant holds: shown, for a process that hangs, or is stopped, keeps slots out of use."""

    pid: int
    """Its process id, as the /proc counts that is mounted where it runs."""
    health: Health
    reading: int
    """Slots held by leases."""
    writing: int
    """Slots being written."""
    since_s: float
    """Time since its last claim, publish or draw [s]."""

    def __str__(self) -> str:
        deeds = [f"{count} for {deed}" for deed, count in (("reading", self.reading), ("writing", self.writing)) if count]
        stopped = ", stopped" if self.health is Health.STOPPED else ""
        return f"process {self.pid} holds {' and '.join(deeds)} since {self.since_s:.1f} s{stopped}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RingStats:
    """One look at a ring. Slots are counted now; the counters run since creation and survive the death of those who counted.

    A counter may be short by one for every process killed between its deed and its count. `over_reads` must be 0.
    """

    num_slots: int
    free: int
    writing: int
    ready: int
    held: int
    """READY slots with at least one holder."""
    holders: tuple[Holder, ...]
    """Everybody who holds slots, who has been silent for longest first."""
    quarantined: int
    """Slots whose holder lives but is stopped: out of use until it wakes up or dies, never taken away."""
    max_reads: int
    reads_left: int
    """Draws that the READY slots still allow; in aggregate mode, draws until the next refill."""
    refill_left: int
    """Aggregate mode: trajectories that the refill under way has still to replace."""
    published: int
    acquired: int
    released: int
    abandoned: int
    evicted: int
    retired: int
    """Slots freed because all reads were used up."""
    reaped: int
    """Dead participants cleared away."""
    reaped_slots: int
    refused: int
    """Stale publishes and releases turned away."""
    over_reads: int
    blocked_writer_s: float
    blocked_reader_s: float
    participants: int
    waiting_writers: int
    waiting_readers: int
    oldest_s: float
    """Age of the oldest READY trajectory [s]."""
    longest_write_s: float
    """How long the slowest slot has been WRITING [s]: a worker that hangs shows here, a stopped one in `quarantined` too."""
    closed: bool
