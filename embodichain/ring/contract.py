"""The interfaces of rings, slots and leases, common to payloads in host memory and on devices."""

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

    As a context manager, it publishes at the end of the block, and abandons on an exception. It is a base class and not a protocol,
    to inherit from Mapping.
    """

    __slots__ = ()
    index: int
    """Number of the slot in the ring."""

    @abstractmethod
    def publish(self, timeout_s: float = 5.0) -> None:
        """Makes the trajectory readable; waits at most `timeout_s` [s] for copies and kernels that still write it.

        Raises RingTimeout when that takes longer (a later call of the ring then publishes it), RingClosed when the ring has ended.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Returns the slot empty; safe to call twice."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class AnyLease(Protocol):
    """A batch of different trajectories, held for reading. Implementations: `lease.Lease`, `device_lease.DeviceLease`."""

    @property
    def slots(self) -> NDArray[np.int64]:
        """Slot of each trajectory, [B]."""
        ...

    @property
    def read_indices(self) -> NDArray[np.int64]:
        """How often each trajectory had been read before this draw, [B]."""
        ...

    @property
    def trajectory_ids(self) -> NDArray[np.uint64]:
        """Packed id of each trajectory, [B]."""
        ...

    @property
    def published_ns(self) -> NDArray[np.int64]:
        """When each trajectory was published (CLOCK_MONOTONIC) [ns], [B]."""
        ...

    @property
    def ages_s(self) -> NDArray[np.float64]:
        """Time from publication to this draw [s], [B]."""
        ...

    def check(self) -> None:
        """Raises RingError when the lease has been released."""
        ...

    def release(self) -> None:
        """Releases every slot; safe to call twice."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any:
        """One trajectory: a mapping of its fields, with attributes `trajectory_id`, `slot`, `read_index` and `age_s`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class SlotSource(Protocol):
    """The interface for writers. Implementations: every ring, and `remote.RemoteRing` on a node without a ring."""

    def reserve(self, timeout_s: float = 5.0) -> AnySlot:
        """Takes a slot for writing one trajectory; blocks while none is free, at most `timeout_s` [s].

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
        """`acquire`, for use in a `with` block."""
        ...

    @property
    def readable(self) -> NDArray[np.uint8]:
        """The ring's file as mapped for reading, including the payload if that is in host memory."""
        ...

    def field(self, name: str) -> Any:
        """One field of all slots, shape [num_slots, *shape]: index it with `lease.slots` to gather a batch."""
        ...

    def stats(self) -> RingStats:
        """Statistics of slots, counters and participants. Reads memory only, so that it disturbs no participant."""
        ...

    def set_max_reads(self, max_reads: int) -> None:
        """Changes K for present and future trajectories; see `Ring.set_max_reads`."""
        ...

    def snapshot(self, path: Path | str) -> int:
        """Writes every trajectory that has reads left to a file; returns how many."""
        ...

    def reap(self) -> int:
        """Reclaims the slots of every participant that is provably dead; returns the number of such participants."""
        ...

    def close(self) -> None:
        """Leaves the ring; if called by the owner, ends it for all."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The slots that one participant holds. Shown in statistics, because a process that hangs keeps its slots out of use."""

    pid: int
    """Its process id in the pid namespace of the /proc that it sees."""
    health: Health
    reading: int
    """Number of slots held by its leases."""
    writing: int
    """Number of slots that it is writing."""
    since_s: float
    """Time since its last claim, publish or draw [s]."""

    def __str__(self) -> str:
        deeds = [f"{count} for {deed}" for deed, count in (("reading", self.reading), ("writing", self.writing)) if count]
        stopped = ", stopped" if self.health is Health.STOPPED else ""
        return f"process {self.pid} holds {' and '.join(deeds)} since {self.since_s:.1f} s{stopped}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RingStats:
    """Statistics of a ring. Slot numbers are of now; counters count since creation and include participants that have died.

    A counter may be short by one for every process that was killed between an operation and its count. `over_reads` must be 0.
    """

    num_slots: int
    free: int
    writing: int
    ready: int
    held: int
    """READY slots with at least one holder."""
    holders: tuple[Holder, ...]
    """All participants that hold slots, the longest inactive first."""
    quarantined: int
    """Slots held by processes that are alive but stopped. They stay out of use until the process continues or dies."""
    max_reads: int
    reads_left: int
    """Reads left in all READY slots together; in aggregate mode, reads until the next refill."""
    refill_left: int
    """Aggregate mode: trajectories that the current refill still has to replace."""
    published: int
    acquired: int
    released: int
    abandoned: int
    evicted: int
    retired: int
    """Slots freed because all reads were used up."""
    reaped: int
    """Dead participants whose slots were reclaimed."""
    reaped_slots: int
    refused: int
    """Publishes and releases that were refused because the slot no longer belonged to the caller."""
    over_reads: int
    blocked_writer_s: float
    blocked_reader_s: float
    participants: int
    waiting_writers: int
    waiting_readers: int
    oldest_s: float
    """Age of the oldest READY trajectory [s]."""
    longest_write_s: float
    """Longest time that any slot has been WRITING [s]. A large value means a hanging worker."""
    closed: bool
