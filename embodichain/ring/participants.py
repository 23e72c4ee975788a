"""Who takes part in a ring, as a person is told: process id, start time, and what /proc says of both.

A row of the table holds one identity word: `state:2 | pid:22 | start:40`, the start in clock ticks since boot. The pair is a hint
for display and never a proof, for it means nothing in another pid namespace and survives `execve`: who is dead is told by the lock
of the row (`locks`). Time-outs prove nothing either: a stopped process wakes up and goes on writing.
"""

from __future__ import annotations

import hashlib
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
    """Of a participant: alive, alive but stopped (it makes no progress), or dead; DEAD is proven by its lock alone."""

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
        """What the /proc mounted here says of this process now; of one in another pid namespace it knows nothing."""
        status = _status(self.pid)
        if status is None or status.start != self.start or (status.letter in "ZXx" and status.num_threads <= 1):
            return Health.DEAD
        return Health.STOPPED if status.letter in "Tt" else Health.ALIVE


def myself(state: RowState = RowState.LIVE) -> Identity:
    """The calling process."""
    try:
        pid = int(Path("/proc/self").readlink().name)  # as the mounted /proc counts, which may be another namespace's than getpid's
    except OSError:
        pid = 0
    status = _status(pid)
    if status is None:
        raise RingError(
            "a ring needs to know its process in /proc, and /proc/self leads nowhere: mount the procfs of this pid namespace"
        )
    return Identity(state=state, pid=pid, start=status.start)


def domain() -> int:
    """Identifies where locks and clocks are shared: one boot of one kernel, and one offset of the monotonic clock.

    Processes of different pid namespaces are of one domain. Those of another time namespace are not: ages and waiting times would
    be wrong. Raises RingError when it cannot be known.
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
    # Without offsets the file names the clocks with zeros, or is missing: the same clock either way.
    shifted = [line.split() for line in clocks.splitlines() if any(int(number) for number in line.split()[1:])]
    return int.from_bytes(hashlib.blake2b(repr((boot, shifted)).encode(), digest_size=8).digest(), "little") >> 1


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
