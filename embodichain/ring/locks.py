"""Proof of life, given by the kernel: open-file-description locks on single bytes of a ring's file.

The owner and every participant hold the lock of one byte each. A process id proves nothing across pid namespaces, and neither do
start times across `execve`; a lock falls when its holder can no longer touch the ring's memory, whatever namespace who looks is in.

The locked description is kept open by a mapping and not by a descriptor. So the lock lasts exactly as long as the address space:
it falls with death and with `execve`, no `close` elsewhere in the process drops it, and a forked child, which does not inherit the
mapping, does not keep its dead parent alive.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from pathlib import Path

from embodichain.errors import RingError

OWNER_AT = 1 << 40
"""The byte that the owner locks, far beyond the end of any file: locks need no content."""
_FIRST_ROW_AT = OWNER_AT + 1
_FLOCK = struct.Struct("@hhqqi4x")
_DONT_FORK = 10
_MAP_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def row_at(row: int) -> int:
    """The byte that the participant in `row` locks."""
    return _FIRST_ROW_AT + row


def try_lock(descriptor: int, at: int) -> bool:
    """Locks one byte for the open file description behind `descriptor`, or finds it locked by another one."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise RingError(
            f"the file system of a ring must know open-file-description locks, the proof of who is alive: {error.strerror}; "
            "choose a path in /dev/shm"
        ) from error
    return True


def unlock(descriptor: int, at: int) -> None:
    """Ends a lock of this description."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, at, 1, 0))


def is_locked(descriptor: int, at: int) -> bool:
    """Whether another description holds the lock of a byte. A descriptor open for reading will do."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
    return _FLOCK.unpack(answer)[0] != fcntl.F_UNLCK


def inode(descriptor: int) -> tuple[int, int]:
    """Device and inode of an open file: what it is, whatever its name now leads to."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def names(path: Path, file: tuple[int, int]) -> bool:
    """Whether `path` leads to the file of this device and inode."""
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == file


class Hold:
    """One locked byte, held until `release` or the end of this address space."""

    def __init__(self, address: int) -> None:
        self._address = address
        self._pid = os.getpid()

    @classmethod
    def take(cls, descriptor: int, at: int) -> Hold | None:
        """Locks a byte, or None when somebody holds it. The caller has opened `descriptor` for this alone, and closes it."""
        address = _libc.mmap(None, mmap.PAGESIZE, 0, mmap.MAP_SHARED, descriptor, 0)
        if address in (None, _MAP_FAILED):
            raise RingError(f"cannot map a page to hold a lock: {os.strerror(ctypes.get_errno())}")
        hold = cls(address)
        _libc.madvise(address, mmap.PAGESIZE, _DONT_FORK)
        if try_lock(descriptor, at):
            return hold
        hold.release()
        return None

    def release(self) -> None:
        """Lets go. Once more does nothing, nor does a forked child, which never had it."""
        address, self._address = self._address, 0
        if address and os.getpid() == self._pid:
            _libc.munmap(address, mmap.PAGESIZE)


class Witness:
    """Tells who holds which lock of one ring's file, and takes the locks of the dead. One for each attachment.

    Each answer is checked against device and inode first: a process that closed all its descriptors may have another file under
    the same number, of which nobody holds anything, and everybody would look dead.
    """

    def __init__(self, path: Path, file: tuple[int, int], *, writable: bool) -> None:
        self.path = path
        """The name of the file now."""
        self._file = file
        self._flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = -1
        if not self._ready():
            raise RingError(f"the ring at {path} was replaced while this process attached: attach again")

    def alive(self, at: int) -> bool:
        """Whether the lock is held. True also where it cannot be known any more, for nobody may be robbed without proof."""
        return not self._ready() or is_locked(self._descriptor, at)

    def owner_alive(self) -> bool:
        """Whether the ring's owner is."""
        return self.alive(OWNER_AT)

    def take(self, at: int) -> bool:
        """Locks the byte of a participant: success proves it dead, and keeps every other reaper and newcomer away."""
        return self._ready() and try_lock(self._descriptor, at)

    def drop(self, at: int) -> None:
        """Ends `take`."""
        unlock(self._descriptor, at)

    def hold(self, at: int) -> Hold | None:
        """Locks a byte for as long as this process lives; None when somebody holds it."""
        descriptor = self._open()
        if descriptor < 0:
            return None
        try:
            return Hold.take(descriptor, at)
        finally:
            os.close(descriptor)

    def unlink(self) -> bool:
        """Removes the name from the ring's file, if it still is that file's; for the owner, or who has proven it dead.

        Only the holder of the owner's lock removes the name, and no name is ever replaced: it cannot change in between.
        """
        if not names(self.path, self._file):
            return False
        self.path.unlink(missing_ok=True)
        return True

    def bury(self) -> None:
        """Removes the name of a ring whose owner is dead; does nothing while the owner lives."""
        if self.take(OWNER_AT):
            try:
                self.unlink()
            finally:
                self.drop(OWNER_AT)

    def close(self) -> None:
        """Gives the descriptor back, unless its number belongs to another file by now."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0 and _is(descriptor, self._file):
            os.close(descriptor)

    def _ready(self) -> bool:
        if self._descriptor < 0 or not _is(self._descriptor, self._file):
            self._descriptor = self._open()
        return self._descriptor >= 0

    def _open(self) -> int:
        """A fresh description of the same file, or -1 when its name is gone or leads elsewhere."""
        try:
            descriptor = os.open(self.path, self._flags)
        except OSError:
            return -1
        if inode(descriptor) == self._file:
            return descriptor
        os.close(descriptor)
        return -1

    def __del__(self) -> None:
        self.close()


def _is(descriptor: int, file: tuple[int, int]) -> bool:
    try:
        return inode(descriptor) == file
    except OSError:
        return False
