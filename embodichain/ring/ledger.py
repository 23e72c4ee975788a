"""The ledger: an append-only file of every publish and read of a run, by which the replay bound is proven afterwards (`proof`).

The file has the line `EMBODICHAIN-LEDGER 1`, then records of 40 bytes, each with a check sum. Several processes may append to it. A
process that dies while writing, or finds the disk full, leaves a torn record; readers find the next whole record by its check sum.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embodichain.errors import RingError
from embodichain.ring.contract import AnyLease
from embodichain.ring.unique import Unique

HEADER = b"EMBODICHAIN-LEDGER 1\n".ljust(40, b"\0")
RECORD = np.dtype(
    [
        ("trajectory_id", "<u8"),
        ("time_s", "<f8"),
        ("step", "<u4"),
        ("pairs", "<u4"),
        ("age_s", "<f4"),
        ("read_index", "<u2"),
        ("event", "u1"),
        ("read_index_high", "u1"),
        ("check", "<u8"),
    ]
)
"""`time_s` is Unix time; `pairs` the number of state-action pairs of the trajectory; `age_s` the time since publication at a read.
`read_indices` joins `read_index` and its upper byte.

For BOUND, `trajectory_id` holds the new K, or 0 if single trajectories are not bounded. For GIVEN_UP, the read index is the number
of reads that will never be made. For LIFE, the lowest byte of `trajectory_id` holds the first epoch of the process that begins, and
the others one more than its number; `step` holds its first iteration, and `pairs` one more than the number of the process whose
checkpoint it continues, or 0 for none. Ledgers of before have no numbers: there `pairs` is one more than the first epoch of that
process."""
MOST_READS = (1 << 24) - 1
"""The largest read index that a record can hold. It also stands for all beyond, which a ring in aggregate mode can reach."""
_BUFFERED_BYTES = 512 * RECORD.itemsize
_EPOCH_BITS = 8
_TAIL = 1000
"""Number of records at the end of a ledger that `last_step` searches."""


class Event(IntEnum):
    """The kind of a record."""

    PUBLISH = 1
    READ = 2
    BOUND = 3
    LIFE = 4
    GIVEN_UP = 5


class _Buffer:
    """Records to write, and the number of bytes that each system call has written of them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.written: list[int] = []

    def left(self) -> bytes:
        """The records that are not yet whole in the file. A torn one is written again, as another process may append after it."""
        return bytes(self.data[sum(size // RECORD.itemsize for size in self.written) * RECORD.itemsize :])


class Ledger(Unique):
    """Writes a ledger. For one thread. Buffers about 500 records: call `flush` or `close` before another process reads the file.

    After an error of `record`, `flush` or `sync` (a full disk, for example) no record is lost or doubled: call it again. A forked
    child has a copy of the buffer, which it must not write a second time: there these methods raise RingError, and `close` only
    closes the file.
    """

    instead = "open its path again, also in another process"

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path = path
        self._descriptor = descriptor
        self._buffer = _Buffer()
        self._pid = os.getpid()

    @classmethod
    def open(cls, path: Path | str) -> Ledger:
        """Opens a ledger for appending and creates it when missing.

        Raises:
            RingError: The file cannot be opened, or is something else.
        """
        path = Path(path)
        try:
            if not path.exists():
                _create(path)
        except OSError as error:
            raise RingError(f"cannot create the ledger {path}: {error.strerror}") from error
        descriptor = _open(path, os.O_RDWR | os.O_APPEND, "open")
        try:
            if os.pread(descriptor, len(HEADER), 0) != HEADER:
                raise RingError(f"{path} is not a ledger: choose another file")
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, path)

    def record(
        self,
        event: Event,
        trajectory_id: ArrayLike,
        *,
        read_index: ArrayLike = 0,
        step: int = 0,
        pairs: ArrayLike = 0,
        age_s: ArrayLike = 0.0,
        time_s: float | None = None,
    ) -> None:
        """Appends one record for every element of `trajectory_id` (the other arrays broadcast to it).

        Args:
            event: What happened.
            trajectory_id: Packed trajectory ids; for BOUND the K in force from now on.
            read_index: How often the trajectory had been read before; beyond `MOST_READS` that is recorded.
            step: The learner's iteration that reads.
            pairs: State-action pairs of the trajectory.
            age_s: Time since publication [s].
            time_s: Unix time; now by default.
        """
        self._check_process()
        ids = np.atleast_1d(np.asarray(trajectory_id, np.uint64))
        records = np.zeros(len(ids), RECORD)
        records["trajectory_id"] = ids
        records["time_s"] = time.time() if time_s is None else time_s
        records["step"] = step
        records["pairs"] = pairs
        records["age_s"] = age_s
        index = np.minimum(np.asarray(read_index, np.int64), MOST_READS)
        records["read_index"], records["read_index_high"] = index & 0xFFFF, index >> 16
        records["event"] = event
        records["check"] = _check(records)
        if len(self._buffer.data) + records.nbytes > _BUFFERED_BYTES:
            self.flush()
        self._buffer.data += records.tobytes()

    def publish(self, trajectory_id: ArrayLike, *, pairs: ArrayLike) -> None:
        """Records trajectories that became readable, with their state-action pairs."""
        self.record(Event.PUBLISH, trajectory_id, pairs=pairs)

    def read(self, lease: AnyLease, *, step: int, pairs: ArrayLike = 0) -> None:
        """Records every draw of a lease for the learner's iteration `step`."""
        self.record(Event.READ, lease.trajectory_ids, read_index=lease.read_indices, step=step, pairs=pairs, age_s=lease.ages_s)

    def bound(self, max_reads: int) -> None:
        """Records that K is `max_reads` from now on; 0 for a ring in aggregate mode, which bounds no single trajectory."""
        self.record(Event.BOUND, max_reads)

    def life(self, number: int, *, step: int, parent: int | None = None, epoch: int = 0) -> None:
        """Records that a process begins, from scratch or from the checkpoint of process `parent` before iteration `step`.

        Reads of later iterations by that process are undone, and so are processes in between that left no checkpoint. Processes are
        named by a `number`, 0 for the first, and not by the first `epoch` of their trajectories' ids, because epochs are used again
        after 256.
        """
        name = (number + 1) << _EPOCH_BITS | epoch
        self.record(Event.LIFE, name, step=step, pairs=0 if parent is None else parent + 1)

    def give_up(self, reads_left: Mapping[int, int], *, step: int) -> None:
        """Records trajectories, by packed id, that a resume at `step` could not restore, and the reads that they had left."""
        if reads_left:
            self.record(Event.GIVEN_UP, list(reads_left), read_index=list(reads_left.values()), step=step)

    def sync(self) -> None:
        """Writes the buffer and waits until it is on disk (fsync)."""
        self.flush()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise RingError(f"cannot write the ledger {self.path}: {error.strerror}") from error

    def flush(self) -> None:
        """Writes the buffer."""
        self._check_process()
        try:
            while data := self._buffer.left():
                # One C call writes and stores how much was written: an exception of a signal handler (Ctrl-C) cannot come between.
                self._buffer.written.extend(map(os.write, (self._descriptor,), (data,)))
        except OSError as error:
            raise RingError(f"cannot write the ledger {self.path}: {error.strerror}") from error
        self._buffer = _Buffer()

    def close(self) -> None:
        """Flushes and closes; safe to call twice. After an error the file is closed as well, and unwritten records are lost."""
        if self._descriptor < 0:
            return
        try:
            if os.getpid() == self._pid:  # the buffer of a forked child is its parent's to write
                self.flush()
        finally:
            descriptor, self._descriptor, self._buffer = self._descriptor, -1, _Buffer()
            os.close(descriptor)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise RingError(
                f"the ledger {self.path} was opened by process {self._pid}, and this is its forked child {os.getpid()}, with a "
                "copy of what the parent will write: open the path again"
            )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def load(path: Path | str) -> tuple[NDArray, int]:
    """All whole records of a ledger as a structured array of `RECORD`, and the number of damaged ones (torn ones do not count).

    Raises:
        RingError: The file is missing or no ledger.
    """
    path = Path(path)
    data = _read(path)
    if data[: len(HEADER)] != HEADER:
        raise RingError(f"{path} is not a ledger")
    runs, damaged, at, ahead = [], 0, len(HEADER), 1
    while len(data) - at >= RECORD.itemsize:
        records = np.frombuffer(data, RECORD, min(ahead, (len(data) - at) // RECORD.itemsize), at)
        wrong = np.flatnonzero(records["check"] != _check(records))
        sound = int(wrong[0]) if len(wrong) else len(records)
        runs.append(records[:sound])
        at += sound * RECORD.itemsize
        # Twice as many as were sound, so that the time is linear in the size, however many records are torn.
        ahead = 2 * ahead if sound == len(records) else max(16, sound)
        if sound == len(records):
            continue
        skip = _next_record(data, at)
        damaged += skip is None and len(data) - at >= 2 * RECORD.itemsize
        at += skip or RECORD.itemsize
    return np.concatenate([np.zeros(0, RECORD), *runs]), damaged


def read_indices(records: NDArray) -> NDArray[np.int64]:
    """The read index of every record, `MOST_READS` if it is that or more. Ledgers of before hold it modulo 65,536."""
    return records["read_index_high"].astype(np.int64) << 16 | records["read_index"]


def lives(records: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number and the first epoch of every life in the order of the records; the number is -1 in ledgers of before."""
    names = records["trajectory_id"][records["event"] == Event.LIFE].astype(np.int64)
    return (names >> _EPOCH_BITS) - 1, names & ((1 << _EPOCH_BITS) - 1)


def last_step(path: Path | str) -> int:
    """The learner's iteration of the last recorded read; 0 if there is none among the last thousand records.

    Raises:
        RingError: No ledger.
    """
    data = _read(Path(path), last_bytes=_TAIL * RECORD.itemsize)
    at = len(data) - RECORD.itemsize
    while at >= 0:
        sound = _is_record(data, at)
        if sound and (record := np.frombuffer(data, RECORD, 1, at)[0])["event"] == Event.READ:
            return int(record["step"])
        at -= RECORD.itemsize if sound else 1  # a torn record has an unknown length: search the previous one byte by byte
    return 0


def _open(path: Path, flags: int, purpose: str) -> int:
    """Opens a regular file; raises RingError for anything else, such as a named pipe, whose other end might never come."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise RingError(f"cannot {purpose} the ledger {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RingError(f"{path} is not a ledger: it is no regular file; choose another path")
    return descriptor


def _read(path: Path, last_bytes: int | None = None) -> bytes:
    """The content of a file, or its end without the header."""
    try:
        with open(_open(path, os.O_RDONLY, "read"), "rb") as file:
            if last_bytes is not None:
                file.seek(max(len(HEADER), file.seek(0, os.SEEK_END) - last_bytes))
            return file.read()
    except OSError as error:
        raise RingError(f"cannot read the ledger {path}: {error.strerror}") from error


def _create(path: Path) -> None:
    """Creates an empty ledger, mode 0600, atomically with its header; of several processes that try at once, one succeeds."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.unfinished")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(HEADER)
        os.link(unfinished, path)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink(missing_ok=True)


def _next_record(data: bytes, at: int) -> int | None:
    """How many bytes after `at` the next whole record begins, if that is less than the size of one."""
    ahead = np.frombuffer(data, np.uint8, min(2 * RECORD.itemsize - 2, len(data) - at - 1), at + 1)
    if len(ahead) < RECORD.itemsize:
        return None
    records = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(ahead, RECORD.itemsize)).view(RECORD)[:, 0]
    sound = np.flatnonzero(records["check"] == _check(records))
    return int(sound[0]) + 1 if len(sound) else None


def _is_record(data: bytes, at: int) -> bool:
    if len(data) - at < RECORD.itemsize:
        return False
    record = np.frombuffer(data, RECORD, 1, at)
    return bool(record["check"] == _check(record))


def _check(records: NDArray) -> NDArray[np.uint64]:
    """A 64-bit check sum of every record's 32 bytes: multiply, rotate, add."""
    words = np.ascontiguousarray(records).view(np.uint64).reshape(len(records), -1)[:, :4]
    total = np.full(len(records), 0x9E3779B97F4A7C15, np.uint64)
    for column in range(4):
        total = (total ^ words[:, column]) * np.uint64(0xBF58476D1CE4E5B9)
        total ^= total >> np.uint64(29)
    return total
