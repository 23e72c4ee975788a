"""Slots and leases of a ring on a device: a slot is published, and a lease ends, only when the device has completed its work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError, RingTimeout
from embodichain.ring.contract import AnySlot
from embodichain.ring.device_pending import Buffers
from embodichain.ring.device_turns import Result
from embodichain.ring.lease import Lease, Sample, Slot
from embodichain.ring.placement import Device, in_host
from embodichain.ring.unique import Unique
from embodichain.types import Field, RingSpec


class Leased(Protocol):
    """The part of `device_ring.DeviceRing` that its slots and leases use."""

    spec: RingSpec
    device: Device

    def operate(self, operation: Callable[[], Result]) -> Result:
        """Runs an operation alone; a close by a signal handler in the middle of it comes at its end."""
        ...

    def check(self) -> None:
        """Raises RingClosed or RingError when this attachment can no longer be used."""
        ...

    def poll(self) -> int:
        """Finishes publishes and releases whose work the device has completed; returns how many are still pending."""
        ...

    def view(self, slot: int, name: str) -> Any:
        """A field of a slot on the device, as an array with DLPack."""
        ...

    def stage(self, work: Work) -> None:
        """Gives the slot a staging buffer; waits until one is available."""
        ...

    def recycle(self, buffers: Buffers) -> None:
        """Takes back staging buffers that no copy reads."""
        ...

    def offset(self, name: str) -> int:
        """Where a field begins in a slot and in a staging buffer [bytes]."""
        ...

    def copy(self, slot: int, name: str, source: NDArray[np.uint8]) -> None:
        """Enqueues the copy of a staged field to the device."""
        ...

    def defer(
        self, of: object, streams: Iterable[int | None], finish: Callable[[], None], buffers: Buffers | None = None
    ) -> object:
        """Calls `finish` and recycles `buffers` once all present work on `streams` is complete; returns a ticket for `settled`.

        While an operation on `of` is pending, further calls for it change nothing and return its ticket.
        """
        ...

    def settled(self, ticket: object, timeout_s: float) -> bool:
        """Waits at most `timeout_s` [s] for a deferred call; returns whether it was made."""
        ...


class Work:
    """The state of writing one slot. Separate from the `DeviceSlot`, so that it survives a slot object that the caller drops.

    `claimed` tells whether the slot still is as it was reserved. `control` is given up only when the slot is free, or when an
    operation that is pending keeps it: otherwise an exception (Ctrl-C) would free the slot under work of the device.
    """

    __slots__ = ("begun", "buffers", "claimed", "control", "device_fields", "index", "named", "publishing", "staged")

    def __init__(self, control: Slot, claimed: Callable[[], bool]) -> None:
        self.control: Slot | None = control
        self.claimed = claimed
        self.index = control.index
        self.buffers: Buffers = []
        self.staged: dict[str, NDArray] = {}
        self.device_fields: set[str] = set()
        self.named: list[int] = []
        """Streams of kernels that the caller named."""
        self.begun = self.publishing = False
        """Whether copies may have been enqueued, and whether a call of `publish` is running."""

    def streams(self, device: Device) -> list[int | None]:
        """The streams that may have work on this slot; None is the stream of copies."""
        copies: list[int | None] = [None] if self.staged else []
        return [*copies, *self.named, *(device.streams() if self.device_fields else ())]

    def publish(self, ring: Leased) -> object:
        """Enqueues the copies and the publish behind them; returns its ticket. If that fails, the slot is abandoned behind them."""
        assert self.control is not None
        control, streams = self.control, self.streams(ring.device)  # first, because it may raise: then nothing has changed
        finish = partial(_publish, control, self.claimed)
        self.begun = self.publishing = True
        try:
            for name, source in self.staged.items():
                ring.copy(self.index, name, source.reshape(-1).view(np.uint8))
            ticket = ring.defer(control, streams, finish, self.buffers)
            self.control = None
            return ticket
        except BaseException:
            self.publishing = False
            self.end(ring)
            raise

    def end(self, ring: Leased) -> None:
        """Returns the slot empty once copies and kernels that write it are complete; safe to call twice."""
        control = self.control
        if control is None or self.publishing:
            return
        if self.begun or self.device_fields:
            ring.defer(control, self.streams(ring.device), control.abandon, self.buffers)
        else:
            self.staged.clear()
            ring.recycle(self.buffers)
            control.abandon()
        self.control = None


def _publish(control: Slot, claimed: Callable[[], bool]) -> None:
    """Publishes a slot; may be repeated after an interruption, which may have come before or after the change of the slot."""
    if claimed():
        control.complete()


class DeviceHold:
    """The state of holding one lease. Separate from the `DeviceLease`, so that it survives a lease object that the caller drops."""

    __slots__ = ("control", "named")

    def __init__(self, control: Lease) -> None:
        self.control: Lease | None = control
        self.named: list[int] = []
        """Streams of kernels that the caller named."""

    def end(self, ring: Leased) -> None:
        """Releases every slot once the kernels launched so far are complete; safe to call twice."""
        control = self.control
        if control is not None:
            ring.defer(control, [*self.named, *ring.device.streams()], control.release)
            self.control = None  # only now: until then nothing else would keep the slots


def named_streams(*registers: Mapping[int, Work | DeviceHold]) -> list[int]:
    """The streams that callers named for open slots and leases."""
    return [stream for register in registers for each in list(register.values()) for stream in each.named]


class DeviceSlot(Unique, AnySlot):
    """One slot for writing a trajectory, from the host or by kernels on the device.

    `slot[name]` is a NumPy array in staging memory, which is copied to the device on publishing; scalars, texts and labels stay in
    host memory. `slot.device(name)` is the slot's memory on the device, for kernels. Each field must be written in one of the two
    ways. As a context manager, it publishes and waits for the copy at the end of the block, and abandons on an exception. Fields at
    first hold old data (poison in debug mode), so a slot is refused if a field was never accessed. Views must not be kept.
    """

    __slots__ = ("__weakref__", "_ring", "_work", "index")

    def __init__(self, ring: Leased, work: Work) -> None:
        self._ring = ring
        self._work = work
        self.index = work.index

    def __getitem__(self, name: str) -> NDArray:
        control = self._open()
        entry = self._ring.spec.trajectory.field(name)
        if in_host(entry):
            return control[name]
        if name in self._work.device_fields:
            raise RingError(
                f"field {name!r} of slot {self.index} is written on the device: a copy from the host would race with that"
            )
        if name in self._work.staged:
            return self._work.staged[name]
        if not self._work.buffers:
            self._ring.stage(self._work)
        return self._ring.operate(lambda: self._stage_field(entry))

    def _stage_field(self, entry: Field) -> NDArray:
        self._open()  # again, because a signal handler may have closed the ring meanwhile
        start = self._ring.offset(entry.name)
        view = self._work.buffers[0][start : start + entry.size_bytes].view(entry.dtype).reshape(entry.shape)
        self._work.staged[entry.name] = view
        return view

    def device(self, name: str) -> Any:
        """A field's memory on the device, with DLPack; `publish` must be given the stream of the kernels that write it."""
        self._open()
        if name in self._work.staged:
            raise RingError(f"field {name!r} of slot {self.index} is staged on the host: a kernel would race with its copy")
        if in_host(self._ring.spec.trajectory.field(name)):
            raise RingError(f"field {name!r} lies in host memory: write slot[{name!r}]")
        view = self._ring.view(self.index, name)  # first, because it may be refused
        self._work.device_fields.add(name)
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(f.name for f in self._ring.spec.trajectory.fields)

    def __len__(self) -> int:
        return len(self._ring.spec.trajectory.fields)

    def publish(self, timeout_s: float = 5.0, *, streams: Sequence[int] = ()) -> None:
        """Enqueues the copies, and makes the trajectory readable once these and the work on `streams` are complete.

        Waits at most `timeout_s` for that; with 0, later calls of the ring complete it. If `device` was used, this thread's default
        streams are always waited for.

        Raises:
            RingError: A field was never accessed, no trajectory id is set, or a stream is captured into a graph; the slot stays
            open. RingTimeout: The device takes longer. Nothing is lost: a later call of the ring publishes the slot.
            RingClosed: The owner closed the ring or died.
        """
        ring = self._ring
        ticket = ring.operate(lambda: self._begin_to_publish(streams))
        ring.poll()
        if timeout_s > 0 and not ring.settled(ticket, timeout_s):
            # No rollback: the copies run on, so the slot can only go forward.
            raise RingTimeout(
                f"slot {self.index} is not on the device after {timeout_s:g} s: a later call of the ring publishes it"
            )

    def _begin_to_publish(self, streams: Sequence[int]) -> object:
        control, spec = self._open(), self._ring.spec
        self._ring.check()
        written = self._work.staged.keys() | self._work.device_fields
        control.check({f.name for f in spec.trajectory.fields if not in_host(f)} - written)
        self._work.named += streams
        return self._work.publish(self._ring)

    def abandon(self, *, streams: Sequence[int] = ()) -> None:
        """Returns the slot empty once kernels that write it are complete. Never blocks; safe to call twice."""
        self._work.named += streams
        self._ring.operate(lambda: self._work.end(self._ring))

    def _open(self) -> Slot:
        if self._work.control is None or self._work.begun:
            raise RingError(f"slot {self.index} was published or abandoned: its fields are no longer ours to write")
        return self._work.control

    def __enter__(self) -> DeviceSlot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.abandon()
        elif self._work.control is not None:
            try:
                self.publish()
            finally:
                self.abandon()  # does nothing if publishing has begun


