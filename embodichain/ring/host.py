"""The file of a ring in shared host memory (/dev/shm), mapped with mmap.

All its memory is reserved and touched before the file gets its final name. The owner holds a lock on the file during its whole
life: if the lock is free, the owner is dead. Only a process that holds the lock may remove the file's name, so that nobody removes
the ring of a living owner, or a new ring that has taken the name of an old one.

`multiprocessing.shared_memory` is not used: on Python 3.11 it unlinks the segment when an unrelated reader exits.
"""

from __future__ import annotations

import errno
import glob
import mmap
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring import journal, layout, pages
from embodichain.ring.locks import OWNER_AT, Hold, Witness, inode, names, opening, try_lock, watch_forks

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "embodichain-"
_JOURNAL = ".journal"
_UNFINISHED = journal.UNFINISHED
_POPULATE_READ, _POPULATE_WRITE = 22, 23


class RingFile(NamedTuple):
    """A ring's file in one process, mapped twice, and the `Witness` that tells which participants are alive."""

    memory: NDArray[np.uint8]
    """The writable mapping: control words, and trajectories being written."""
    readable: NDArray[np.uint8]
    """The same bytes, read-only, for reading trajectories, so that an in-place operation on a view fails instead of changing the
    data for all readers."""
    witness: Witness

    def touch(self, part: NDArray[np.uint8], start: int) -> None:
        """Fills the page tables from byte `start` on, if the kernel supports it; otherwise pages are filled at first use."""
        if isinstance(part.base, mmap.mmap):
            with suppress(OSError):  # not supported before Linux 5.14
                part.base.madvise(_POPULATE_WRITE if part.flags.writeable else _POPULATE_READ, start)


def journal_path(path: Path) -> Path:
    """The path of the gateway's journal for the ring at `path`; on disk, because shared memory is scarce.

    The name tells the folder of the ring by device and inode, because the same name may be of another ring in another container.
    """
    folder = Path(tempfile.gettempdir()) if path.parent in _folders() else path.parent
    try:
        return folder / f"{path.name}.{_identity(path.parent)}{_JOURNAL}"
    except OSError as error:
        raise RingError(f"no journal for a ring at {path}: {error.strerror}; choose a folder that exists") from error


def remove_stale_journals() -> list[Path]:
    """Removes journals that no living gateway holds and whose ring no longer exists; returns their paths.

    Both conditions are needed, because a gateway that died may still get a successor. Containers may share the folder of the
    journals but not that of the rings. Therefore only journals of rings in folders that are seen here are judged; the others are
    left alone.
    """
    there, folders = Path(tempfile.gettempdir()), {}
    for folder in (*_folders(), there):
        with suppress(OSError):
            folders[_identity(folder)] = folder
    stale = []
    for path in there.glob(f"{PREFIX}*{_JOURNAL}"):
        name, _, identity = path.stem.rpartition(".")
        if identity in folders and not (folders[identity] / name).exists():
            stale.append(path)
    half_made = there.glob(f"{PREFIX}*{_JOURNAL}.*{_UNFINISHED}")
    return [path for path in (*stale, *half_made) if journal.remove_if_free(path)]


def _identity(folder: Path) -> str:
    status = folder.stat()
    return f"in-{status.st_dev:x}-{status.st_ino:x}"


def _folders() -> tuple[Path, ...]:
    return SHARED_MEMORY, *pages.folders()


def default_path(folder: Path = SHARED_MEMORY) -> Path:
    """A new unique path in a folder of shared memory; the name contains the process id."""
    return folder / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"


def rings() -> list[Path]:
    """The files of all complete rings on this machine, including those of dead owners."""
    return sorted(path for folder in _folders() for path in folder.glob(f"{PREFIX}*") if path.suffix not in (_UNFINISHED, _JOURNAL))


