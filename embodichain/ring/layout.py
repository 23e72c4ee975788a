"""Byte offsets in a ring's file: header, specification, participants, hints, slot words, payload.

All numbers are little-endian 64-bit cells. The constants are compiled into the kernels and shared by every process that maps the
ring; changing any of them changes `ABI`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.types.rings import FullPolicy, ReplayMode, RingSpec
from embodichain.types.trajectories import Field, TrajectorySpec

MAGIC = 0x474E_4952_4F42_4D45
"""The bytes b"EMBORING"."""
ABI = 4
"""Raised whenever the layout or the protocol changes: two builds with different ABI never share a ring."""
MAX_READERS = 32
"""Participants that may read: each has one holder bit in the control word. They use the first rows of the participants table."""
MAX_WRITERS = 128
"""Participants that only write. They need no bit, because the word holds the row number of a slot's single writer."""
MAX_PARTICIPANTS = MAX_READERS + MAX_WRITERS

# Header cells that the owner writes once, before the file gets its name.
AT_MAGIC = 0
AT_ABI = 8
AT_SCHEMA = 16
AT_GENERATION = 24
AT_NUM_SLOTS = 32
AT_SLOT_BYTES = 40
AT_TOTAL_BYTES = 48
AT_PAYLOAD = 56
AT_OWNER = 64
AT_NAMESPACE = 72
AT_FULL_POLICY = 80
AT_MIN_READY = 88
AT_DEBUG = 96
AT_SPEC_BYTES = 104
AT_CREATED_NS = 112
AT_AGGREGATE = 120
# Header cells that change. Cells with different writers are in different pairs of cache lines (128 B), to avoid false sharing.
AT_CLOSED = 512
AT_MAX_READS = 640
AT_BUDGET_EPOCH = 648
AT_PRIMED = 768
AT_READY_EVENT = 896
AT_READY_WAITING = 904
AT_FREE_EVENT = 1024
AT_FREE_WAITING = 1032
AT_SEQUENCE = 1152
AT_DRAWN = 1280
"""Aggregate mode: draws since the last refill was requested."""
AT_REFILL = 1408
"""Aggregate mode: trajectories that writers may still replace in the current refill."""
AT_OLDEST = 1536
"""Sequence number at which the search for the trajectory to evict begins: none before it is READY without readers."""
AT_NOTE_BYTES = 2040
"""Length [bytes] of the note that describes a payload on a device; 0 if the payload is in the ring's file."""
AT_NOTE = 2048

HEADER_BYTES = 4096
ROW_BYTES = 256
ORDER_SPAN = 2
"""Cells a slot in the circular order of publication: a place is overwritten after ORDER_SPAN x num_slots further publications."""
SLOT_STRIDE = 128
"""Bytes from one slot's word to the next: two cache lines, because the x86 prefetcher loads lines in pairs."""
FIELD_ALIGNMENT = 64
SLOT_ALIGNMENT = 128
PAYLOAD_ALIGNMENT = 2 * 1024 * 1024

# Cells of a participant's row. Only the participant itself writes them, except the word.
ROW_WORD = 0
ROW_ACTIVE_NS = 8
ROW_WAITING = 16
ROW_PUBLISHING = 24
ROW_PUBLISHED = 64
ROW_ACQUIRED = 72
ROW_RELEASED = 80
ROW_ABANDONED = 88
ROW_EVICTED = 96
ROW_RETIRED = 104
ROW_REAPED = 112
ROW_REAPED_SLOTS = 120
ROW_BLOCKED_WRITER_NS = 128
ROW_BLOCKED_READER_NS = 136
ROW_OVER_READS = 144
ROW_REFUSED = 152

WAITING_NOT, WAITING_READER, WAITING_WRITER = 0, 1, 2

# Cells of a slot besides its word. Only the process that holds the slot exclusively writes them, except the count SLOT_READS.
SLOT_WORD = 0
SLOT_SEQUENCE = 8
SLOT_PUBLISHED_NS = 16
SLOT_TRAJECTORY = 24
SLOT_READS = 32
SLOT_BOUND = 40
SLOT_CEILING = 48
SLOT_CLAIMED_NS = 56

POISON = 0xFF
"""Value of every byte of a retired slot in debug mode: NaN in floats, -1 in signed integers."""


