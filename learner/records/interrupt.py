"""Ctrl-C as a flag that loops check."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_LOG = logging.getLogger(__name__)


class Interrupt:
    """Turns the first Ctrl-C (or SIGTERM) inside `graceful()` into a flag that loops check; the second one ends the program."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """Handles the signals inside a `with` block."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        _LOG.warning("stopping: saving checkpoint and report (again to stop at once)")
