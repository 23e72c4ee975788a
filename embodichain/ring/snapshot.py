"""Snapshots of a ring on disk, to resume a run: every trajectory with reads left, with its payload and count of reads.

The file has the line `EMBODICHAIN-RING 1`, the payloads, a msgpack index, and a trailer that locates the index. It is written under
another name and then renamed, so that a snapshot is complete or does not exist. Its writer locks it meanwhile, so that the next one
can remove what a killed writer left.
"""

from __future__ import annotations

import glob
import os
import secrets
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgpack
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring import layout
from embodichain.ring.budget import SlotWord
from embodichain.ring.layout import RingLayout
from embodichain.ring.lent import HeldReads
from embodichain.ring.locks import inode, names, try_lock
from embodichain.types import ReplayMode, RingSpec, TrajectorySpec

MAGIC = b"EMBODICHAIN-RING 1\n"
_TRAILER = struct.Struct("<QQ8s")
_TRAILER_MAGIC = b"RINGEND1"
_UNFINISHED = ".unfinished"
_LOCK_AT = 1 << 40
_pack: Any = msgpack.packb


Read = Callable[[int], memoryview]
"""Reads the payload of a slot, in the layout of host memory."""
Write = Callable[[int, memoryview], None]
"""Writes the payload of a slot; complete on return."""


class Claimed(Protocol):
    """A slot claimed for writing (`member.Claim`)."""

    slot: int
    version: int


class SnapshotObserver(Protocol):
    """The part of `stats.Observer` that a snapshot uses."""

    def header(self, at: int) -> int:
        """The header cell at a byte offset."""
        ...

    def cells(self, at: int) -> NDArray[np.uint64]:
        """A copy of one cell of every slot."""
        ...

    def cell(self, slot: int, at: int) -> int:
        """One cell of one slot."""
        ...


class SnapshotMember(Protocol):
    """The part of `member.Member` that a snapshot uses."""

    @property
    def observer(self) -> SnapshotObserver:
        """The observer of the ring."""
        ...

    def pin(self, slot: int) -> HeldReads | None:
        """Keeps a READY slot from being rewritten without using a read; None when it is not READY."""
        ...

    def unpin(self, pinned: HeldReads) -> None:
        """Ends a pin."""
        ...

    def claim(self, timeout_s: float) -> Claimed:
        """Claims a slot for writing; the claim must be kept until the slot is published."""
        ...

    def republish(self, slot: int, version: int, *, trajectory_id: int, reads: int, remaining: int, published_ns: int) -> None:
        """Publishes a restored trajectory that was read `reads` times before, with `remaining` reads left."""
        ...


def save(member: SnapshotMember, spec: RingSpec, path: Path, read: Read) -> int:
    """Writes a snapshot while the ring is in use; returns the number of trajectories in it.

    Each slot is pinned while it is copied: it can be read but not rewritten. Reads drawn before the copy count as made. K must not
    change meanwhile.
    """
    observer, slot_bytes = member.observer, RingLayout.of(spec).slot_bytes
    aggregate, max_reads = spec.mode is ReplayMode.AGGREGATE, observer.header(layout.AT_MAX_READS)
    _remove_unfinished(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_UNFINISHED}")
    entries: list[dict[str, int]] = []
    try:
        # As private as the ring itself, whatever the umask.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            with suppress(RingError):  # a file system without these locks: then leftovers cannot be told and stay
                try_lock(file.fileno(), _LOCK_AT)
            file.write(MAGIC)
            for slot in np.argsort(observer.cells(layout.SLOT_SEQUENCE), kind="stable").tolist():
                if (pinned := member.pin(slot)) is None:
                    continue
                try:
                    word = SlotWord.unpack(observer.cell(slot, layout.SLOT_WORD))
                    reads = observer.cell(slot, layout.SLOT_READS if aggregate else layout.SLOT_BOUND)
                    reads -= 0 if aggregate else word.remaining
                    # A participant that was stopped while publishing may have published with an earlier, higher K.
                    left = min(word.remaining, max_reads if aggregate else max_reads - reads)
                    if left > 0:
                        payload = read(slot)
                        entries.append(
                            {
                                "at": file.tell(),
                                "crc": zlib.crc32(payload),
                                "remaining": left,
                                "reads": reads,
                                "trajectory_id": observer.cell(slot, layout.SLOT_TRAJECTORY),
                                "age_ns": time.monotonic_ns() - observer.cell(slot, layout.SLOT_PUBLISHED_NS),
                            }
                        )
                        file.write(payload)
                finally:
                    member.unpin(pinned)
            current = replace(spec, max_reads=max_reads)
            counts = {
                "drawn": observer.header(layout.AT_DRAWN),
                "refill": observer.header(layout.AT_REFILL),
                "sequence": observer.header(layout.AT_SEQUENCE),
                "primed": observer.header(layout.AT_PRIMED),
            }
            index: bytes = _pack(
                {"spec": layout.encode_spec(current), "slot_bytes": slot_bytes, "slots": entries, "counts": counts}
            )
            at = file.tell()
            file.write(index)
            file.write(_TRAILER.pack(at, zlib.crc32(index), _TRAILER_MAGIC))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise RingError(f"cannot write the snapshot {path}: {error.strerror}") from error
    return len(entries)