def align(value: int, alignment: int) -> int:
    """The smallest multiple of `alignment` that is not below `value`."""
    return -(-value // alignment) * alignment


@dataclass(frozen=True, slots=True, kw_only=True)
class RingLayout:
    """The byte offsets of one ring; they depend only on its specification."""

    trajectory: TrajectorySpec
    num_slots: int
    field_offsets: tuple[int, ...]
    slot_bytes: int
    participants_at: int
    ready_hints_at: int
    free_hints_at: int
    words_at: int
    order_at: int
    payload_at: int
    total_bytes: int

    @classmethod
    def of(cls, spec: RingSpec) -> RingLayout:
        """The layout of a ring of this specification."""
        offsets, cursor = [], 0
        for entry in spec.trajectory.fields:
            cursor = align(cursor, FIELD_ALIGNMENT)
            offsets.append(cursor)
            cursor += entry.size_bytes
        slot_bytes = align(max(cursor, 1), SLOT_ALIGNMENT)
        participants_at = align(HEADER_BYTES + len(encode_spec(spec)), HEADER_BYTES)
        ready_hints_at = participants_at + MAX_PARTICIPANTS * ROW_BYTES
        hint_bytes = align(align(spec.num_slots, 64) // 8, SLOT_STRIDE)
        free_hints_at = ready_hints_at + hint_bytes
        words_at = free_hints_at + hint_bytes
        order_at = words_at + spec.num_slots * SLOT_STRIDE
        payload_at = align(order_at + spec.num_slots * ORDER_SPAN * 8, PAYLOAD_ALIGNMENT)
        return cls(
            trajectory=spec.trajectory,
            num_slots=spec.num_slots,
            field_offsets=tuple(offsets),
            slot_bytes=slot_bytes,
            participants_at=participants_at,
            ready_hints_at=ready_hints_at,
            free_hints_at=free_hints_at,
            words_at=words_at,
            order_at=order_at,
            payload_at=payload_at,
            total_bytes=align(payload_at + spec.num_slots * slot_bytes, HEADER_BYTES),
        )

    def payload(self, memory: NDArray[np.uint8], slot: int) -> NDArray[np.uint8]:
        """A view of the bytes of one slot, [slot_bytes]."""
        start = self.payload_at + slot * self.slot_bytes
        return memory[start : start + self.slot_bytes]

    def buffer(self, memory: NDArray[np.uint8], slot: int) -> memoryview:
        """The same bytes as a memoryview, for files and check sums."""
        start = self.payload_at + slot * self.slot_bytes
        return memoryview(memory.data)[start : start + self.slot_bytes]

    def views(self, memory: NDArray[np.uint8], slot: int, *, writable: bool) -> dict[str, NDArray]:
        """Every field of one slot, as views of the ring's memory."""
        start, views = self.payload_at + slot * self.slot_bytes, {}
        for entry, offset in zip(self.trajectory.fields, self.field_offsets, strict=True):
            # Each field gets its own base object: slices and tensors made from it keep a reference to the base, by which debug mode
            # finds views that outlive a lease (`Ring._look_for_kept_views`).
            data = memory.data[start + offset : start + offset + entry.size_bytes]
            base = np.frombuffer(data, entry.dtype) if data else np.empty(0, entry.dtype)
            view = base.reshape(entry.shape)
            view.flags.writeable = writable
            views[entry.name] = view
        return views


def encode_spec(spec: RingSpec) -> bytes:
    """The ring's specification as JSON. It is written after the header, so that observers need only the file."""
    return json.dumps(asdict(spec), separators=(",", ":")).encode()


def decode_spec(data: bytes) -> RingSpec:
    """The inverse of `encode_spec`; raises ValueError, KeyError or TypeError for other data."""
    values: Mapping = json.loads(data)
    fields = tuple(Field(name=f["name"], shape=tuple(f["shape"]), dtype=f["dtype"]) for f in values["trajectory"]["fields"])
    return RingSpec(
        trajectory=TrajectorySpec(horizon=values["trajectory"]["horizon"], fields=fields),
        num_slots=values["num_slots"],
        max_reads=values["max_reads"],
        full_policy=FullPolicy(values["full_policy"]),
        min_ready=values["min_ready"],
        mode=ReplayMode(values["mode"]),
    )


def describe(trajectory: TrajectorySpec) -> str:
    """Describes a schema, for messages."""
    fields = ", ".join(f"{f.name} {f.dtype}{list(f.shape)}" for f in trajectory.fields)
    return f"horizon {trajectory.horizon} with {fields}"


def differ(held: TrajectorySpec, asked: TrajectorySpec) -> str:
    """Describes the difference of two schemas, for messages."""
    return f"holds trajectories of {describe(held)}, asked for {describe(asked)}"
