"""One operation at a time on a ring on a device, also if a signal handler uses the ring in the middle of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from embodichain.errors import RingError

BUSY_SLICE_S = 0.001
"""Longest sleep while own copies or kernels are running [s]; it bounds the delay of operations that wait for them."""
Result = TypeVar("Result")


class Turns:
    """The lock of an attachment. A close that comes in the middle of an operation, from a signal handler, is put off to its end."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._busy = False
        self.close_s: float | None = None
        """If a close was put off, the time that it may take [s]."""

    def inside(self) -> bool:
        """Whether this thread is in the middle of an operation, so that the caller is a signal handler or part of it."""
        with self.lock:  # another thread's operation is awaited; so whatever is under way now is of this thread
            return self._busy

    def put_off(self, timeout_s: float) -> bool:
        """Notes a close for the end of the operation that this thread is in; False if it is in none."""
        with self.lock:
            if self._busy:
                self.close_s = timeout_s
            return self._busy

    def run(self, operation: Callable[[], Result], close: Callable[[float], None]) -> Result:
        """Runs an operation alone, then calls `close` if that was put off meanwhile."""
        try:
            with self.lock:
                before, self._busy = self._busy, True
                try:
                    result = operation()
                finally:
                    self._busy = before
        except BaseException as error:
            try:
                self._close_now(close)
            except RingError as failure:
                error.add_note(f"the ring was to be closed as well: {failure}")
            raise
        self._close_now(close)
        return result

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Polls a condition until it holds or time is up; busily at first, because a copy takes microseconds.

        In the middle of an operation of this thread it does not wait: nothing is completed before that goes on.
        """
        deadline, pause_s = time.monotonic() + timeout_s, 0.0
        while not condition():
            if time.monotonic() >= deadline or self.inside():
                return False
            time.sleep(pause_s)
            pause_s = min(BUSY_SLICE_S, pause_s + 1e-5)
        return True

    def _close_now(self, close: Callable[[float], None]) -> None:
        if self.close_s is not None:
            close(self.close_s)
