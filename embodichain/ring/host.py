"""Host memory for a ring: a file in /dev/shm, reserved and touched in full before it gets its name, mapped by path with raw mmap.

Its owner holds a lock on it from the first moment to the last. Whoever finds that lock free knows the owner dead, and only whoever
holds the lock may remove the file's name: so nobody removes the ring of a living owner, nor a new ring under an old one's name.

Raw `mmap` and not `multiprocessing.shared_memory`: there, on Python 3.11, the exit of an unrelated reader unlinks the segment.
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
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring import layout, pages
from embodichain.ring.locks import OWNER_AT, Hold, Witness, inode, names, try_lock

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "embodichain-"
_JOURNAL = ".journal"
_UNFINISHED = ".unfinished"
_POPULATE_READ, _POPULATE_WRITE = 22, 23


class RingFile(NamedTuple):
    """A ring's file as one process has it, mapped twice, and the witness of who else is alive."""

    memory: NDArray[np.uint8]
    """To take part, and to write trajectories."""
    readable: NDArray[np.uint8]
    """The same bytes, to read trajectories: an operation in place on a view would change them for every reader, and must fail."""
    witness: Witness

    def touch(self, part: NDArray[np.uint8], start: int) -> None:
        """Fills the page tables from byte `start` on, where the kernel can: else each page is filled at its first use."""
        if isinstance(part.base, mmap.mmap):
            with suppress(OSError):  # before Linux 5.14
                part.base.madvise(_POPULATE_WRITE if part.flags.writeable else _POPULATE_READ, start)


def journal_path(path: Path) -> Path:
    """Where the gateway of the ring at `path` notes what it delivers: beside the ring, but not in scarce shared memory."""
    folder = Path(tempfile.gettempdir()) if path.parent in (SHARED_MEMORY, *pages.folders()) else path.parent
    return folder / f"{path.name}{_JOURNAL}"


def remove_stale_journals() -> list[Path]:
    """Unlinks journals of gateways of rings that are no more; returns what went."""
    gone: list[Path] = []
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*{_JOURNAL}"):
        with suppress(OSError):  # gone meanwhile, or another user's
            if path.stat().st_uid == os.geteuid() and not (SHARED_MEMORY / path.stem).exists():
                path.unlink()
                gone.append(path)
    return gone


def default_path(folder: Path = SHARED_MEMORY) -> Path:
    """A fresh name in a folder of shared memory that tells whose it is."""
    return folder / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"


def rings() -> list[Path]:
    """Every ring's file on this machine, those of the dead included; none that is still being made."""
    folders = (SHARED_MEMORY, *pages.folders())
    return sorted(path for folder in folders for path in folder.glob(f"{PREFIX}*") if path.suffix not in (_UNFINISHED, _JOURNAL))


def create(path: Path, size_bytes: int) -> tuple[RingFile, Path, Hold]:
    """Reserves, maps and touches `size_bytes`, mode 0600, under a provisional name; returns the file, that name, the owner's lock.

    The caller fills in the header and calls `publish`: nobody ever attaches to half a ring. Raises RingError with the bytes asked
    for and available when they do not fit, and when the folder cannot be written.
    """
    unfinished, hold = _begin(path)
    try:
        # Asked first: beyond memory or the control group's limit the reservation would not fail but get this process killed.
        free_bytes, limit = available(path.parent)
        if size_bytes > free_bytes:
            raise _too_little(path, size_bytes, free_bytes, limit)
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            memory = _map(descriptor, size_bytes, writable=True, touch=True)
            readable = _map(descriptor, size_bytes, writable=False, touch=False)
            return RingFile(memory, readable, Witness(unfinished, inode(descriptor), writable=True)), unfinished, hold
        finally:
            os.close(descriptor)
    except BaseException as error:
        unfinished.unlink()
        hold.release()
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise _too_little(path, size_bytes, *available(path.parent)) from error
        raise RingError(f"cannot reserve {size_bytes:,} bytes for a ring at {path}: {error.strerror}") from error


