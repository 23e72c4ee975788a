"""The device interface for rings with their payload on a device, and the header note that describes the payload.

Control words, participants and statistics always are in host memory. The payload of all slots is one allocation on the device (the
arena). The owner allocates and exports it, and writes its handle into the header of the ring's file.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.types import Field, TrajectorySpec

MAX_NOTE_BYTES = 2048
ARENA_HEADER_BYTES = 4096
"""Size of the first page of an arena, which begins with the ring's generation (8 bytes), to detect a handle to other memory."""

Result = TypeVar("Result")
Event = TypeVar("Event")


class Marker(NamedTuple):
    """A position in a stream; `Device.done` tells whether everything enqueued before it is complete.

    Events are reused, so a marker contains a serial number of the use; a marker of an earlier use is refused.
    """

    session: int
    event: int
    serial: int


class Device(Protocol):
    """Memory with asynchronous work in streams. Implementations: `ring.cuda.CudaDevice`, `ring.delayed.DelayedDevice`.

    Work within a stream runs in order, work of different streams in any order. Streams are raw handles (`cudaStream_t`). A device
    object belongs to one process; its methods may be called from any thread, but one at a time (`DeviceRing` holds a lock).
    """

    kind: str
    """Name of the implementation; owner and attachments must agree."""

    @property
    def identity(self) -> str:
        """Name of the physical device, the same in every process."""
        ...

    def allocate(self, size_bytes: int) -> int:
        """Allocates memory and returns its address; raises RingError, with the free bytes, if it does not fit."""
        ...

    def free(self, pointer: int) -> None:
        """Frees an allocation, which every other process must have unmapped."""
        ...

    def export(self, pointer: int) -> bytes:
        """A handle of at most 64 bytes with which other processes can open the allocation while this process lives."""
        ...

    def open(self, handle: bytes) -> int:
        """Maps another process's allocation and returns its address here; raises RingError when its owner has ended."""
        ...

    def unmap(self, pointer: int) -> None:
        """Unmaps an allocation that `open` mapped."""
        ...

    def staging(self, size_bytes: int) -> NDArray[np.uint8]:
        """Host memory for `copy`, page-locked on a GPU."""
        ...

    def copy(self, pointer: int, source: NDArray[np.uint8]) -> None:
        """Enqueues a copy to the device on this object's own stream; `source` must not change until the copy is complete."""
        ...

    def fill(self, pointer: int, value: int, size_bytes: int) -> None:
        """Sets bytes; complete on return. No pending work may use this memory."""
        ...

    def write(self, pointer: int, data: bytes) -> None:
        """Copies a few bytes to the device; complete on return."""
        ...

    def read(self, pointer: int, size_bytes: int) -> bytes:
        """Copies a few bytes from the device; complete on return."""
        ...

    def launch(self, kernel: Callable[[], object]) -> None:
        """Calls `kernel`, which enqueues kernels on streams of its own or of this thread; a simulated device calls it later."""
        ...

    def streams(self) -> tuple[int, ...]:
        """The default streams of this thread's kernels: the current streams of all loaded array libraries.

        Raises RingError while one of them is captured into a graph: captured work runs later, whenever the graph is launched, so no
        marker could tell when it is complete.
        """
        ...

    def mark(self, stream: int | None = None) -> Marker:
        """Marks the present end of `stream`; None is the stream of `copy`."""
        ...

    def done(self, marker: Marker) -> bool:
        """Whether all work before `marker` is complete. Raises RingError for a stale marker, and when the work failed."""
        ...

    def forget(self, marker: Marker) -> None:
        """Returns the marker's event for reuse; afterwards `marker` is stale."""
        ...

    @property
    def outstanding(self) -> int:
        """Number of markers made and not yet forgotten."""
        ...

    def view(self, pointer: int, shape: tuple[int, ...], dtype: str, strides: tuple[int, ...] | None, owner: object) -> Any:
        """An array over device memory, without a copy, with DLPack; it keeps `owner` alive."""
        ...


@runtime_checkable
class OnDevice(Protocol):
    """What tells a ring on a device from one in host memory; implementation: `device_ring.DeviceRing`."""

    @property
    def device(self) -> Device:
        """Where its payload is."""
        ...

    def operate(self, operation: Callable[[], Result]) -> Result:
        """Calls `operation`, which uses the device, while no other thread of this process does and the ring does not end."""
        ...

    def flush(self, timeout_s: float = 5.0) -> None:
        """Waits until nothing is pending; raises RingTimeout when the device takes longer."""
        ...


