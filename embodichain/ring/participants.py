"""Identities of participants for display: process id, start time, and the state of the process in /proc.

A row of the table holds one identity word: `state:2 | pid:22 | start:40`, the start in clock ticks since boot. The identity proves
nothing, as it has no meaning in another pid namespace and survives `execve`. Only the lock of the row proves death (`locks`).
Time-outs prove nothing either: a stopped process may continue and write.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import NamedTuple

from embodichain.errors import RingError

_PID_BITS, _START_BITS = 22, 40


class RowState(IntEnum):
    """States of a row: FREE → LIVE → REAPING → FREE."""

    FREE = 0
    LIVE = 1
    REAPING = 2


class Health(StrEnum):
    """State of a participant: alive, alive but stopped (SIGSTOP or a debugger), or dead, which only its lock proves."""

    ALIVE = "alive"
    STOPPED = "stopped"
    DEAD = "dead"


class ParticipantIdentity(NamedTuple):
    """The identity of a participant, or of a process that reaps one."""

    state: RowState
    pid: int
    start: int

    def pack(self) -> int:
        """Packs it into the 64-bit word of a row."""
        return self.state << (_PID_BITS + _START_BITS) | self.pid << _START_BITS | self.start

    @classmethod
    def unpack(cls, word: int) -> ParticipantIdentity:
        """The inverse of `pack`."""
        return cls(
            state=RowState(word >> (_PID_BITS + _START_BITS)),
            pid=word >> _START_BITS & ((1 << _PID_BITS) - 1),
            start=word & ((1 << _START_BITS) - 1),
        )

    def health(self) -> Health:
        """State of the process in this pid namespace's /proc; processes of other namespaces are not found there."""
        status = _status(self.pid)
        if status is None or status.start != self.start or (status.letter in "ZXx" and status.num_threads <= 1):
            return Health.DEAD
        return Health.STOPPED if status.letter in "Tt" else Health.ALIVE


def myself(state: RowState = RowState.LIVE) -> ParticipantIdentity:
    """The identity of the calling process."""
    try:
        pid = int(Path("/proc/self").readlink().name)  # the mounted /proc may be of another pid namespace than getpid()
    except OSError:
        pid = 0
    status = _status(pid)
    if status is None:
        raise RingError(
            "a ring needs to know its process in /proc, and /proc/self leads nowhere: mount the procfs of this pid namespace"
        )
    return ParticipantIdentity(state=state, pid=pid, start=status.start)


def domain() -> int:
    """Identifies the machine and time namespace, within which locks and the monotonic clock are shared.

    It differs for each boot. Processes of different pid namespaces have the same domain; those of different time namespaces do not,
    as ages and waiting times would be wrong. Raises RingError when /proc cannot be read.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        offsets = Path("/proc/self/timens_offsets")
        clocks = offsets.read_bytes() if offsets.exists() else b""
        Path("/proc/self/stat").stat()
    except OSError as error:
        raise RingError(
            f"a ring needs /proc to know which clock it shares, and cannot read it ({error}): mount this pid namespace's procfs"
        ) from error
    # Without offsets, the file contains zeros or does not exist; both mean the same clock.
    shifted = [line.split() for line in clocks.splitlines() if any(int(number) for number in line.split()[1:])]
    return int.from_bytes(hashlib.blake2b(repr((boot, shifted)).encode(), digest_size=8).digest(), "little") >> 1


class _Status(NamedTuple):
    letter: str
    num_threads: int
    """Number of threads; above 1 for a zombie whose other threads still run, as the main thread may end first when killed."""
    start: int


def _status(pid: int) -> _Status | None:
    """State letter, threads and start time [ticks] of a process from /proc, or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name may contain spaces and parentheses, so fields are counted from the last closing parenthesis.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Status(letter=fields[0].decode(), num_threads=int(fields[17]), start=int(fields[19]))
