"""Sleeps until another process changes a cell of shared memory, by Linux futexes through libc's syscall.

On processors whose system call number is not listed here, waiters sleep for short intervals instead.
"""

from __future__ import annotations

import ctypes
import platform
import time

_SYSCALL = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), 0)
_NAP_S = 0.0005
_WAIT, _WAKE = 0, 1
_EVERYBODY = 2**31 - 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def wait(address: int, seen: int, timeout_s: float) -> None:
    """Sleeps while the low 32 bits at `address` still equal those of `seen`, at most `timeout_s`.

    May return early for any reason (a signal, an unrelated wake-up), so the caller must check again.
    """
    if not _SYSCALL:
        time.sleep(min(_NAP_S, timeout_s))
        return
    # Without FUTEX_PRIVATE_FLAG, so that wake-ups come from any process that maps the same file.
    duration = _Timespec(int(timeout_s), int(timeout_s % 1.0 * 1e9))
    _libc.syscall(
        ctypes.c_long(_SYSCALL),
        ctypes.c_void_p(address),
        ctypes.c_int(_WAIT),
        ctypes.c_uint32(seen & 0xFFFF_FFFF),
        ctypes.byref(duration),
        None,
        ctypes.c_int(0),
    )


def wake(address: int) -> None:
    """Wakes all processes that sleep on `address`."""
    if not _SYSCALL:
        return
    _libc.syscall(
        ctypes.c_long(_SYSCALL),
        ctypes.c_void_p(address),
        ctypes.c_int(_WAKE),
        ctypes.c_int(_EVERYBODY),
        None,
        None,
        ctypes.c_int(0),
    )
