"""A ring whose payload is on a device: the same control words and guarantees, although copies and kernels are asynchronous.

Two conditions are added to the protocol. A slot is published only after the device has completed the copies and kernels that wrote
it; a lease is released only after the device has completed the kernels that read it. Until then the slot stays WRITING, or its
reader's bit stays set, in the control words in host memory. So nothing else in the ring needs to know about devices.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import layout, placement, snapshot
from embodichain.ring.contract import RingStats
from embodichain.ring.device_lease import DeviceHold, DeviceLease, DeviceSlot, Work, named_streams
from embodichain.ring.device_payload import Payload
from embodichain.ring.device_pending import Buffers, Pending, Staging, settle
from embodichain.ring.device_turns import BUSY_SLICE_S, Result, Turns
from embodichain.ring.layout import RingLayout
from embodichain.ring.lease import Lease
from embodichain.ring.lent import Lent
from embodichain.ring.participants import Health
from embodichain.ring.placement import ARENA_HEADER_BYTES, ArenaNote, Device
from embodichain.ring.ring import ControlRing
from embodichain.ring.stats import Observer
from embodichain.types import RingSpec, TrajectorySpec

IDLE_SLICE_S = 0.05


class DeviceRing:
    """One attachment to a ring on a device; made by `DeviceRing.create` (the owner, the learner) or `DeviceRing.attach`.

    All methods may be called from any thread of the attaching process. Deferred publishes and releases are carried out by later
    calls on the same attachment; if there are none, call `poll` regularly, or `flush`.
    """

    def __init__(self, control: ControlRing, spec: RingSpec, device: Device, arena: int, *, owner: bool, buffers: int) -> None:
        self.spec = spec
        self.path = control.path
        self.device = device
        self._control = control
        self._owner = owner
        self._arena = arena
        self._mapped = [arena]
        self._pid = os.getpid()
        self._turns = Turns()
        _, on_device = placement.split(spec.trajectory)
        self._layout = RingLayout.of(replace(spec, trajectory=on_device))
        self._offsets = dict(zip((f.name for f in on_device.fields), self._layout.field_offsets, strict=True))
        self._rng = np.random.default_rng()
        self._staging = Staging(partial(device.staging, self._layout.slot_bytes), buffers)
        self._pending: list[Pending] = []
        self._leases: Lent[DeviceHold] = Lent()
        self._work: Lent[Work] = Lent()
        self._closing = self._ended = False
        self._fault = ""
        if control.header(layout.AT_DEBUG):
            control.poison_payload = partial(_poison, weakref.ref(self))  # a strong reference would keep this object alive for ever
        # Opened while the file has a name: the owner's close removes it, and must then still see who has died.
        self._watch = Observer.open(control.path) if owner else None
        named = partial(named_streams, self._work.out, self._leases.out)
        ends = (control.keep_row, control.close, [] if owner else self._mapped)
        self._finalizer = weakref.finalize(self, settle, self._pid, device, *ends, self._pending, named)

    @classmethod
    def create(
        cls, spec: RingSpec, device: Device, path: Path | str | None = None, *, debug: bool = False, buffers: int = 2,
        fill: Callable[[ControlRing, Payload], None] = lambda control, payload: None,
    ) -> DeviceRing:  # fmt: skip
        """Creates and owns a ring with its payload in one allocation (arena) on `device`; both end with this process.

        Args:
            spec: As for `Ring.create`. Scalar fields stay in host memory, all others lie in the arena.
            device: Where the arena goes.
            path: Where the ring's file goes; a fresh name in /dev/shm by default.
            debug: Poison retired slots, in host memory and on the device (waits for the device each time).
            buffers: Number of staging buffers, each of a slot's size: trajectories that this process can write or copy at once.
            fill: Called while no other process can attach yet.

        Raises:
            RingError: The arena or the file does not fit, or the device cannot share memory between processes.
        """
        on_host, on_device = placement.split(spec.trajectory)
        lay = RingLayout.of(replace(spec, trajectory=on_device))
        offsets = dict(zip((f.name for f in on_device.fields), lay.field_offsets, strict=True))
        # cudaMalloc places small allocations together in blocks of 2 MiB, and an IPC handle exposes the whole block.
        size = layout.align(ARENA_HEADER_BYTES + spec.num_slots * lay.slot_bytes, layout.PAYLOAD_ALIGNMENT)
        generation, arena = int.from_bytes(os.urandom(8), "little"), device.allocate(size)
        try:
            device.write(arena, generation.to_bytes(8, "little"))
            note = ArenaNote(
                kind=device.kind, identity=device.identity, generation=generation, size_bytes=size, handle=device.export(arena),
                trajectory=spec.trajectory,
            )  # fmt: skip

            first = arena + ARENA_HEADER_BYTES

            def filled(control: ControlRing) -> None:
                fill(control, Payload(spec, control, device, lambda slot, name: first + slot * lay.slot_bytes + offsets[name]))

            control = ControlRing.create_filled(replace(spec, trajectory=on_host), path, debug, note.encode(), filled)
            try:
                return cls(control, spec, device, arena, owner=True, buffers=buffers)
            except BaseException:
                control.close()
                raise
        except BaseException:
            device.free(arena)
            raise

    @classmethod
    def attach(
        cls, path: Path | str, device: Device, trajectory: TrajectorySpec | None = None, *, reads: bool = True, buffers: int = 2
    ) -> DeviceRing:
        """Attaches to the ring at `path` whose arena lies on `device`; `trajectory` is the schema the caller expects.

        `reads` is as for `Ring.attach`.

        Raises:
            RingClosed: The owner closed it or is dead.
            RingError: As `Ring.attach`; or the payload is in host memory, on another device, or the arena is of another ring.
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
                spec = replace(control.spec, trajectory=note.trajectory)
                return cls(control, spec, device, arena, owner=False, buffers=buffers)
            except BaseException:
                device.unmap(arena)
                raise
        except BaseException:
            control.close()
            raise

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as its path and kind of device; unpickling attaches in the other process."""
        return _attach_again, (self.path, type(self.device), self._control.reads)

    # ------------------------------------------------------------------------------------------------------ writing

    def reserve(self, timeout_s: float = 5.0) -> DeviceSlot:
        """Takes a slot for writing one trajectory; see `DeviceSlot`. Blocks while none is free, at most `timeout_s` [s].

        Raises:
            RingTimeout: No slot in time; the message says which side is slow.
            RingClosed: The owner closed the ring or died.
        """
        slot, control = self._patiently(self._control.reserve, timeout_s), self._control
        index, reserved = slot.index, control.word(slot.index)
        work = Work(slot, lambda: control.word(index) == reserved)
        self._work.out[id(work)] = work
        return DeviceSlot(self, work)

    # ------------------------------------------------------------------------------------------------------ reading

    def acquire(
        self, batch_size: int, timeout_s: float = 5.0, rng: np.random.Generator | None = None, *, partial: bool = False
    ) -> DeviceLease:
        """Draws one read each of `batch_size` different trajectories, as `Ring.acquire`."""
        # Draw one random number for each call, not for each try, so that results do not depend on how long it waits.
        number = int((self._rng if rng is None else rng).bit_generator.random_raw())

        def draw(timeout_s: float) -> Lease:
            return self._control.acquire(batch_size, timeout_s, np.random.default_rng(number), partial=partial)

        control = self._patiently(draw, timeout_s)
        held = DeviceHold(control)
        self._leases.out[id(held)] = held
        return DeviceLease(self, control, held)

    def sample(
        self, batch_size: int, timeout_s: float = 5.0, rng: np.random.Generator | None = None, *, partial: bool = False
    ) -> DeviceLease:
        """`acquire`, for use in a `with` block. Kernels launched in the block may finish after it: the slots wait for them."""
        return self.acquire(batch_size, timeout_s, rng, partial=partial)

    @property
    def readable(self) -> NDArray[np.uint8]:
        """The ring's file as mapped for reading; it does not contain the payload."""
        return self._control.readable

    def field(self, name: str) -> Any:
        """One field of all slots, shape [num_slots, *shape]: on the device an array with DLPack, for scalars a NumPy array.

        Index it with `lease.slots` to gather a batch in one kernel. Only slots of a held lease may be accessed.
        """
        entry = self.spec.trajectory.field(name)
        if placement.in_host(entry):
            return self._control.field(name)
        strides = (self._layout.slot_bytes, *np.empty(entry.shape, entry.dtype).strides)
        address = self._arena + ARENA_HEADER_BYTES + self._offsets[name]
        return self._view(address, (self.spec.num_slots, *entry.shape), entry.dtype, strides)

    # ------------------------------------------------------------------------------------------------------ control

    def poll(self) -> int:
        """Carries out operations whose work is complete; returns how many are still pending. Never blocks.

        Raises:
            RingError: Work on the device failed; the slots involved stay out of use until this process ends.
            RingClosed: A publish came too late.
        """
        # In the middle of another operation (from a signal handler), that one goes on with it later.
        return len(self._pending) if self._turns.inside() else self.operate(self._poll)

    def _poll(self) -> int:
        if not self._ended:
            if self._fault:
                raise RingError(f"the device failed earlier ({self._fault}): its slots stay out of use until this process ends")
            self._collect()
            for entry in list(self._pending):
                if self._passed(entry):
                    self._complete(entry)
        return len(self._pending)

    def flush(self, timeout_s: float = 5.0) -> None:
        """Waits until nothing is pending; raises RingTimeout when the device takes longer."""
        if not self._turns.wait(lambda: self.poll() == 0, timeout_s):
            raise RingTimeout(f"{self._describe_pending()} after {timeout_s:g} s: the device is behind; poll again later")

    def stats(self) -> RingStats:
        """Statistics of slots, counters and participants; slots that wait for the device count as WRITING or held."""
        return self._control.stats()

    def set_max_reads(self, max_reads: int) -> None:
        """As `Ring.set_max_reads`."""
        self._control.set_max_reads(max_reads)

    def snapshot(self, path: Path | str) -> int:
        """As `Ring.snapshot`, by copies to the host. The file does not depend on the device: any kind of ring can restore it."""
        if not self._owner:
            raise RingError(f"only the owner of the ring at {self.path} may take a snapshot")

        def save() -> int:
            self.check()
            return self._control.save(Path(path), self.spec, Payload(self.spec, self._control, self.device, self._address).read)

        return self.operate(save)

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
        """Creates a ring on `device` from a snapshot of any kind of ring; see `Ring.restore`."""
        index = snapshot.read_index(Path(snapshot_path), trajectory)

        def fill(control: ControlRing, payload: Payload) -> None:
            control.load(Path(snapshot_path), index, payload.write)

        return cls.create(index.spec, device, path, debug=debug, fill=fill)

    def reap(self) -> int:
        """As `Ring.reap`."""
        return self._control.reap()

    @property
    def closed(self) -> bool:
        """Whether this attachment or the whole ring has ended."""
        return self._closing or self._turns.close_s is not None or self._control.closed

    def close(self, timeout_s: float = 5.0) -> None:
        """Leaves the ring once the device has completed work on our slots; if called by the owner, ends it and frees the arena.

        The owner frees the arena only after every other participant has left or died, because freeing memory that others map is
        undefined in CUDA. Safe to call twice; after a RingTimeout, call again. In a signal handler that comes in the middle of an
        operation of the ring, it only notes that the ring is to be closed at the end of that operation.

        Raises:
            RingTimeout: The device takes longer, or (for the owner) other processes, which are named, still map the arena.
        """
        if os.getpid() != self._pid or not self._mapped or self._turns.put_off(timeout_s):
            return
        deadline = time.monotonic() + timeout_s
        self.operate(self._begin_to_close)
        if not self._turns.wait(self._drained, timeout_s):
            raise RingTimeout(f"{self._describe_pending()} after {timeout_s:g} s: the ring stays attached; close it again later")
        self._control.close()
        if not self._turns.wait(lambda: not self._others(), max(0.0, deadline - time.monotonic())):
            raise RingTimeout(
                f"the ring at {self.path} has ended, but processes {sorted(self._others())} still map its arena: "
                "close it there (or end them), then here again"
            )
        self.operate(self._give_arena_back)

    def _begin_to_close(self) -> None:
        if not self._closing:
            for open_one in (*self._work.out.values(), *self._leases.out.values()):
                open_one.end(self)
            # Kernels of leases and slots that were dropped without release may run on these streams.
            self.defer(self._pending, [None, *self.device.streams()], lambda: None)
            self._closing = True
        self._turns.close_s = None

    def _give_arena_back(self) -> None:
        self._ended = True
        self._finalizer.detach()
        self._staging.free.clear()
        self._watch = None
        if self._mapped:  # taken from the list first: it must not be freed twice, because its address may be in use again
            (self.device.free if self._owner else self.device.unmap)(self._mapped.pop())

    def __enter__(self) -> DeviceRing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _collect(self) -> None:
        """Ends slots and leases whose objects were dropped, after the kernels on the current streams."""
        for register in (self._work, self._leases):
            for key, dropped in register.dropped():
                dropped.end(self)
                register.out.pop(key, None)

    def _passed(self, entry: Pending) -> bool:
        return entry.passed(self.device)

    def _complete(self, entry: Pending) -> None:
        """Carries out an operation. Its entry is removed only afterwards, or an exception (Ctrl-C) would lose the operation."""
        try:
            entry.finish()
        except RingError:  # refused for good
            self._forget(entry)
            raise
        self._forget(entry)

    def _forget(self, entry: Pending) -> None:
        self._staging.take_back(entry.buffers)
        self._pending.remove(entry)

    def defer(
        self, of: object, streams: Iterable[int | None], finish: Callable[[], None], buffers: Buffers | None = None
    ) -> object:
        """Calls `finish` and recycles `buffers` once all present work on `streams` is complete; returns a ticket for `settled`.

        While an operation on `of` is pending, further calls for it change nothing and return its ticket. Called by an operation.
        """
        entry = next((entry for entry in self._pending if entry.of is of), None)
        if entry is None:
            entry = Pending(of, list(dict.fromkeys(streams))[::-1], finish, [] if buffers is None else buffers)
            self._pending.append(entry)
        try:
            entry.mark(self.device)
        except RingError as error:
            # Without a marker, completion can never be known, so no slot of this attachment may be given up any more.
            self._fault = str(error)
            raise
        return entry

    def _patiently(self, attempt: Callable[[float], Result], timeout_s: float) -> Result:
        """Makes a blocking call in short slices with polls in between, because it may wait for our own deferred operations."""
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

    def _others(self) -> set[int]:
        """Process ids of living participants, as the owner sees them; empty for others, whom they do not concern."""
        views = self._watch.participants() if self._watch is not None else ()
        return {view.identity.pid for view in views if view.health is not Health.DEAD}

    def _drained(self) -> bool:
        """As `poll`, when closing: a publish after the end of the ring is no error."""
        while True:
            try:
                return self.poll() == 0
            except RingClosed:
                continue

    def check(self) -> None:
        """Raises RingClosed when this attachment or the owner has ended, RingError in a forked child."""
        if os.getpid() != self._pid:
            raise RingError(f"the ring at {self.path} was attached by process {self._pid} before a fork: attach again in the child")
        if self._closing or self._turns.close_s is not None:
            raise RingClosed(f"this attachment to the ring at {self.path} was closed")
        if not self._owner and not self._control.owner_alive():
            raise RingClosed(f"the owner of the ring at {self.path} died, and its arena with it")

    def stage(self, work: Work) -> None:
        """Gives the slot a staging buffer, made at first use, poisoned in debug mode; waits for own copies when all are in use."""

        def taken() -> bool:
            self.poll()
            return self.operate(take)

        def take() -> bool:
            self.check()
            there = self._staging.take(work.buffers)
            if there and self._control.header(layout.AT_DEBUG):
                work.buffers[0][:] = layout.POISON
            return there

        if not self._turns.wait(taken, 5.0 if self._pending else 0.0):
            raise RingError(
                f"slot {work.index} has no staging buffer: all {self._staging.most} are in slots that are open or being copied; "
                "publish one first, or attach with more buffers"
            )

    def recycle(self, buffers: Buffers) -> None:
        """Takes back staging buffers that no copy reads."""
        self._staging.take_back(buffers)

    def offset(self, name: str) -> int:
        """Where a field begins in a slot and in a staging buffer [bytes]."""
        return self._offsets[name]

    def copy(self, slot: int, name: str, source: NDArray[np.uint8]) -> None:
        """Enqueues the copy of a staged field to the device."""
        if self._ended:
            raise RingClosed(f"this attachment to the ring at {self.path} was closed, and its arena with it")
        self.device.copy(self._address(slot, name), source)

    def settled(self, ticket: object, timeout_s: float) -> bool:
        """Waits at most `timeout_s` [s] for a deferred call; returns whether it was made."""
        return self._turns.wait(lambda: self.poll() == 0 or ticket not in self._pending, timeout_s)

    def _address(self, slot: int, name: str) -> int:
        return self._arena + self._slot_at(slot) + self._offsets[name]

    def _slot_at(self, slot: int) -> int:
        return ARENA_HEADER_BYTES + slot * self._layout.slot_bytes

    def view(self, slot: int, name: str) -> Any:
        """A field of a slot on the device, as an array with DLPack."""
        entry = self.spec.trajectory.field(name)
        return self._view(self._address(slot, name), entry.shape, entry.dtype, None)

    def _view(self, address: int, shape: tuple[int, ...], dtype: str, strides: tuple[int, ...] | None) -> Any:
        def view() -> Any:
            self.check()
            return self.device.view(address, shape, dtype, strides, self)

        return self.operate(view)

    def _fill_with_poison(self, slot: int) -> None:
        if not self._ended:
            self.device.fill(self._arena + self._slot_at(slot), layout.POISON, self._layout.slot_bytes)

    def operate(self, operation: Callable[[], Result]) -> Result:
        """Runs an operation alone; a close by a signal handler in the middle of it comes at its end."""
        return self._turns.run(operation, self.close)

    def _describe_pending(self) -> str:
        return f"{len(self._pending)} of our own slots and leases wait for the device"


def _attach_again(path: Path, device: Callable[[], Device], reads: bool) -> DeviceRing:
    return DeviceRing.attach(path, device(), reads=reads)


def _poison(ring: Callable[[], DeviceRing | None], slot: int) -> None:
    if (there := ring()) is not None:
        there.operate(partial(there._fill_with_poison, slot))


def _read_note(control: ControlRing) -> ArenaNote:
    if not control.note:
        raise RingError(f"the payload of the ring at {control.path} lies in host memory: attach with Ring.attach(path)")
    return ArenaNote.decode(control.note, control.spec.trajectory)
