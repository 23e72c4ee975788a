"""Slots, for writing one trajectory, and leases, for reading a batch of trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from types import TracebackType
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring.contract import AnySlot
from embodichain.ring.lent import HeldReads
from embodichain.ring.unique import Unique

UNNAMED = (1 << 64) - 1
"""The id of a slot until an id is set: all bits set, like poison."""


class Keeper(Protocol):
    """The owner of a slot. Implementations: `member.Member`, a participant of the ring; `remote.RemoteRing`, on another node."""

    def publish(self, slot: int, version: int, trajectory_id: int | None) -> None:
        """Makes a claimed slot readable."""
        ...

    def abandon(self, slot: int, version: int) -> None:
        """Returns a claimed slot empty."""
        ...

    def check(self) -> None:
        """Raises RingError or RingClosed when the attachment cannot be used any more."""
        ...


class Leased(Protocol):
    """The part of `ring.Ring` that its leases use."""

    def views(self, slot: int) -> Mapping[str, NDArray]:
        """Read-only views of every field of a slot."""
        ...

    def release(self, draws: HeldReads) -> None:
        """Ends the lease with these draws."""
        ...


class Slot(Unique, AnySlot):
    """Writable views of every field of one slot, in the ring's own memory, for one writer.

    As a context manager, it publishes at the end of the block, and abandons on an exception; otherwise call `publish` or `abandon`.
    Fields at first hold data of an earlier trajectory (poison in debug mode). Therefore a slot is refused if a field was never
    accessed, or if `slot["trajectory_id"][()]` is not set. Views must not be kept afterwards.
    """

    __slots__ = ("_claim", "_id", "_member", "_taken", "_version", "_views", "index")

    def __init__(
        self,
        member: Keeper,
        index: int,
        version: int,
        views: Mapping[str, NDArray],
        trajectory_id: NDArray | None,
        claim: object = None,
    ) -> None:
        self._member: Keeper | None = member
        self._version = version
        self._views = views
        self._id = trajectory_id
        self._claim = claim  # keeps the claim alive: the ring takes a slot back when nobody refers to its claim
        self._taken: set[str] = set()
        self.index = index
        if trajectory_id is not None:
            trajectory_id[()] = UNNAMED

    def __getitem__(self, name: str) -> NDArray:
        if self._member is None:
            raise RingError(f"slot {self.index} was published or abandoned: its fields are no longer ours to write")
        view = self._views[name]
        self._taken.add(name)
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def check(self, elsewhere: Set[str] = frozenset()) -> None:
        """Raises RingError when a field was never accessed, here or in `elsewhere` (names of fields on a device), or no id is set.

        Such a field still holds data of an earlier trajectory.
        """
        missing = sorted((self._views.keys() - self._taken) | elsewhere)
        unnamed = self._id is not None and self._id.item() == UNNAMED
        if self._member is not None and (missing or unnamed):
            self._member.check()
        if missing:
            raise RingError(
                f"slot {self.index} was to be published with fields that were never written, {missing}: they hold what an earlier "
                "trajectory left; write every field of the schema, or abandon the slot"
            )
        if unnamed:
            raise RingError(f"slot {self.index} was to be published without an id: set slot['trajectory_id'][()]")

    def publish(self, timeout_s: float = 5.0) -> None:
        """Makes the trajectory readable. Never blocks, whatever `timeout_s`.

        Raises:
            RingError: A field was never accessed, or no trajectory id is set; the slot stays open.
            RingClosed: The owner has closed the ring.
        """
        number = None if self._id is None else self._id.item()
        if self._member is not None and (number == UNNAMED or len(self._taken) < len(self._views)):
            self.check()
        member, self._member = self._member, None
        if member is None:
            raise RingError(f"slot {self.index} was already published or abandoned")
        member.publish(self.index, self._version, number)

    def complete(self) -> None:
        """As `publish` of a checked slot, for a ring on a device; if an exception (Ctrl-C) interrupts it, it may be repeated.

        The caller makes sure that the slot is not published yet.
        """
        if self._member is not None:
            self._member.publish(self.index, self._version, None if self._id is None else self._id.item())
            self._member = None

    def abandon(self) -> None:
        """Returns the slot empty, as for a failed attempt; safe to call twice."""
        member, self._member = self._member, None
        if member is not None:
            member.abandon(self.index, self._version)

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.abandon()
        elif self._member is not None:
            try:
                self.publish()
            finally:
                self.abandon()  # does nothing if it is published already


class Sample(Unique, Mapping[str, NDArray]):
    """One trajectory of a lease: read-only views of its fields, and its identity.

    `read_index` counts its reads from 0; `age_s` is the time [s] from its publication to this draw.
    """

    __slots__ = ("_lease", "_views", "age_s", "read_index", "slot", "trajectory_id")

    def __init__(self, lease: Lease, column: int, views: Mapping[str, NDArray]) -> None:
        self._lease = lease
        self._views = views
        self.slot = int(lease.slots[column])
        self.trajectory_id = int(lease.trajectory_ids[column])
        self.read_index = int(lease.read_indices[column])
        self.age_s = float(lease.ages_s[column])

    def __getitem__(self, name: str) -> NDArray:
        self._lease.check()
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


class Lease(Unique, Sequence[Sample]):
    """A batch of different trajectories. They are not rewritten until `release`, or the end of the `with` block.

    The arrays `slots`, `trajectory_ids` (uint64), `read_indices` and `published_ns` (CLOCK_MONOTONIC) have one entry for each
    sample; they may outlive the lease, but do not keep it. Views of fields must not outlive it; copy what must. If views are inputs
    of a model, hold the lease until after backward, because autograd keeps them. A lease must not be shared between threads.
    Several leases may be held at once, even on the same slots.
    """

    __slots__ = ("_acquired_ns", "_draws", "_released", "_ring", "_table")

    def __init__(self, ring: Leased, draws: HeldReads, acquired_ns: int) -> None:
        self._ring = ring
        self._draws = draws
        table = draws.table
        self._table = table if len(table[0]) == draws.count else table[:, : draws.count]
        self._acquired_ns = acquired_ns
        self._released = False

    @property
    def slots(self) -> NDArray[np.int64]:
        """Slot of each trajectory, [B]; with `Ring.field` they address a whole batch in one gather."""
        return self._table[0]

    @property
    def read_indices(self) -> NDArray[np.int64]:
        """How often each trajectory had been read before this draw, [B]."""
        return self._table[2]

    @property
    def trajectory_ids(self) -> NDArray[np.uint64]:
        """Packed id of each trajectory, [B]."""
        return self._table[3].view(np.uint64)

    @property
    def published_ns(self) -> NDArray[np.int64]:
        """When each trajectory was published [ns], [B]."""
        return self._table[4]

    @property
    def ages_s(self) -> NDArray[np.float64]:
        """Time from publication to this draw [s], [B]."""
        return np.maximum(self._acquired_ns - self._table[4], 0) / 1e9

    def check(self) -> None:
        """Raises RingError when the lease has been released."""
        if self._released:
            raise RingError("this lease was released: its slots may be rewritten at any time; copy what must outlive it")

    def release(self) -> None:
        """Releases every slot. Never blocks; safe to call twice."""
        if not self._released:
            self._released = True
            self._ring.release(self._draws)

    def __len__(self) -> int:
        return self._table.shape[1]

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        self.check()
        if isinstance(index, slice):
            return [self[column] for column in range(*index.indices(len(self)))]
        column = index + len(self) if index < 0 else index
        if not 0 <= column < len(self):
            raise IndexError(f"sample {index} of a batch of {len(self)}")
        return Sample(self, column, self._ring.views(int(self._table[0, column])))

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
