"""Who a worker says it is, and what it wrote last."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Hello(NamedTuple):
    """Who a worker is."""

    pid: int
    node: str
    log: str
    """The file that its standard error goes to, on its node; empty when that is no file."""


def own_log() -> str:
    """The file behind this process's standard error."""
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
