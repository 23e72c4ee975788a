"""Publishes and releases that wait until a device has completed the work enqueued before them, and the staging buffers of copies.

An exception of a signal handler (Ctrl-C) may come between any two calls. So whatever the device may still access is at any moment
in a list that outlives the interrupted call, and every step may be repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring.device_turns import BUSY_SLICE_S
from embodichain.ring.placement import Device, Marker

EXIT_S = 30.0
"""How long the interpreter's exit waits for the device [s]; afterwards the slots are reclaimed when the process is dead."""
Buffers = list[NDArray[np.uint8]]


@dataclass(slots=True, eq=False)
class Pending:
    """An operation on a slot or lease, to be carried out once the device has passed all markers, and all streams are marked."""

    of: object
    """The slot or lease, of which there is one pending operation at most."""
    streams: list[int | None]
    """The streams that have no marker yet, the next one last."""
    finish: Callable[[], None]
    """The operation, which may be repeated."""
    buffers: Buffers
    """Staging memory that running copies read."""
    markers: list[Marker] = field(default_factory=list)

    def mark(self, device: Device) -> None:
        """Marks the streams without a marker. After an interruption, later markers than intended: the operation waits for more."""
        while self.streams:
            self.markers.append(device.mark(self.streams[-1]))
            self.streams.pop()

    def passed(self, device: Device) -> bool:
        """Whether the device has completed everything that was enqueued before this operation."""
        self.mark(device)
        while self.markers:
            if not device.done(self.markers[-1]):
                return False
            device.forget(self.markers.pop())
        return True


class Staging:
    """Staging buffers, at most `most` of them, each made at first use. A buffer in use is in a list of the slot that uses it."""

    def __init__(self, make: Callable[[], NDArray[np.uint8]], most: int) -> None:
        self._make = make
        self.most = most
        self.made = 0
        self.free: Buffers = []

    def take(self, buffers: Buffers) -> bool:
        """Moves a free buffer to `buffers`; False if all are in use. Raises RingError when a new one is refused."""
        if not self.free and self.made < self.most:
            buffer = self._make()
            self.free += [buffer]
            self.made += 1  # only now, as it may be refused; and without a call in between, so that no exception can come there
        return _move(self.free, buffers)

    def take_back(self, buffers: Buffers) -> None:
        """Moves buffers that no copy reads back; safe to call twice."""
        while _move(buffers, self.free):
            pass


def _move(source: Buffers, target: Buffers) -> bool:
    """Moves the last element by a single C call, between whose parts no exception of a signal handler can lose it."""
    try:
        target.extend(map(source.pop, (-1,)))
    except IndexError:
        return False
    return True


def settle(
    pid: int,
    device: Device,
    keep_row: Callable[[], None],
    close: Callable[[], None],
    mapped: list[int],
    pending: list[Pending],
    named: Callable[[], Iterable[int]],
) -> None:
    """Ends an attachment that was dropped without being closed, or at exit: unmaps its arena, and leaves the ring.

    Slots that the device may still access are kept until the process dies, and then so is the arena. `mapped` is
    the arena, unless it is the owner's: others may map that one, which only its `close` can tell. `named` returns the streams that
    users named for slots and leases that are still open.
    """
    if os.getpid() != pid:
        return
    deadline = time.monotonic() + EXIT_S
    try:
        pending.append(Pending(None, list({None, *device.streams(), *named()}), lambda: None, []))
        while not all(entry.passed(device) for entry in pending):
            if time.monotonic() > deadline:
                keep_row()
                return
            time.sleep(BUSY_SLICE_S)
        while mapped:  # before it leaves: the owner may free the arena once nobody else is there
            device.unmap(mapped.pop())
    except BaseException as error:
        keep_row()
        if not isinstance(error, RingError):
            raise
        return
    close()