def _begin(path: Path) -> tuple[Path, Hold]:
    """An empty file under a provisional name, locked by its owner from its first moment on."""
    while True:
        unfinished = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_UNFINISHED}")
        try:
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RingError(f"cannot create a ring at {path}: {error.strerror}; choose a writable path") from error
        try:
            hold = Hold.take(descriptor, OWNER_AT)
            # Whoever clears away the dead may have come between opening and lock, and taken the empty file for a dead one's.
            if hold is not None and os.fstat(descriptor).st_nlink:
                os.pwrite(descriptor, layout.ABI.to_bytes(8, "little"), layout.AT_ABI)
                return unfinished, hold
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        if hold is not None:
            hold.release()


def publish(file: RingFile, unfinished: Path, path: Path) -> None:
    """Gives a finished ring its name; raises RingError when the name is taken."""
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
    """Maps an existing ring file in full; raises RingError when it is missing, somebody else's, no ring or truncated."""
    flags = os.O_RDWR if writable else os.O_RDONLY
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise RingError(f"no ring at {path}: its owner has not created it yet, or has closed it") from error
    except OSError as error:
        raise RingError(f"cannot open the ring at {path}: {error.strerror}; only the user who created it may attach") from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise RingError(f"the ring at {path} belongs to user {status.st_uid}, this process runs as {os.geteuid()}")
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
    """Bytes that a ring in `folder` may take now, and what limits them: the file system, memory, or the control group."""
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
    """What this process's own control group may still take, and every group around it: any of them may be the one that is full."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        tree, most, used = (
            (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else (root, "memory.max", "memory.current")
        )
        own = tree.joinpath(*(part for part in Path(path).parts if part not in ("/", "..")))
        for group in (own, *own.parents):
            if not group.is_relative_to(tree):
                break
            with suppress(OSError):  # no such file: the root has no limit, or the group is not to be seen from this namespace
                if (limit := (group / most).read_text().strip()) != "max":
                    left = max(0, int(limit) - int((group / used).read_text()))
                    yield left, f"left in the control group /{'/'.join(group.relative_to(tree).parts)}"


def remove_stale(folder: Path = SHARED_MEMORY, name: str = PREFIX) -> list[Path]:
    """Unlinks rings whose names begin with `name` that this user's dead processes left in `folder`; returns what went.

    Dead is whose lock nobody holds, in whatever container it was. Files of other builds are left alone: their owners hold no lock.
    """
    return [path for path in sorted(folder.glob(f"{glob.escape(name)}*")) if _remove_if_dead(path)]


def _remove_if_dead(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # gone, another user's, or no file at all
    try:
        status = os.fstat(descriptor)
        header = os.pread(descriptor, layout.HEADER_BYTES, 0)
        magic, abi = (int.from_bytes(header[at : at + 8], "little") for at in (layout.AT_MAGIC, layout.AT_ABI))
        begun = path.name.endswith(_UNFINISHED) and (not header or (magic in (0, layout.MAGIC) and abi == layout.ABI))
        ours = begun or (magic == layout.MAGIC and abi == layout.ABI)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or not ours:
            return False
        # With the lock in hand nobody else may remove this name, and names are never replaced: it stays this file's.
        if not try_lock(descriptor, OWNER_AT) or not names(path, inode(descriptor)):
            return False
        path.unlink()
        return True
    finally:
        os.close(descriptor)


def _map(descriptor: int, size_bytes: int, *, writable: bool, touch: bool) -> NDArray[np.uint8]:
    """The file as a byte array. MAP_POPULATE fills the page tables now: the first touch costs 10 to 60 times a warm copy."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if touch else 0)
    return np.frombuffer(mmap.mmap(descriptor, size_bytes, flags=flags, prot=protection), np.uint8)


def _too_little(path: Path, asked: int, there: int, limit: str) -> RingError:
    return RingError(
        f"a ring of {asked:,} bytes does not fit: {there:,} bytes {limit}; "
        f"ask for fewer slots or smaller frames, or enlarge the memory behind {path.parent}"
    )