def _remove_unfinished(path: Path) -> None:
    """Removes what killed writers of this snapshot left; each may be as large as the ring."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}"):
        with suppress(OSError, RingError), left.open("r+b") as file:  # removed meanwhile, or of another user
            if try_lock(file.fileno(), _LOCK_AT) and names(left, inode(file.fileno())):
                left.unlink()


class Index(NamedTuple):
    """The index of a snapshot: the ring's specification, one entry for each trajectory, and the counts of aggregate mode."""

    spec: RingSpec
    entries: list[Mapping[str, int]]
    counts: Mapping[str, int]


def read_index(path: Path, trajectory: TrajectorySpec | None = None) -> Index:
    """Reads the index; raises RingError if the file is missing, no snapshot, truncated, damaged, or not of schema `trajectory`."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise RingError(f"{path} is not a snapshot of a ring")
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TRAILER.size))
            trailer = file.read(_TRAILER.size)
            if len(trailer) < _TRAILER.size or trailer[-8:] != _TRAILER_MAGIC:
                raise RingError(f"the snapshot {path} is cut short: {size:,} bytes without its end; use an older one")
            at, crc, _ = _TRAILER.unpack(trailer)
            if at > size - _TRAILER.size:
                raise RingError(f"the snapshot {path} is damaged: its end names byte {at:,} of {size:,}; use an older one")
            file.seek(at)
            index = file.read(size - _TRAILER.size - at)
    except OSError as error:
        raise RingError(f"cannot read the snapshot {path}: {error.strerror}") from error
    if zlib.crc32(index) != crc:
        raise RingError(f"the snapshot {path} is damaged: its index fails the check sum; use an older one")
    values: dict[str, Any] = msgpack.unpackb(index)
    spec = layout.decode_spec(values["spec"])
    if trajectory is not None and spec.trajectory.schema_hash != trajectory.schema_hash:
        raise RingError(f"the snapshot {path} {layout.differ(spec.trajectory, trajectory)}")
    for entry in values["slots"]:
        reads, left = entry["reads"], entry["remaining"]
        if reads < 0 or not 1 <= left <= spec.max_reads - (0 if spec.mode is ReplayMode.AGGREGATE else reads):
            raise RingError(
                f"the snapshot {path} is damaged: trajectory {entry['trajectory_id']:#x} was read {reads} times and has {left} "
                f"reads left, although each is read {spec.max_reads} times; use an older one"
            )
    return Index(spec, values["slots"], values["counts"])


def load(member: SnapshotMember, header: NDArray[np.uint64], path: Path, index: Index, write: Write) -> None:
    """Fills an empty ring from a snapshot; raises RingError when a payload cannot be read or fails its check sum."""
    try:
        _load(member, header, path, index, write)
    except OSError as error:
        raise RingError(f"cannot read the snapshot {path}: {error.strerror}") from error


def _load(member: SnapshotMember, header: NDArray[np.uint64], path: Path, index: Index, write: Write) -> None:
    payload = memoryview(bytearray(RingLayout.of(index.spec).slot_bytes))
    header[layout.AT_DRAWN // 8], header[layout.AT_REFILL // 8] = index.counts["drawn"], index.counts["refill"]
    # Publication numbers serve as ids of trajectories without one, so they must not be reused after a restore: the counter
    # continues. Restored trajectories get the numbers just below it, in their old order, because eviction follows these numbers.
    # A ring that was primed stays primed, even with less than min_ready trajectories, as this may be the end of a stream.
    header[layout.AT_PRIMED // 8] = index.counts.get("primed", 0)
    header[layout.AT_SEQUENCE // 8] = max(0, index.counts.get("sequence", 0) - len(index.entries))
    with path.open("rb") as file:
        for entry in index.entries:
            claim = member.claim(0.0)
            file.seek(entry["at"])
            if file.readinto(payload) != len(payload) or zlib.crc32(payload) != entry["crc"]:
                raise RingError(f"the snapshot {path} is damaged: trajectory {entry['trajectory_id']:#x} fails its check sum")
            write(claim.slot, payload)
            member.republish(
                claim.slot,
                claim.version,
                trajectory_id=entry["trajectory_id"],
                reads=entry["reads"],
                remaining=entry["remaining"],
                published_ns=max(0, time.monotonic_ns() - entry["age_ns"]),
            )