class Events(Generic[Event]):
    """A pool of reusable events that recognises stale markers."""

    def __init__(self, make: Callable[[], Event]) -> None:
        self._make = make
        self._session = int.from_bytes(os.urandom(7), "little")
        self._events: dict[int, Event] = {}
        self._serials: dict[int, int] = {}
        self._idle: list[int] = []
        self._numbers = itertools.count()

    @property
    def outstanding(self) -> int:
        """Number of markers made and not yet given back."""
        return len(self._events) - len(self._idle)

    def take(self) -> tuple[Marker, Event]:
        """Takes an event for one use; the caller records it."""
        try:
            index = self._idle.pop()
        except IndexError:
            event, index = self._make(), next(self._numbers)
            # No call in between: an exception of a signal handler (Ctrl-C) must not leave one without the other.
            self._events[index], self._serials[index] = event, 0
        self._serials[index] += 1
        return Marker(self._session, index, self._serials[index]), self._events[index]

    def of(self, marker: Marker) -> Event:
        """The event of a marker; raises RingError for a stale marker."""
        if marker.session != self._session:
            raise RingError("stale event: this marker was made by another device object; wait where it was made")
        if self._serials[marker.event] != marker.serial or marker.event in self._idle:
            raise RingError(f"stale event: use {marker.serial} of event {marker.event} is over, it says nothing any more")
        return self._events[marker.event]

    def give_back(self, marker: Marker) -> None:
        """Returns the event of a marker to the pool."""
        self.of(marker)
        self._idle.append(marker.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaNote:
    """The header note about a payload on a device: what a process needs to open it and to compute offsets in it."""

    kind: str
    identity: str
    generation: int
    size_bytes: int
    handle: bytes
    trajectory: TrajectorySpec
    """The whole schema: fields in host memory and fields on the device, in the order of the specification."""

    def encode(self) -> bytes:
        """Encodes it as JSON; fields in host memory only by name. Raises RingError when it does not fit into the header."""
        values = {
            "kind": self.kind,
            "identity": self.identity,
            "generation": self.generation,
            "size_bytes": self.size_bytes,
            "handle": self.handle.hex(),
            "fields": [f.name if in_host(f) else [f.name, list(f.shape), f.dtype] for f in self.trajectory.fields],
        }
        data = json.dumps(values, separators=(",", ":")).encode()
        if len(data) > MAX_NOTE_BYTES:
            raise RingError(
                f"{len(self.trajectory.fields)} fields need {len(data)} bytes of a ring's header, {MAX_NOTE_BYTES} are there: "
                "join fields of one kind into one array"
            )
        return data

    @classmethod
    def decode(cls, data: bytes, control: TrajectorySpec) -> ArenaNote:
        """The inverse of `encode`; `control` is the schema of the fields in host memory. Raises RingError for other data."""
        try:
            values = json.loads(data)
            fields = tuple(
                control.field(f) if isinstance(f, str) else Field(name=f[0], shape=tuple(f[1]), dtype=f[2])
                for f in values["fields"]
            )
            return cls(
                kind=values["kind"],
                identity=values["identity"],
                generation=values["generation"],
                size_bytes=values["size_bytes"],
                handle=bytes.fromhex(values["handle"]),
                trajectory=TrajectorySpec(horizon=control.horizon, fields=fields),
            )
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise RingError(f"the ring's note about its device cannot be read ({error}): create the ring again") from error


def in_host(field: Field) -> bool:
    """Whether a field stays in host memory: scalars, texts and labels (rows of bytes), because code on the host reads them."""
    return field.shape == () or (field.dtype == "uint8" and len(field.shape) == 1)


def split(trajectory: TrajectorySpec) -> tuple[TrajectorySpec, TrajectorySpec]:
    """Splits a schema into fields in host memory and fields on the device; raises RingError if none are on the device."""
    host = tuple(f for f in trajectory.fields if in_host(f))
    arena = tuple(f for f in trajectory.fields if not in_host(f))
    if not arena:
        raise RingError("a ring on a device needs a field of numbers: all of these lie in host memory; use Ring.create")
    return TrajectorySpec(horizon=trajectory.horizon, fields=host), TrajectorySpec(horizon=trajectory.horizon, fields=arena)
