"""A simulated device in host memory: copies and kernels complete late, in pieces, in a seeded random order between streams.

It reproduces what makes a GPU hard to share: work is ordered only within a stream, a copy reads its source when it runs and not
when it was enqueued, half a copy can be visible, and work enqueued by a killed process is lost. So `DeviceRing` can be tested on
any Linux machine. Processes share the memory; each makes its own device object.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring.placement import Events, Marker

COPY_STREAM = 0
COMPUTE_STREAM = 1
_importers: dict[tuple[int, int], int] = {}
"""How many times each allocation is open in this process, by device and inode: freeing an open one is an error."""


class DelayedDevice:
    """The simulated device. Work happens only in `step`; `done` makes up to `steps_per_poll` steps, so that polling progresses."""

    kind = "delayed"
    identity = "host memory"

    def __init__(self, seed: int = 0, *, steps_per_poll: int = 2) -> None:
        self._rng = np.random.default_rng(seed)
        self._steps_per_poll = steps_per_poll
        self._queues: dict[int, deque[Iterator[None]]] = {COPY_STREAM: deque(), COMPUTE_STREAM: deque()}
        self._events: Events[list[bool]] = Events(lambda: [False])
        self._arenas: dict[int, tuple[NDArray[np.uint8], int | None, tuple[int, int]]] = {}
        self.capturing = False
        """Whether the stream of kernels is being captured into a graph, as in CUDA."""
        self.failure: str | None = None
        """If set, every later query of work raises, as on a GPU after an error."""

    # ------------------------------------------------------------------------------------------------------- memory

    def allocate(self, size_bytes: int) -> int:
        """Makes an anonymous file, which other processes can map through /proc while this process lives."""
        descriptor = os.memfd_create("embodichain-arena", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size_bytes)
        return self._map(descriptor, keep=True)

    def free(self, pointer: int) -> None:
        """Raises AssertionError when this process still has it open, or work is pending; on a GPU that is undefined behaviour."""
        _, descriptor, key = self._arenas[pointer]
        assert descriptor is not None, "only what was allocated here is freed here"
        assert not _importers.get(key), "an arena was freed while others map it"
        self._drop(pointer)
        os.close(descriptor)

    def export(self, pointer: int) -> bytes:
        """A path to the file through this process; it cannot be opened once the process has ended."""
        return f"/proc/{os.getpid()}/fd/{self._arenas[pointer][1]}".encode()

    def open(self, handle: bytes) -> int:
        """Maps the memory behind `handle`."""
        try:
            descriptor = os.open(handle.decode(), os.O_RDWR | os.O_CLOEXEC)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise RingError(f"the arena {handle!r} cannot be opened: its owner is gone ({error})") from error
        pointer = self._map(descriptor, keep=False)
        key = self._arenas[pointer][2]
        _importers[key] = _importers.get(key, 0) + 1
        os.close(descriptor)
        return pointer

    def unmap(self, pointer: int) -> None:
        """Raises AssertionError while work is pending."""
        _importers[self._arenas[pointer][2]] -= 1
        self._drop(pointer)

    def staging(self, size_bytes: int) -> NDArray[np.uint8]:
        """Ordinary memory."""
        return np.zeros(size_bytes, np.uint8)

    def fill(self, pointer: int, value: int, size_bytes: int) -> None:
        """Immediately."""
        self._bytes(pointer, size_bytes)[:] = value

    def write(self, pointer: int, data: bytes) -> None:
        """Immediately."""
        self._bytes(pointer, len(data))[:] = np.frombuffer(data, np.uint8)

    def read(self, pointer: int, size_bytes: int) -> bytes:
        """Immediately."""
        return self._bytes(pointer, size_bytes).tobytes()

    def view(self, pointer: int, shape: tuple[int, ...], dtype: str, strides: tuple[int, ...] | None, owner: object) -> Any:
        """A NumPy array over the memory, with DLPack; the mapping lives as long as the array."""
        base, array = self._arena(pointer)
        return np.ndarray(shape, dtype, array.data, pointer - base, strides)

    # --------------------------------------------------------------------------------------------------------- work

    def copy(self, pointer: int, source: NDArray[np.uint8]) -> None:
        """Runs later, in up to four pieces of random lengths, forwards or backwards at random."""
        target = self._bytes(pointer, source.size)
        cuts = np.sort(self._rng.integers(0, source.size + 1, 3))
        pieces = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, source.size], strict=True)]
        if self._rng.random() < 0.5:
            pieces.reverse()

        def work() -> Iterator[None]:
            for piece in pieces:
                target[piece] = source[piece]
                yield

        self._queues[COPY_STREAM].append(work())

    def launch(self, kernel: Callable[[], object], stream: int = COMPUTE_STREAM) -> None:
        """Runs `kernel` later, after earlier work on `stream`."""

        def work() -> Iterator[None]:
            yield
            kernel()

        self._queues.setdefault(stream, deque()).append(work())

    def streams(self) -> tuple[int, ...]:
        """The default stream of `launch`; raises RingError while it is captured."""
        if self.capturing:
            raise RingError("the stream of kernels is captured into a graph: acquire, release and publish outside the capture")
        return (COMPUTE_STREAM,)

    def mark(self, stream: int | None = None) -> Marker:
        """An event after all present work on the stream."""
        marker, event = self._events.take()
        event[0] = False

        def work() -> Iterator[None]:
            event[0] = True
            return
            yield

        self._queues.setdefault(COPY_STREAM if stream is None else stream, deque()).append(work())
        return marker

    def done(self, marker: Marker) -> bool:
        """Makes a few steps, then checks."""
        event = self._events.of(marker)
        if self.failure is not None:
            raise RingError(f"work on the device failed: {self.failure}")
        self.step(int(self._rng.integers(0, self._steps_per_poll + 1)))
        return event[0]

    def forget(self, marker: Marker) -> None:
        """As `Events.give_back`; raises AssertionError for a pending event, which must not be reused."""
        assert self._events.of(marker)[0] or self.failure is not None, "an event was given back before it happened"
        self._events.give_back(marker)

    @property
    def outstanding(self) -> int:
        """Number of markers made and not yet forgotten."""
        return self._events.outstanding

    @property
    def busy(self) -> bool:
        """Whether any work is pending."""
        return any(self._queues.values())

    def step(self, count: int = 1) -> None:
        """Does `count` pieces of work, each from a random stream."""
        for _ in range(count):
            waiting = [queue for queue in self._queues.values() if queue]
            if not waiting:
                return
            queue = waiting[int(self._rng.integers(len(waiting)))]
            try:
                next(queue[0])
            except StopIteration:
                queue.popleft()

    def lose_everything(self) -> None:
        """Simulates the death of the process: running work stops where it is, and enqueued work never runs."""
        for queue in self._queues.values():
            queue.clear()

    # ------------------------------------------------------------------------------------------------------- inside

    def _map(self, descriptor: int, *, keep: bool) -> int:
        status = os.fstat(descriptor)
        array = np.frombuffer(mmap.mmap(descriptor, status.st_size), np.uint8)
        pointer = array.ctypes.data
        self._arenas[pointer] = (array, descriptor if keep else None, (status.st_dev, status.st_ino))
        return pointer

    def _drop(self, pointer: int) -> None:
        assert not self.busy, "an arena was unmapped under work that is under way"
        del self._arenas[pointer]

    def _arena(self, pointer: int) -> tuple[int, NDArray[np.uint8]]:
        for base, (array, _, _) in self._arenas.items():
            if base <= pointer < base + array.size:
                return base, array
        raise AssertionError(f"address {pointer:#x} is in no arena of this device")

    def _bytes(self, pointer: int, size_bytes: int) -> NDArray[np.uint8]:
        base, array = self._arena(pointer)
        assert pointer - base + size_bytes <= array.size, "beyond the end of the arena"
        return array[pointer - base : pointer - base + size_bytes]
