"""Looks into files in a process of its own: one that fills the memory, crashes its reader or never ends costs itself alone."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from embodichain.assets.chain.starved import starved_s
from embodichain.assets.reading import folder
from embodichain.processes import Child

_TIMEOUT_S = 300.0
_MOST_BYTES = 8 << 30
_POLL_S = 0.2


class Looker:
    """Finds the objects in files. Its process starts with the first file that must be read for that, and ends with this object.
    Used by one thread.

    Args:
        timeout_s: longest time for one file [s], without what the process waits for a core.
        most_bytes: largest amount of data that the process may hold [bytes].
    """

    def __init__(self, timeout_s: float = _TIMEOUT_S, most_bytes: int = _MOST_BYTES) -> None:
        self._timeout_s, self._most_bytes = timeout_s, most_bytes
        self._child: Child | None = None

    def items(self, path: Path) -> tuple[str, ...]:
        """As `folder.items`; a single empty name for a file that cannot be looked into, which building it will refuse."""
        if folder.single(path):
            return ("",)
        if self._child is None:
            self._child = Child(_look, self._most_bytes)
        child = self._child
        try:
            child.pipe.send(path)
            begun = time.monotonic() - starved_s(child.pid)
            while not child.pipe.poll(_POLL_S):
                if time.monotonic() - starved_s(child.pid) - begun >= self._timeout_s:
                    raise TimeoutError
            return child.pipe.recv()
        except (EOFError, OSError, TimeoutError):
            self.close()
            return ("",)

    def close(self) -> None:
        """Ends the process, if one was started."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child.pipe.close()
            self._child = None


def _look(pipe: Connection, most_bytes: int) -> None:
    """Answers each path with the names of the objects in that file, until the other side closes the pipe."""
    with suppress(OSError, ValueError):  # a lower limit may be set already
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    with suppress(OSError):  # where memory is short, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    while True:
        try:
            path = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            found = folder.items(path)
        except MemoryError:
            found = ("",)
        pipe.send(found)
