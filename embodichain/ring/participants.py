"""Who takes part in a ring, and the proof that somebody no longer does: process id and start time, a zombie counted as dead.

A row of the table holds one identity word: `state:2 | pid:22 | start:40`, the start in clock ticks since boot. The pair names a
process for ever: a recycled pid has another start. Time-outs prove nothing: a stopped process wakes up and goes on writing.
"""

from __future__ import annotations

import os
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import NamedTuple

from embodichain.errors import RingError

_PID_BITS, _START_BITS = 22, 40


class RowState(IntEnum):
    """Life of a row: FREE → LIVE → REAPING → FREE."""

    FREE = 0
    LIVE = 1
    REAPING = 2


class Health(StrEnum):
    """What /proc says about a process: alive, alive but stopped (it makes no progress), or provably dead."""

    ALIVE = "alive"
    STOPPED = "stopped"
    DEAD = "dead"


class Identity(NamedTuple):
    """One participant, or the one reaping it."""

    state: RowState
    pid: int
    start: int

    def pack(self) -> int:
        """As the 64-bit word of a row."""
        return self.state << (_PID_BITS + _START_BITS) | self.pid << _START_BITS | self.start

    @classmethod
    def unpack(cls, word: int) -> Identity:
        """The inverse of `pack`."""
        return cls(
            state=RowState(word >> (_PID_BITS + _START_BITS)),
            pid=word >> _START_BITS & ((1 << _PID_BITS) - 1),
            start=word & ((1 << _START_BITS) - 1),
        )

    def health(self) -> Health:
        """The process behind this identity, now. DEAD is final; the others may change at once."""
        status = _status(self.pid)
        if status is None or status.start != self.start or (status.letter in "ZXx" and status.num_threads <= 1):
            return Health.DEAD
        return Health.STOPPED if status.letter in "Tt" else Health.ALIVE


def myself(state: RowState = RowState.LIVE) -> Identity:
    """The calling process."""
    status = _status(os.getpid())
    if status is None:
        raise RingError("a ring needs /proc to tell the living from the dead, and /proc/self/stat cannot be read: mount procfs")
    return Identity(state=state, pid=os.getpid(), start=status.start)


def namespace() -> int:
    """Identifies the pid namespace and the boot: process ids mean nothing across either."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    return (int(boot, 16) ^ os.stat("/proc/self/ns/pid").st_ino) & ((1 << 63) - 1)  # noqa: PTH116


class _Status(NamedTuple):
    letter: str
    num_threads: int
    """Above 1 for a zombie whose other threads still run: a killed process's main thread may end first."""
    start: int


def _status(pid: int) -> _Status | None:
    """State letter, threads and start time [ticks] of a process from /proc, or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command in parentheses may itself hold spaces and parentheses: count fields from the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Status(letter=fields[0].decode(), num_threads=int(fields[17]), start=int(fields[19]))
