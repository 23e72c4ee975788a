"""A ring whose payload lies on a device: the same words and the same promises, kept while copies and kernels complete late.

Two gates are added to the protocol. A slot is published only after the device has completed the copies and kernels that wrote it;
a lease is released only after the device has completed the kernels that read it. Until then the slot stays WRITING, or its
reader's bit stays set, in the words that everybody sees; so nothing else in the ring has to know about devices.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import layout, placement, snapshot
from embodichain.ring.contract import RingStats
from embodichain.ring.device_lease import DeviceLease, DeviceSlot, Work
from embodichain.ring.device_pending import BUSY_SLICE_S, NEVER, Pending, settle
from embodichain.ring.layout import RingLayout
from embodichain.ring.lease import Lease
from embodichain.ring.lent import Lent
from embodichain.ring.placement import ARENA_HEADER_BYTES, ArenaNote, Device
from embodichain.ring.ring import ControlRing
from embodichain.types import Field, RingSpec, TrajectorySpec

IDLE_SLICE_S = 0.05
Result = TypeVar("Result")


class DeviceRing:
    """One attachment to a ring on a device. Make one with `DeviceRing.create` (the owner, the learner) or `DeviceRing.attach`.

    All methods may be called from any thread of the attaching process. Deferred publishes and releases are carried out by later
    calls of the same attachment: whoever defers calls `poll` now and then, or `flush`.
    """

    def __init__(self, control: ControlRing, spec: RingSpec, device: Device, arena: int, *, owner: bool, buffers: int) -> None:
        self.spec = spec
        self.path = control.path
        self.device = device
        self._control = control
        self._owner = owner
        self._arena = arena
        self._pid = os.getpid()
        self.lock = threading.RLock()
        _, on_device = placement.split(spec.trajectory)
        self._layout = RingLayout.of(replace(spec, trajectory=on_device))
        self._offsets = dict(zip((f.name for f in on_device.fields), self._layout.field_offsets, strict=True))
        self._rng = np.random.default_rng()
        self._buffers = buffers
        self._free_buffers: list[NDArray[np.uint8]] = []
        self._made_buffers = 0
        self._pending: list[Pending] = []
        self._leases: Lent[Lease] = Lent()
        self._work: Lent[Work] = Lent()
        self._loose: weakref.WeakValueDictionary[int, DeviceSlot | DeviceLease] = weakref.WeakValueDictionary()
        self._closing = self._ended = False
        self._fault = ""
        if control.header(layout.AT_DEBUG):
            size, first = self._layout.slot_bytes, arena + ARENA_HEADER_BYTES  # not self: the finalizer knows the control ring
            control.poison_payload = lambda slot: device.fill(first + slot * size, layout.POISON, size)
        self._finalizer = weakref.finalize(self, settle, self._pid, device, control.keep_row, control.close, self._pending)

    @classmethod
    def create(
        cls, spec: RingSpec, device: Device, path: Path | str | None = None, *, debug: bool = False, buffers: int = 2
    ) -> DeviceRing:
        """Creates a ring with its payload in one arena on `device`, and owns both: they end with this process.

        Args:
            spec: As for `Ring.create`. Scalar fields stay in host memory, all others lie in the arena.
            device: Where the arena goes.
            path: Where the ring's file goes; a fresh name in /dev/shm by default.
            debug: Poison retired slots, in host memory and on the device (waits for the device each time).
            buffers: Staging buffers, each of a slot's size: how many trajectories may be written or copied at once here.

        Raises:
            RingError: The arena or the file does not fit, or the device cannot share memory between processes.
        """
        on_host, on_device = placement.split(spec.trajectory)
        lay = RingLayout.of(replace(spec, trajectory=on_device))
        # Whole blocks of 2 MiB: from a smaller cudaMalloc, a handle would share its neighbours in the block too.
        size = layout.align(ARENA_HEADER_BYTES + spec.num_slots * lay.slot_bytes, layout.PAYLOAD_ALIGNMENT)
        generation = int.from_bytes(os.urandom(8), "little")
        arena = device.allocate(size)
        try:
            device.write(arena, generation.to_bytes(8, "little"))
            note = ArenaNote(
                kind=device.kind,
                identity=device.identity,
                generation=generation,
                size_bytes=size,
                handle=device.export(arena),
                trajectory=spec.trajectory,
            )
            control = ControlRing.create(replace(spec, trajectory=on_host), path, debug=debug, note=note.encode())
        except BaseException:
            device.free(arena)
            raise
        return cls(control, spec, device, arena, owner=True, buffers=buffers)

    @classmethod
    def attach(
        cls, path: Path | str, device: Device, trajectory: TrajectorySpec | None = None, *, reads: bool = True, buffers: int = 2
    ) -> DeviceRing:
        """Attaches to the ring at `path` whose arena lies on `device`; `trajectory` is the schema the caller expects.

        `reads` is as for `Ring.attach`.

        Raises:
            RingClosed: The owner closed it or is dead.
            RingError: As `Ring.attach`; or the ring lies in host memory, on another device, or on memory that is not its own.
        """
        control = ControlRing.attach(path, reads=reads)
        try:
            note = _read_note(control)
            if (note.kind, note.identity) != (device.kind, device.identity):
                raise RingError(
                    f"the ring at {path} lies on {note.kind} device {note.identity}, asked to attach with {device.kind} device "
                    f"{device.identity}: open the device of the owner"
                )
            if trajectory is not None and trajectory.schema_hash != note.trajectory.schema_hash:
                raise RingError(
                    f"the ring at {path} {layout.differ(note.trajectory, trajectory)}: attach with the schema it was created with"
                )
            arena = device.open(note.handle)
            try:
                stamp = int.from_bytes(device.read(arena, 8), "little")
                if stamp != note.generation:
                    raise RingError(
                        f"the arena of the ring at {path} is of generation {stamp:#x}, the ring of {note.generation:#x}: "
                        "its owner is gone; attach to the ring of the new one"
                    )
            except BaseException:
                device.unmap(arena)
                raise
        except BaseException:
            control.close()
            raise
        spec = replace(control.spec, trajectory=note.trajectory)
        return cls(control, spec, device, arena, owner=False, buffers=buffers)

    def __reduce__(self) -> tuple[object, ...]:
        """Travels to another process as its path and the kind of its device, and attaches there."""
        return _attach_again, (self.path, type(self.device))

    # ------------------------------------------------------------------------------------------------------ writing

    def reserve(self, timeout_s: float = 5.0) -> DeviceSlot:
        """Takes a slot to write one trajectory into; see `DeviceSlot`. Blocks while none is free, at most `timeout_s`.

        Raises:
            RingTimeout: No slot in time; the message says who is behind.
            RingClosed: The owner closed the ring or died.
        """
        work = Work(self._patiently(self._control.reserve, timeout_s))
        self._work.out[id(work)] = work
        slot = DeviceSlot(self, work)
        self._loose[id(slot)] = slot
        return slot

    # ------------------------------------------------------------------------------------------------------ reading

    def acquire(
        self, batch_size: int, timeout_s: float = 5.0, rng: np.random.Generator | None = None, *, partial: bool = False
    ) -> DeviceLease:
        """Draws one read each of `batch_size` different trajectories, as `Ring.acquire`."""
        number = int((self._rng if rng is None else rng).bit_generator.random_raw())  # one number a call, however often we look

        def draw(timeout_s: float) -> Lease:
            return self._control.acquire(batch_size, timeout_s, np.random.default_rng(number), partial=partial)

        control = self._patiently(draw, timeout_s)
        self._leases.out[id(control)] = control
        lease = DeviceLease(self, control)
        self._loose[id(lease)] = lease
        return lease

    def sample(
        self, batch_size: int, timeout_s: float = 5.0, rng: np.random.Generator | None = None, *, partial: bool = False
    ) -> DeviceLease:
        """`acquire` for a `with` block. Kernels launched in the block may still run after it: the slots wait for them."""
        return self.acquire(batch_size, timeout_s, rng, partial=partial)

    @property
    def readable(self) -> NDArray[np.uint8]:
        """The ring's file as leases show it, read-only; the payload is elsewhere."""
        return self._control.readable

    def field(self, name: str) -> Any:
        """One field of all slots, shape [num_slots, *shape]: on the device an array that speaks DLPack, for scalars NumPy.

        Index it with `lease.slots` to gather a batch in one kernel. Only slots of a lease that is held may be looked at.
        """
        entry = self.spec.trajectory.field(name)
        if placement.in_host(entry):
            return self._control.field(name)
        strides = (self._layout.slot_bytes, *np.empty(entry.shape, entry.dtype).strides)
        address = self._arena + ARENA_HEADER_BYTES + self._offsets[name]
        with self.lock:
            self.check()
            return self.device.view(address, (self.spec.num_slots, *entry.shape), entry.dtype, strides, self)

    # ------------------------------------------------------------------------------------------------------ control

    def poll(self) -> int:
        """Carries out what the device has completed; returns how many publishes, abandons and releases still wait. Never blocks.

        Raises:
            RingError: Work on the device failed: its slots stay out of use until this process ends.
            RingClosed: A publish came too late.
        """
        with self.lock:
            if self._fault:
                raise RingError(f"the device failed earlier ({self._fault}): its slots stay out of use until this process ends")
            self._collect()
            for entry in list(self._pending):
                if self._passed(entry):
                    self._pending.remove(entry)
                    if entry.buffer is not None:
                        self._free_buffers.append(entry.buffer)
                    entry.finish()
            return len(self._pending)

    def flush(self, timeout_s: float = 5.0) -> None:
        """Waits until nothing is pending; raises RingTimeout when the device takes longer."""
        if not self._await(lambda: self.poll() == 0, timeout_s):
            raise RingTimeout(f"{self._describe_pending()} after {timeout_s:g} s: the device is behind; poll again later")

    def stats(self) -> RingStats:
        """One look at slots, counters and participants; slots that wait for the device count as WRITING or held."""
        return self._control.stats()

    def set_max_reads(self, max_reads: int) -> None:
        """As `Ring.set_max_reads`."""
        self._control.set_max_reads(max_reads)

    def snapshot(self, path: Path | str) -> int:
        """As `Ring.snapshot`, by copies to the host. The file tells nothing of a device: either kind of ring restores it."""
        if not self._owner:
            raise RingError(f"only the owner of the ring at {self.path} may take a snapshot")
        with self.lock:
            self.check()
            return self._control.save(Path(path), self.spec, self._read_payload)

    @classmethod
    def restore(
        cls,
        snapshot_path: Path | str,
        device: Device,
        path: Path | str | None = None,
        *,
        trajectory: TrajectorySpec | None = None,
        debug: bool = False,
    ) -> DeviceRing:
        """Creates a ring on `device` from a snapshot of a ring on any; see `Ring.restore`."""
        index = snapshot.read_index(Path(snapshot_path), trajectory)
        ring = cls.create(index.spec, device, path, debug=debug)
        try:
            ring._control.load(Path(snapshot_path), index, ring._write_payload)
        except BaseException:
            ring.close()
            raise
        return ring

    def reap(self) -> int:
        """As `Ring.reap`."""
        return self._control.reap()

    @property
    def closed(self) -> bool:
        """Whether this attachment or the whole ring has ended."""
        return self._closing or self._control.closed

    def close(self, timeout_s: float = 5.0) -> None:
        """Leaves the ring once the device is done with our slots; by the owner: ends it for all and frees the arena.

        The owner frees the arena only after every other participant has left or is dead, for freeing what others map is undefined
        on CUDA. Safe to call twice; after a RingTimeout, call again.

        Raises:
            RingTimeout: The device is behind, or (owner) others still map the arena: names them. The arena stays.
        """
        if os.getpid() != self._pid or self._ended:
            return
        deadline = time.monotonic() + timeout_s
        with self.lock:
            if not self._closing:
                for loose in list(self._loose.values()):
                    with suppress(RingClosed):  # a publish that came too late, met on the way
                        loose.end()
                # Kernels of a lease or slot that was dropped unended are on these streams.
                self.defer([None, *self.device.streams()], lambda: None)
                self._closing = True
        if not self._await(self._drained, timeout_s):
            raise RingTimeout(f"{self._describe_pending()} after {timeout_s:g} s: the ring stays attached; close it again later")
        self._control.close()
        if self._owner and not self._await(lambda: not self._control.others(), max(0.0, deadline - time.monotonic())):
            raise RingTimeout(
                f"the ring at {self.path} has ended, but processes {sorted(set(self._control.others()))} still map its arena: "
                "close it there (or end them), then here again"
            )
        with self.lock:
            if not self._ended:
                self._ended = True
                self._finalizer.detach()
                self._free_buffers.clear()
                if self._owner:
                    self.device.free(self._arena)
                else:
                    self.device.unmap(self._arena)

    def __enter__(self) -> DeviceRing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- inside

    def _collect(self) -> None:
        """Ends what was handed out and dropped, as its holder would have: behind the kernels of the streams that are current."""
        for key, work in self._work.dropped():
            work.abandon(self)
            self._work.out.pop(key, None)
        for key, lease in self._leases.dropped():
            self.defer(self.device.streams(), lease.release)
            self._leases.out.pop(key, None)

    def ended(self, lease: Lease) -> None:
        """Notes that a lease has come to its end, and need not be looked for."""
        self._leases.out.pop(id(lease), None)

    def _passed(self, entry: Pending) -> bool:
        """The gate: whether the device has completed all before the entry's markers."""
        while entry.markers:
            if not self.device.done(entry.markers[-1]):
                return False
            self.device.forget(entry.markers.pop())
        return True

    def defer(self, streams: Iterable[int | None], finish: Callable[[], None], buffer: NDArray[np.uint8] | None = None) -> object:
        """Has `finish` called once all that is now on `streams` is complete, and `buffer` recycled; a ticket for `settled`."""
        with self.lock:
            try:
                markers = [self.device.mark(stream) for stream in dict.fromkeys(streams)]
            except RingError as error:
                # What cannot be marked cannot be known to be complete: nothing of ours is given up any more.
                self._fault = str(error)
                self._pending.append(Pending([NEVER], finish, buffer))
                raise
            entry = Pending(markers, finish, buffer)
            self._pending.append(entry)
            return entry

    def _patiently(self, attempt: Callable[[float], Result], timeout_s: float) -> Result:
        """A blocking call of the control ring, in slices: what it waits for may be waiting for our own device."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.check()
            pending = self.poll()
            left = max(0.0, deadline - time.monotonic())
            try:
                return attempt(min(left, BUSY_SLICE_S if pending else IDLE_SLICE_S))
            except RingTimeout as error:
                if time.monotonic() >= deadline:
                    raise RingTimeout(f"waited {timeout_s:g} s, {self._describe_pending()}: {error}") from error

    def _await(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Looks until it is so or time is up: busily at first, for a copy takes microseconds."""
        deadline, pause_s = time.monotonic() + timeout_s, 0.0
        while not condition():
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(BUSY_SLICE_S, pause_s + 1e-5)
        return True

    def _drained(self) -> bool:
        """As poll, at the end: a publish that came too late is no fault, for nobody reads any more."""
        while True:
            try:
                return self.poll() == 0
            except RingClosed:
                continue

    def check(self) -> None:
        """Raises RingClosed when this attachment or its owner has ended, RingError when it is another process's."""
        if os.getpid() != self._pid:
            raise RingError(f"the ring at {self.path} was attached by process {self._pid} before a fork: attach again in the child")
        if self._closing:
            raise RingClosed(f"this attachment to the ring at {self.path} was closed")
        if not self._owner and not self._control.owner_alive():
            raise RingClosed(f"the owner of the ring at {self.path} died, and its arena with it")

    def stage(self, slot: int) -> NDArray[np.uint8]:
        """A staging buffer, made at first use, poisoned in debug mode; waits for our own copies when all are in use."""

        def there() -> bool:
            self.poll()
            return bool(self._free_buffers) or self._made_buffers < self._buffers

        if not self._await(there, 5.0 if self._pending else 0.0):
            raise RingError(
                f"slot {slot} has no staging buffer: all {self._buffers} are in slots that are open or being copied; "
                "publish one first, or attach with more buffers"
            )
        with self.lock:
            if self._free_buffers:
                buffer = self._free_buffers.pop()
            else:
                self._made_buffers += 1
                buffer = self.device.staging(self._layout.slot_bytes)
        if self._control.header(layout.AT_DEBUG):
            buffer[:] = layout.POISON
        return buffer

    def recycle(self, buffer: NDArray[np.uint8]) -> None:
        """Takes back a staging buffer that no copy reads."""
        self._free_buffers.append(buffer)

    def offset(self, name: str) -> int:
        """Where a field begins in a slot and in a staging buffer [bytes]."""
        return self._offsets[name]

    def copy(self, slot: int, name: str, source: NDArray[np.uint8]) -> None:
        """Enqueues the copy of a staged field to the device."""
        self.device.copy(self._address(slot, name), source)

    def settled(self, ticket: object, timeout_s: float) -> bool:
        """Whether what was deferred is done, after at most `timeout_s` [s]."""
        return self._await(lambda: self.poll() == 0 or ticket not in self._pending, timeout_s)

    def _read_payload(self, slot: int) -> memoryview:
        whole = np.zeros(RingLayout.of(self.spec).slot_bytes, np.uint8)
        for field, part in self._parts(whole):
            if placement.in_host(field):
                part[:] = np.atleast_1d(self._control.views(slot)[field.name]).view(np.uint8)
            else:
                part[:] = np.frombuffer(self.device.read(self._address(slot, field.name), field.size_bytes), np.uint8)
        return whole.data

    def _write_payload(self, slot: int, payload: memoryview) -> None:
        on_host = self._control.writable(slot)
        for field, part in self._parts(np.frombuffer(payload, np.uint8)):
            if placement.in_host(field):
                on_host[field.name][...] = part.view(field.dtype).reshape(field.shape)
            else:
                self.device.write(self._address(slot, field.name), part.tobytes())

    def _parts(self, whole: NDArray[np.uint8]) -> Iterator[tuple[Field, NDArray[np.uint8]]]:
        """Every field of a slot with its bytes in a payload laid out as in host memory."""
        fields = self.spec.trajectory.fields
        for field, offset in zip(fields, RingLayout.of(self.spec).field_offsets, strict=True):
            yield field, whole[offset : offset + field.size_bytes]

    def _address(self, slot: int, name: str) -> int:
        return self._arena + self._slot_at(slot) + self._offsets[name]

    def _slot_at(self, slot: int) -> int:
        return ARENA_HEADER_BYTES + slot * self._layout.slot_bytes

    def view(self, slot: int, name: str) -> Any:
        """A field of a slot on the device, speaking DLPack."""
        entry = self.spec.trajectory.field(name)
        with self.lock:
            return self.device.view(self._address(slot, name), entry.shape, entry.dtype, None, self)

    def _describe_pending(self) -> str:
        return f"{len(self._pending)} of our own slots and leases wait for the device"


def _attach_again(path: Path, device: Callable[[], Device]) -> DeviceRing:
    return DeviceRing.attach(path, device())


def _read_note(control: ControlRing) -> ArenaNote:
    if not control.note:
        raise RingError(f"the payload of the ring at {control.path} lies in host memory: attach with Ring.attach(path)")
    return ArenaNote.decode(control.note, control.spec.trajectory)
