"""Host memory for a ring: a file in /dev/shm, reserved and touched in full before it gets its name, mapped by path with raw mmap.

Raw `mmap` and not `multiprocessing.shared_memory`: there, on Python 3.11, the exit of an unrelated reader unlinks the segment.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring import layout
from embodichain.ring.participants import Health, Identity

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "embodichain-"
JOURNAL = ".journal"
"""Suffix of the file in which a ring's gateway notes what it delivers."""
_UNFINISHED = ".unfinished"


def default_path() -> Path:
    """A fresh name in /dev/shm that tells whose it is."""
    return SHARED_MEMORY / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"


def create(path: Path, size_bytes: int) -> tuple[NDArray[np.uint8], Path]:
    """Reserves, maps and touches `size_bytes`, mode 0600, under a provisional name; returns memory and that name.

    The caller fills in the header and calls `publish`: nobody ever attaches to half a ring. Raises RingError with the bytes asked
    for and available when they do not fit, and when the folder cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RingError(f"cannot create a ring at {path}: {error.strerror}; choose a writable path") from error
    try:
        # Asked first: beyond memory or the control group's limit the reservation would not fail but get this process killed.
        free_bytes, limit = available(path.parent)
        if size_bytes > free_bytes:
            raise _too_little(path, size_bytes, free_bytes, limit)
        os.posix_fallocate(descriptor, 0, size_bytes)
        memory = _map(descriptor, size_bytes, writable=True)
    except OSError as error:
        unfinished.unlink()
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise _too_little(path, size_bytes, *available(path.parent)) from error
        raise RingError(f"cannot reserve {size_bytes:,} bytes for a ring at {path}: {error.strerror}") from error
    except BaseException:
        unfinished.unlink()
        raise
    finally:
        os.close(descriptor)
    return memory, unfinished


def publish(unfinished: Path, path: Path) -> None:
    """Gives a finished ring its name; raises RingError when the name is taken."""
    try:
        os.link(unfinished, path)
    except FileExistsError as error:
        raise RingError(f"a ring already exists at {path}: attach to it, close it, or choose another path") from error
    except OSError as error:
        raise RingError(f"cannot create a ring at {path}: {error.strerror}") from error
    finally:
        unfinished.unlink()


def attach(path: Path, *, writable: bool = True) -> NDArray[np.uint8]:
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
        return _map(descriptor, total, writable=writable)
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
    for group, used in (
        (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
        (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
    ):
        if group.exists() and used.exists() and (limit := group.read_text().strip()) != "max":
            limits.append((max(0, int(limit) - int(used.read_text())), "left in the control group"))
    return min(limits)


def remove_stale(folder: Path = SHARED_MEMORY) -> list[Path]:
    """Unlinks rings, and journals of gateways, that this user's dead processes left in `folder` (`kill -9`); returns what went."""
    from embodichain.ring.participants import namespace

    removed: list[Path] = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        try:
            with path.open("rb") as file:
                header = np.frombuffer(file.read(layout.HEADER_BYTES), np.uint64)
            if path.name.endswith(JOURNAL) and path.stat().st_uid == os.geteuid() and not path.with_suffix("").exists():
                path.unlink()
                removed.append(path)
                continue
            if path.stat().st_uid != os.geteuid() or len(header) * 8 < layout.HEADER_BYTES:
                continue
            named = int(header[layout.AT_MAGIC // 8]) == layout.MAGIC
            if path.name.endswith(_UNFINISHED) and not named:
                dead = not Path(f"/proc/{path.name.rsplit('.', 2)[1].split('-')[0]}").exists()
            elif named and int(header[layout.AT_NAMESPACE // 8]) == namespace():
                dead = Identity.unpack(int(header[layout.AT_OWNER // 8])).health() is Health.DEAD
            else:
                dead = False
            if dead:
                path.unlink()
                removed.append(path)
        except FileNotFoundError:
            continue
    return removed


def _map(descriptor: int, size_bytes: int, *, writable: bool) -> NDArray[np.uint8]:
    """The file as a byte array. MAP_POPULATE fills the page tables now: the first touch costs 10 to 60 times a warm copy."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if writable else 0)
    return np.frombuffer(mmap.mmap(descriptor, size_bytes, flags=flags, prot=protection), np.uint8)


def _too_little(path: Path, asked: int, there: int, limit: str) -> RingError:
    return RingError(
        f"a ring of {asked:,} bytes does not fit: {there:,} bytes {limit}; "
        f"ask for fewer slots or smaller frames, or enlarge the memory behind {path.parent}"
    )
