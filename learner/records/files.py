"""Atomic writing of files, and exclusive use of a folder by one process."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from embodichain import lines
from embodichain.errors import RunError
from embodichain.types.rings import LOCK_FILE

_REMEDY = "free some space, or choose another --out"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to inside a `with` block; at its end the file there becomes `path` atomically.

    A reader, or a crash at any moment, finds either the old file or the new one. An exception inside leaves the old one and nothing
    half written; OSError becomes RunError. The path is nobody else's: several processes and threads may replace the same file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        yield partial
        descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; {_REMEDY}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically, as `replacing` does; raises RunError when it cannot."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Appends one line to `path`, the whole of it or nothing; raises RunError when it cannot."""
    descriptor = lines.open_lines(path, _REMEDY)
    try:
        lines.append_line(descriptor, line, path, _REMEDY)
    finally:
        os.close(descriptor)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Locks `folder` for this process inside a `with` block; raises RunError when another process has locked it.

    The lock also ends with the process, however that dies.
    """
    path = folder / LOCK_FILE
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
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}".encode(), 0)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}; {_REMEDY}") from error
        yield
    finally:
        os.close(descriptor)
