"""The journal of a gateway: a locked file with a record of every delivery, from which its successor continues.

Records have 32 bytes. The last 8 are the kind, and kind 0 ends the journal, so that an incomplete record is not read. Room is
reserved in advance, so that a full disk shows before anything is published and not after it.
"""

from __future__ import annotations

import itertools
import os
import secrets
import stat
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from embodichain.errors import RingError, RingTimeout
from embodichain.ring.locks import Hold, inode, names, opening, try_lock, watch_forks
from embodichain.ring.unique import Unique
from embodichain.types import MOST_TOGETHER

ROOM = 8192
"""Smallest number of records for which room is reserved: 256 KiB."""
RECORD = struct.Struct("<QQQQ")
UNFINISHED = ".unfinished"
_LEAST = 2 * MOST_TOGETHER + 2
"""Room for the intents and outcomes of one batch, and for the end."""
_LOCK_AT = 1 << 40


class RecordKind(IntEnum):
    """What a record states about a trajectory.

    BEFORE means that all of its worker and epoch up to it were delivered. RING names the ring whose gateway's journal it is, by its
    generation in place of an id.
    """

    INTENT = 1
    DONE = 2
    UNDONE = 3
    FORFEIT = 4
    BEFORE = 5
    RING = 6


class JournalRecord(NamedTuple):
    """One record: the trajectory's packed id and, for an INTENT, its slot and the slot's control word."""

    packed: int
    place: int
    before: int
    kind: int


class _File(NamedTuple):
    """An open file of records: its descriptor, the lock on it, and the number of records for which it has room."""

    descriptor: int
    hold: Hold
    room: int

    def write(self, records: Sequence[JournalRecord], at: int) -> None:
        """Writes records, and an empty one after them, from record `at` on; raises OSError."""
        # What a failed attempt has left behind is cut off by the empty record.
        data, place = b"".join(RECORD.pack(*record) for record in records) + bytes(RECORD.size), at * RECORD.size
        while data:
            written = os.pwrite(self.descriptor, data, place)
            data, place = data[written:], place + written

    def end(self) -> None:
        """Closes and unlocks it."""
        os.close(self.descriptor)
        self.hold.release()


class Journal(Unique):
    """An open journal, locked by this process while it lives. For one thread.

    Args:
        path: The file; created when missing.
        timeout_s: How long to wait for another process to release it [s].

    Raises:
        RingTimeout: Another living process has it.
        RingError: It cannot be opened, or there is no room for it.
    """

    instead = "one process holds it, and another opens its path when that has died"

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self.path = path
        self._end = 0
        self._file: _File | None = _File(*_open(path, timeout_s), room=0)
        try:
            self.records = _read(self._file.descriptor)
            """The records that it held when it was opened."""
            self._end = len(self.records)
            self._file = self._file._replace(room=self._reserve(self._file.descriptor))
        except BaseException:
            self.close()
            raise

    @property
    def room(self) -> int:
        """Number of records that fit before it must be trimmed; one more place is kept for the end."""
        return self._open().room - self._end - 1

    def append(self, records: Sequence[JournalRecord]) -> None:
        """Writes complete records in one piece; on failure raises RingError, and the journal is unchanged."""
        file = self._open()
        try:
            file.write(records, self._end)
        except OSError as error:
            with suppress(OSError):  # a successor is not to read what was written in part
                file.write((), self._end)
            raise RingError(f"cannot write the journal {self.path}: {error.strerror}") from error
        self._end += len(records)

    def trim(self, records: list[JournalRecord]) -> None:
        """Atomically replaces the journal's content by `records`, with room for as many more; raises RingError on failure."""
        old = self._open()
        # A new name for each attempt: under an old one there may be longer content, whose rest would follow the new records.
        unfinished = self.path.with_name(f"{self.path.name}.{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED}")
        new = _File(*_open(unfinished, 0.0), room=max(ROOM, 2 * len(records)))
        try:
            _allocate(new.descriptor, new.room, self.path)
            new.write(records, 0)
            unfinished.replace(self.path)
            self._file, self._end = new, len(records)
        except BaseException as error:
            if names(self.path, inode(new.descriptor)):  # an interrupt came after it had become the journal
                self._file, self._end = new, len(records)
                raise
            unfinished.unlink(missing_ok=True)
            new.end()
            if isinstance(error, OSError):
                raise RingError(f"cannot trim the journal {self.path}: {error.strerror}") from error
            raise
        old.end()

    def close(self) -> None:
        """Closes and unlocks the journal; safe to call twice."""
        file, self._file = self._file, None
        if file is not None:
            file.end()

    def _open(self) -> _File:
        if self._file is None:
            raise RingError(f"the journal {self.path} was closed by this process")
        return self._file

    def _reserve(self, descriptor: int) -> int:
        """The number of records for which there is room: what was reserved before is kept, as a full disk has no more."""
        there, wanted = os.fstat(descriptor).st_size // RECORD.size, max(ROOM, self._end + ROOM // 2)
        if there < wanted:
            try:
                _allocate(descriptor, wanted, self.path)
            except RingError:
                if there < self._end + _LEAST:
                    raise
                return there
        return max(there, wanted)