@contextmanager
def create(path: Path, size_bytes: int) -> Iterator[tuple[RingFile, Path, Hold]]:
    """Reserves, maps and touches a file of `size_bytes` under a temporary name, mode 0600. If the block fails, the file is removed.

    The block fills in the header and calls `publish`, so that no process can attach to an incomplete ring. Raises RingError when
    the size exceeds the available memory, or when the folder cannot be written. Yields the file, its temporary path, and the
    owner's lock. If an exception comes between this and the block, the generator is dropped, and so removes the file as well.
    """
    unfinished, hold, ours = _begin(path)
    try:
        yield _reserve(path, unfinished, size_bytes), unfinished, hold
    except BaseException:
        for name in (unfinished, path):  # under its final name, too, if the block failed after `publish`
            if names(name, ours):
                name.unlink(missing_ok=True)
        hold.release()
        raise


def _reserve(path: Path, unfinished: Path, size_bytes: int) -> RingFile:
    """Reserves, maps and touches the memory of a file that `_begin` made."""
    try:
        # Checked first: beyond physical memory or the control group's limit, the reservation would not fail; the kernel would kill
        # us.
        free_bytes, limit = available(path.parent)
        if size_bytes > free_bytes:
            raise _too_little(path, size_bytes, free_bytes, limit)
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            memory = _map(descriptor, size_bytes, writable=True, touch=True)
            readable = _map(descriptor, size_bytes, writable=False, touch=False)
            return RingFile(memory, readable, Witness(unfinished, inode(descriptor), writable=True))
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise _too_little(path, size_bytes, *available(path.parent)) from error
        raise RingError(f"cannot reserve {size_bytes:,} bytes for a ring at {path}: {error.strerror}") from error


def _begin(path: Path) -> tuple[Path, Hold, tuple[int, int]]:
    """Makes an empty, locked file under a temporary name; returns the name, the lock, and the file's device and inode."""
    watch_forks()
    while True:
        unfinished = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_UNFINISHED}")
        with opening:
            try:
                descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise RingError(f"cannot create a ring at {path}: {error.strerror}; choose a writable path") from error
            try:
                hold = Hold.take(descriptor, OWNER_AT)
                # Between opening and locking, another process may have taken the unlocked file for a dead owner's and removed it.
                if hold is not None and os.fstat(descriptor).st_nlink:
                    os.pwrite(descriptor, layout.ABI.to_bytes(8, "little"), layout.AT_ABI)
                    return unfinished, hold, inode(descriptor)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)
        if hold is not None:
            hold.release()


