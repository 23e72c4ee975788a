"""The identity of a worker, and the end of its log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from embodichain.processes import Identity


class Hello(NamedTuple):
    """The identity of a worker."""

    process: Identity
    node: str
    log: str
    """File of its standard error, on its node; empty if that is no file."""
    far: bool = False
    """Whether it delivers through the gateway."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


def own_log() -> str:
    """The file of this process's standard error; empty if that is no file."""
    try:
        path = Path("/proc/self/fd/2").readlink()
    except OSError:
        return ""
    return str(path) if path.is_file() else ""


def last_words(log: str) -> str:
    """The end of a log file on this node."""
    try:
        with Path(log).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