def _read(descriptor: int) -> list[JournalRecord]:
    data = bytearray()
    while block := os.pread(descriptor, 1 << 20, len(data)):
        data += block
    whole = memoryview(data)[: len(data) // RECORD.size * RECORD.size]
    return list(itertools.takewhile(lambda record: record.kind, map(JournalRecord._make, RECORD.iter_unpack(whole))))


def _allocate(descriptor: int, room: int, path: Path) -> None:
    try:
        os.posix_fallocate(descriptor, 0, room * RECORD.size)
    except OSError as error:
        raise RingError(f"no room for {room * RECORD.size:,} bytes of the journal {path}: {error.strerror}") from error


def remove_if_free(path: Path) -> bool:
    """Removes a journal of this user that no living process holds; returns whether it did."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # removed meanwhile, owned by another user, or no regular file
    try:
        # While we hold the lock, a new gateway waits, and finds then that the name is gone.
        if not _is_ours(descriptor) or not try_lock(descriptor, _LOCK_AT) or not names(path, inode(descriptor)):
            return False
        path.unlink()
        return True
    except (OSError, RingError):  # a file system without these locks cannot tell who is alive
        return False
    finally:
        os.close(descriptor)


def _is_ours(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _open(path: Path, timeout_s: float) -> tuple[int, Hold]:
    """Opens and locks the journal. The kernel drops the lock when a process ends, so its new holder knows that it is dead."""
    deadline = time.monotonic() + timeout_s
    watch_forks()
    while True:
        with opening:
            descriptor, hold = _attempt(path)
        if hold is not None:
            return descriptor, hold
        os.close(descriptor)
        if time.monotonic() >= deadline:
            raise RingTimeout(f"another process is the gateway of {path}: end it, or use another journal")
        time.sleep(0.02)


def _attempt(path: Path) -> tuple[int, Hold | None]:
    """Opens the file and tries to lock it; without a lock if another process has it, or has just put another file in its place."""
    # A journal may lie in a folder where everybody can write: what another user put there under its name is not followed or used.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags | os.O_CREAT, 0o600)
        locking = os.open(path, flags)
    except OSError as error:
        raise RingError(f"cannot open the journal {path}: {error.strerror}; choose a writable path") from error
    try:
        if not _is_ours(descriptor):
            raise RingError(f"{path} is no file of this user, so it cannot be the journal: remove it, or choose another path")
        hold = Hold.take(locking, _LOCK_AT)
        # The previous holder may have trimmed the journal after we opened it; the name then belongs to another file.
        if hold is not None and not (names(path, inode(descriptor)) and inode(locking) == inode(descriptor)):
            hold.release()
            hold = None
        return descriptor, hold
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        os.close(locking)


def settled(records: Iterable[JournalRecord]) -> tuple[list[JournalRecord], list[JournalRecord]]:
    """The records of outcomes, and each INTENT that no outcome follows, in order."""
    outcomes: list[JournalRecord] = []
    pending: dict[int, JournalRecord] = {}
    for record in records:
        if record.kind == RecordKind.INTENT:
            pending[record.packed] = record
            continue
        pending.pop(record.packed, None)
        if record.kind in (RecordKind.DONE, RecordKind.FORFEIT, RecordKind.BEFORE):
            outcomes.append(record)
    return outcomes, list(pending.values())
