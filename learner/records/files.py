"""Atomic writing of files, and exclusive use of a folder by one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embodichain.errors import RunError


def write_whole(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically: a reader, or a crash at any moment, finds either the old file or the new one.

    Raises RunError, and leaves nothing half written, when it cannot.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; free some space, or choose another --out") from error
    finally:
        partial.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Appends one line to `path` in a single write; raises RunError when it cannot."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; free some space, or choose another --out") from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Locks `folder` for this process inside a `with` block; raises RunError when another process has locked it.

    The lock also ends with the process, however that dies.
    """
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; choose another --out") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise RunError(f"{folder} is in use by another process ({holder}): wait for it, or choose another --out") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
