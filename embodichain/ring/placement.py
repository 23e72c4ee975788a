"""Where a ring's payload lies when it is not the ring's own file: the seam to a device, and the note that leads to its arena.

The control plane (words, participants, statistics) stays in host memory wherever the payload is. A device holds one arena for all
slots; the owner allocates it and exports it once, and the handle travels in the header of the ring's file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.types import Field, TrajectorySpec

MAX_NOTE_BYTES = 2048
ARENA_HEADER_BYTES = 4096
"""First page of an arena: the ring's generation in its first 8 bytes, so that a handle to other memory is found out."""
HANDLE_BYTES = 64

Event = TypeVar("Event")


class Marker(NamedTuple):
    """A position in a stream: everything enqueued before it is complete once `Device.done` says so.

    Events are used again, so a marker names one use: an older marker of the same event is refused, not answered for the new use.
    """

    session: int
    event: int
    serial: int


class Device(Protocol):
    """Memory that work reaches late, by streams. Implementations: `ring.cuda.CudaDevice`, `ring.delayed.DelayedDevice`.

    Work of one stream runs in order, streams among each other in any. Streams are raw handles (`cudaStream_t`). A device object
    belongs to one process; its methods may be called from any thread, one at a time (`DeviceRing` locks).
    """

    kind: str
    """Name of the implementation; owner and attachments must agree."""

    @property
    def identity(self) -> str:
        """Names the physical device, the same in every process (PCI bus id)."""
        ...

    def allocate(self, size_bytes: int) -> int:
        """Reserves memory: its address. Raises RingError with the bytes asked for and there."""
        ...

    def free(self, pointer: int) -> None:
        """Ends an allocation; every other process must have unmapped it."""
        ...

    def export(self, pointer: int) -> bytes:
        """A handle of at most 64 bytes by which other processes open the allocation. It dies with this process."""
        ...

    def open(self, handle: bytes) -> int:
        """Maps another process's allocation: its address here. Raises RingError when its owner is gone."""
        ...

    def unmap(self, pointer: int) -> None:
        """Ends what `open` began."""
        ...

    def staging(self, size_bytes: int) -> NDArray[np.uint8]:
        """Host memory that `copy` reads at full speed (pinned)."""
        ...

    def copy(self, pointer: int, source: NDArray[np.uint8]) -> None:
        """Enqueues a copy to the device on this object's own stream; `source` must stay as it is until the copy is complete."""
        ...

    def fill(self, pointer: int, value: int, size_bytes: int) -> None:
        """Sets bytes, complete on return. For memory that no work under way touches."""
        ...

    def write(self, pointer: int, data: bytes) -> None:
        """Copies a few bytes to the device, complete on return."""
        ...

    def read(self, pointer: int, size_bytes: int) -> bytes:
        """Copies a few bytes from the device, complete on return."""
        ...

    def streams(self) -> tuple[int, ...]:
        """The streams on which this thread's kernels go by default: those of the array libraries that are loaded.

        Raises RingError while one of them is captured into a graph: what is enqueued then runs when the graph does, and no marker
        could tell when that is.
        """
        ...

    def mark(self, stream: int | None = None) -> Marker:
        """Marks the end of what is enqueued on `stream` (None: the stream of `copy`)."""
        ...

    def done(self, marker: Marker) -> bool:
        """Whether all before `marker` is complete. Raises RingError for a stale marker, and when the work failed."""
        ...

    def forget(self, marker: Marker) -> None:
        """Gives the marker's event back for another use; from then on `marker` is stale."""
        ...

    @property
    def outstanding(self) -> int:
        """Markers made and not yet forgotten."""
        ...

    def view(self, pointer: int, shape: tuple[int, ...], dtype: str, strides: tuple[int, ...] | None, owner: object) -> Any:
        """An array over device memory, without a copy, that speaks DLPack and keeps `owner` alive."""
        ...


class Events(Generic[Event]):
    """Events in use and for use again; tells a marker's own use of its event from every other."""

    def __init__(self, make: Callable[[], Event]) -> None:
        self._make = make
        self._session = int.from_bytes(os.urandom(7), "little")
        self._events: list[Event] = []
        self._serials: list[int] = []
        self._idle: list[int] = []

    @property
    def outstanding(self) -> int:
        """Markers made and not yet given back."""
        return len(self._events) - len(self._idle)

    def take(self) -> tuple[Marker, Event]:
        """An event for one use; the caller records it."""
        if not self._idle:
            self._events.append(self._make())
            self._serials.append(0)
            self._idle.append(len(self._events) - 1)
        index = self._idle.pop()
        self._serials[index] += 1
        return Marker(self._session, index, self._serials[index]), self._events[index]

    def of(self, marker: Marker) -> Event:
        """The event of a marker in use; raises RingError for any other marker."""
        if marker.session != self._session:
            raise RingError("stale event: this marker was made by another device object; wait where it was made")
        if self._serials[marker.event] != marker.serial or marker.event in self._idle:
            raise RingError(f"stale event: use {marker.serial} of event {marker.event} is over, it says nothing any more")
        return self._events[marker.event]

    def give_back(self, marker: Marker) -> None:
        """Ends a use."""
        self.of(marker)
        self._idle.append(marker.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaNote:
    """What the header says about a payload on a device: enough for anybody to open it and to lay a slot out."""

    kind: str
    identity: str
    generation: int
    size_bytes: int
    handle: bytes
    trajectory: TrajectorySpec
    """The whole schema: the fields of the ring's file and those of the arena, in the order of the specification."""

    def encode(self) -> bytes:
        """As JSON; raises RingError when it exceeds the header's room. Fields that the ring's file describes are named only."""
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
        """Reads what `encode` wrote; `control` is the schema of the ring's file. Raises RingError on anything else."""
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
    """Whether a field stays in the ring's file: scalars, and texts and labels (rows of bytes), for the host decides by them."""
    return field.shape == () or (field.dtype == "uint8" and len(field.shape) == 1)


def split(trajectory: TrajectorySpec) -> tuple[TrajectorySpec, TrajectorySpec]:
    """The schema of the ring's file and that of the arena; raises RingError when nothing is left for the arena."""
    host = tuple(f for f in trajectory.fields if in_host(f))
    arena = tuple(f for f in trajectory.fields if not in_host(f))
    if not arena:
        raise RingError("a ring on a device needs a field of numbers: all of these lie in host memory; use Ring.create")
    return TrajectorySpec(horizon=trajectory.horizon, fields=host), TrajectorySpec(horizon=trajectory.horizon, fields=arena)
