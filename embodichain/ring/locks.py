"""Proof of life by the Linux kernel: open-file-description locks on single bytes of a ring's file.

The owner and every participant hold the lock of one byte each. Process ids are meaningless across pid namespaces, and start times
do not change on `execve`. A lock, in contrast, is dropped exactly when its holder can no longer access the ring's memory, and can
be queried from any namespace.

The locked file description is kept open by a memory mapping and not by a descriptor. So the lock lasts exactly as long as the
address space: it ends with death and with `execve`, no `close` elsewhere in the process drops it, and a forked child, which does
not inherit the mapping, does not make its dead parent look alive.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import mmap
import os
import struct
import threading
from pathlib import Path

from embodichain.errors import RingError

OWNER_AT = 1 << 40
"""Offset of the byte that the owner locks. It is far beyond the end of the file, which is allowed, so that no data are affected."""
_FIRST_ROW_AT = OWNER_AT + 1
_FLOCK = struct.Struct("@hhqqi4x")
_DONT_FORK = 10
_MAP_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


opening = threading.RLock()
"""To be held from opening a file until its descriptor is closed, if a byte of it is locked for `Hold`: see `watch_forks`."""


@functools.cache
def watch_forks() -> None:
    """Registers hooks, once: a fork waits until no thread is `opening`.

    A child inherits all descriptors. If another thread forked between lock and `close`, the child would have a descriptor of
    the locked description, so that its dead parent would look alive. A fork by the thread that is opening, in a signal handler for
    example, cannot wait, so that there it remains possible.
    """
    os.register_at_fork(before=opening.acquire, after_in_parent=opening.release, after_in_child=opening.release)


def row_at(row: int) -> int:
    """Offset of the byte that the participant in `row` locks."""
    return _FIRST_ROW_AT + row


def try_lock(descriptor: int, at: int) -> bool:
    """Locks one byte for the open file description of `descriptor`; False if another description has locked it."""
    try:
        # Not a plain POSIX lock: those belong to the process and are lost when it closes any descriptor of the file.
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
    """Drops a lock of this description."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, at, 1, 0))


def is_locked(descriptor: int, at: int) -> bool:
    """Whether another description has locked a byte; works with a read-only descriptor."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
    return _FLOCK.unpack(answer)[0] != fcntl.F_UNLCK


def inode(descriptor: int) -> tuple[int, int]:
    """Device and inode of an open file, which identify it even if its name has been reused."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def names(path: Path, file: tuple[int, int]) -> bool:
    """Whether `path` is the file with this device and inode."""
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == file


class Hold:
    """One locked byte, until `release`, or until nobody refers to this object, or the end of this address space.

    The address of the mapping that keeps the lock is stored and forgotten by the same C call that maps and unmaps it, because an
    exception of a signal handler (Ctrl-C) may come between any two calls.
    """

    def __init__(self) -> None:
        self._addresses: list[int | None] = []
        self._pid = os.getpid()

    @classmethod
    def take(cls, descriptor: int, at: int) -> Hold | None:
        """Locks a byte; None if it is locked.

        `descriptor` must have been opened for this purpose only. The caller closes it, and holds `opening` meanwhile.
        """
        hold = cls()
        # The mapping keeps the file description, and with it the lock, alive after the descriptor is closed.
        arguments = (None, mmap.PAGESIZE, 0, mmap.MAP_SHARED, descriptor, 0)
        hold._addresses.extend(map(_libc.mmap, *((argument,) for argument in arguments)))
        if hold._addresses[0] in (None, _MAP_FAILED):
            hold.keep()
            raise RingError(f"cannot map a page to hold a lock: {os.strerror(ctypes.get_errno())}")
        _libc.madvise(hold._addresses[0], mmap.PAGESIZE, _DONT_FORK)  # a forked child must not keep the lock of its parent
        if try_lock(descriptor, at):
            return hold
        hold.release()
        return None

    @property
    def held(self) -> bool:
        """Whether neither `release` nor `keep` was called."""
        return bool(self._addresses)

    def keep(self) -> None:
        """From now on, only the end of this address space drops the lock."""
        self._addresses.clear()

    def release(self) -> None:
        """Drops the lock; safe to call twice. In a forked child it does nothing."""
        # The page is not mapped in a forked child (DONTFORK); its address may belong to something else there.
        if self._addresses and os.getpid() == self._pid:
            # `map` takes the address from the list and unmaps it in one call.
            any(map(_libc.munmap, map(self._addresses.pop, (0,)), (mmap.PAGESIZE,)))

    def __del__(self) -> None:
        self.release()


class Witness:
    """Queries the locks of one ring's file, and takes the locks of dead participants. One for each attachment.

    After `close` it can still be asked who is alive, and then opens the file for as long as that takes.

    Before each query it checks that its descriptor still is the ring's file. If the process has closed all descriptors, the number
    may have been reused for another file without locks, by which all participants would look dead.
    """

    def __init__(self, path: Path, file: tuple[int, int], *, writable: bool) -> None:
        self.path = path
        """The present name of the file."""
        self._file = file
        self._flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = -1
        self._closed = False
        if not self._ready():
            raise RingError(f"the ring at {path} was replaced while this process attached: attach again")

    def alive(self, at: int) -> bool:
        """Whether the lock is held. True if that is unknown, because slots are taken only from processes that are proven dead."""
        if not self._closed:
            return not self._ready() or is_locked(self._descriptor, at)
        descriptor = self._open()
        try:
            return descriptor < 0 or is_locked(descriptor, at)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def owner_alive(self) -> bool:
        """Whether the ring's owner is alive."""
        return self.alive(OWNER_AT)

    def take(self, at: int) -> bool:
        """Locks the byte of a participant. Success proves it dead, and excludes other reapers and new participants."""
        return not self._closed and self._ready() and try_lock(self._descriptor, at)

    def drop(self, at: int) -> None:
        """Drops a lock that `take` took."""
        unlock(self._descriptor, at)

    def hold(self, at: int) -> Hold | None:
        """Locks a byte while this process lives; None if it is locked."""
        watch_forks()
        with opening:
            descriptor = self._open()
            if descriptor < 0:
                return None
            try:
                hold = Hold.take(descriptor, at)  # assigned here: an exception after the call still closes the descriptor
            finally:
                os.close(descriptor)
        return hold

    def unlink(self) -> bool:
        """Removes the name of the ring's file, unless another file has it now. Only for the holder of the owner's lock.

        The name cannot change between check and removal: only that holder removes it, and names are never replaced.
        """
        if not names(self.path, self._file):
            return False
        self.path.unlink(missing_ok=True)
        return True

    def bury(self) -> None:
        """Removes the name of a ring if its owner is dead."""
        if self.take(OWNER_AT):
            try:
                self.unlink()
            finally:
                self.drop(OWNER_AT)

    def close(self) -> None:
        """Closes the descriptor, unless its number has been reused for another file."""
        self._closed = True
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0 and _is(descriptor, self._file):
            os.close(descriptor)

    def _ready(self) -> bool:
        if self._descriptor < 0 or not _is(self._descriptor, self._file):
            self._descriptor = self._open()
        return self._descriptor >= 0

    def _open(self) -> int:
        """Opens a new description of the same file; -1 if its name is gone or names another file."""
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