def publish(file: RingFile, unfinished: Path, path: Path) -> None:
    """Gives a complete ring its final name; raises RingError when the name is taken."""
    try:
        os.link(unfinished, path)
        file.witness.path = path
    except FileExistsError as error:
        raise RingError(f"a ring already exists at {path}: attach to it, close it, or choose another path") from error
    except OSError as error:
        raise RingError(f"cannot create a ring at {path}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def attach(path: Path, *, writable: bool = True) -> RingFile:
    """Maps an existing ring file; raises RingError when it is missing, owned by another user, truncated, or no ring."""
    flags = os.O_RDWR if writable else os.O_RDONLY
    try:
        # O_NONBLOCK: a named pipe under that name must give an error, and not wait for its other end.
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise RingError(f"no ring at {path}: its owner has not created it yet, or has closed it") from error
    except OSError as error:
        raise RingError(f"cannot open the ring at {path}: {error.strerror}; only the user who created it may attach") from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise RingError(f"the ring at {path} belongs to user {status.st_uid}, this process runs as {os.geteuid()}")
        if not stat.S_ISREG(status.st_mode):
            raise RingError(f"no ring at {path}: it is no regular file; remove it, or choose another path")
        if status.st_size < layout.HEADER_BYTES:
            raise RingError(f"no ring at {path}: {status.st_size} bytes, a header alone has {layout.HEADER_BYTES}")
        header = np.frombuffer(os.pread(descriptor, layout.HEADER_BYTES, 0), np.uint64)
        magic, abi, total = (int(header[at // 8]) for at in (layout.AT_MAGIC, layout.AT_ABI, layout.AT_TOTAL_BYTES))
        if magic != layout.MAGIC:
            raise RingError(f"no ring at {path}: it starts with {magic:#018x}, a ring with {layout.MAGIC:#018x}")
        if abi != layout.ABI:
            raise RingError(f"the ring at {path} has ABI version {abi}, this build speaks {layout.ABI}: run one version everywhere")
        if status.st_size < total:
            raise RingError(f"the ring at {path} is truncated: {status.st_size:,} of {total:,} bytes; create it again")
        memory = readable = _map(descriptor, total, writable=writable, touch=False)
        if writable:
            readable = _map(descriptor, total, writable=False, touch=False)
        return RingFile(memory, readable, Witness(path, inode(descriptor), writable=writable))
    finally:
        os.close(descriptor)


def available(folder: Path) -> tuple[int, str]:
    """Bytes available for a ring in `folder`, and the name of the limit: file system, memory, or control group."""
    try:
        system = os.statvfs(folder)
    except OSError as error:
        raise RingError(f"cannot create a ring in {folder}: {error.strerror}") from error
    limits = [(system.f_bavail * system.f_frsize, f"free in {folder}")]
    meminfo = Path("/proc/meminfo").read_text()
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            limits.append((int(line.split()[1]) * 1024, "available memory"))
    return min([*limits, *_left_in_groups(Path("/proc/self/cgroup").read_text(), Path("/sys/fs/cgroup"))])


def _left_in_groups(groups: str, root: Path) -> Iterator[tuple[int, str]]:
    """Bytes left in this process's control group and in each of its parents; any of them can be the limit.

    What a group uses contains the files that it has read, as page cache. The kernel gives up the part not used lately before
    it kills anybody, so that part counts as left.
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        tree, most, used, cache = (
            (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else (root, "memory.max", "memory.current", "inactive_file")
        )
        own = tree.joinpath(*(part for part in Path(path).parts if part not in ("/", "..")))
        for group in (own, *own.parents):
            if not group.is_relative_to(tree):
                break
            with suppress(OSError):  # no such file: the root group has no limit, or the group is not visible in this namespace
                if (limit := (group / most).read_text().strip()) != "max":
                    needed = max(0, int((group / used).read_text()) - _cached(group, cache))
                    yield max(0, int(limit) - needed), f"left in the control group /{'/'.join(group.relative_to(tree).parts)}"


def _cached(group: Path, name: str) -> int:
    """One value [bytes] of a control group's statistics, 0 when they do not tell."""
    with suppress(OSError):
        for line in (group / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def remove_stale(folder: Path = SHARED_MEMORY, name: str = PREFIX) -> list[Path]:
    """Removes rings of this user's dead processes in `folder` whose names begin with `name`; returns their paths.

    An owner is dead if nobody holds its lock, whatever container it was in. Files of builds with another ABI are left alone,
    because their owners may use no such lock.
    """
    return [path for path in sorted(folder.glob(f"{glob.escape(name)}*")) if _remove_if_dead(path)]


def _remove_if_dead(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # removed meanwhile, owned by another user, or a directory or socket
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return False
        header = os.pread(descriptor, layout.HEADER_BYTES, 0)
        magic, abi = (int.from_bytes(header[at : at + 8], "little") for at in (layout.AT_MAGIC, layout.AT_ABI))
        begun = path.name.endswith(_UNFINISHED) and (not header or (magic in (0, layout.MAGIC) and abi == layout.ABI))
        ours = begun or (magic == layout.MAGIC and abi == layout.ABI)
        # While we hold the lock, no other process may remove the name, and names are never replaced: it stays that of this file.
        if not ours or not try_lock(descriptor, OWNER_AT) or not names(path, inode(descriptor)):
            return False
        path.unlink()
        return True
    except OSError:
        return False  # cannot be read or removed: then it is no hindrance to rings of other names
    finally:
        os.close(descriptor)


def _map(descriptor: int, size_bytes: int, *, writable: bool, touch: bool) -> NDArray[np.uint8]:
    """Maps the file as a byte array. `touch` fills the page tables now, because the first access to a page costs 10 to 60 times a
    warm copy.
    """
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if touch else 0)
    return np.frombuffer(mmap.mmap(descriptor, size_bytes, flags=flags, prot=protection), np.uint8)


def _too_little(path: Path, asked: int, there: int, limit: str) -> RingError:
    return RingError(
        f"a ring of {asked:,} bytes does not fit: {there:,} bytes {limit}; "
        f"ask for fewer slots or smaller frames, or enlarge the memory behind {path.parent}"
    )
