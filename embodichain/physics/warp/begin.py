"""Initialises Warp without output."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import warp as wp


def start_warp() -> None:
    """Initialises warp without its banner and its warning about a missing GPU."""
    wp.config.log_level = wp.LOG_WARNING
    with _silenced_stderr():
        wp.init()


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Suppresses output of native code to standard error, because warp's driver warning has no log level."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