class DeviceSample(Unique, Mapping[str, Any]):
    """One trajectory of a lease: its fields on the device (scalars, texts and labels in host memory), and its identity."""

    __slots__ = ("_control", "_lease", "_ring", "age_s", "read_index", "slot", "trajectory_id")

    def __init__(self, ring: Leased, lease: DeviceLease, control: Sample) -> None:
        self._ring = ring
        self._lease = lease
        self._control = control
        self.slot = control.slot
        self.trajectory_id = control.trajectory_id
        self.read_index = control.read_index
        self.age_s = control.age_s

    def __getitem__(self, name: str) -> Any:
        self._lease.check()
        if in_host(self._ring.spec.trajectory.field(name)):
            return self._control[name]
        return self._ring.view(self.slot, name)

    def __iter__(self) -> Iterator[str]:
        return iter(f.name for f in self._ring.spec.trajectory.fields)

    def __len__(self) -> int:
        return len(self._ring.spec.trajectory.fields)


class DeviceLease(Unique, Sequence[DeviceSample]):
    """A batch of different trajectories on the device, held until all kernels launched before `release` are complete.

    This thread's current streams are waited for; other streams must be named with `used_on`. Views share the ring's storage
    (`torch.from_dlpack(sample["rgb"])`). CUDA has no read-only memory, so nothing stops writes to them: never write, and do not
    keep views beyond the lease.
    """

    __slots__ = ("__weakref__", "_control", "_held", "_ring")

    def __init__(self, ring: Leased, control: Lease, held: DeviceHold) -> None:
        self._ring = ring
        self._control = control
        self._held = held

    @property
    def slots(self) -> NDArray[np.int64]:
        """Slot of each trajectory, [B]; with `DeviceRing.field` they address a whole batch in one gather."""
        return self._control.slots

    @property
    def read_indices(self) -> NDArray[np.int64]:
        """How often each trajectory had been read before this draw, [B]."""
        return self._control.read_indices

    @property
    def trajectory_ids(self) -> NDArray[np.uint64]:
        """Packed id of each trajectory, [B]."""
        return self._control.trajectory_ids

    @property
    def published_ns(self) -> NDArray[np.int64]:
        """When each trajectory was published [ns], [B]."""
        return self._control.published_ns

    @property
    def ages_s(self) -> NDArray[np.float64]:
        """Time from publication to this draw [s], [B]."""
        return self._control.ages_s

    def check(self) -> None:
        """Raises RingError when the lease has been released."""
        if self._held.control is None:
            raise RingError("this lease was released: its slots may be rewritten at any time; copy what must outlive it")

    def used_on(self, stream: int) -> None:
        """Registers a stream (`cudaStream_t`) on which kernels read this lease's slots."""
        self.check()
        self._held.named.append(stream)

    def release(self) -> None:
        """Releases every slot once the kernels launched so far are complete. Never blocks; safe to call twice.

        Raises RingError while a stream of this thread is captured into a graph; the lease is then still held.
        """
        if self._held.control is not None:
            self._ring.operate(lambda: self._held.end(self._ring))
            self._ring.poll()

    def __len__(self) -> int:
        return len(self._control)

    @overload
    def __getitem__(self, index: int) -> DeviceSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[DeviceSample]: ...
    def __getitem__(self, index: int | slice) -> DeviceSample | list[DeviceSample]:
        self.check()
        if isinstance(index, slice):
            return [DeviceSample(self._ring, self, sample) for sample in self._control[index]]
        return DeviceSample(self._ring, self, self._control[index])

    def __enter__(self) -> DeviceLease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
