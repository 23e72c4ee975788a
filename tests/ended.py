"""Whether a process that this one is not the parent of has ended."""

import time

import psutil


def has_ended(process: psutil.Process, within_s: float = 0.0) -> bool:
    """Whether `process` ends within that time [s].

    An orphan that has ended stays in the process table until its new parent asks for its exit status, which not every init does:
    that it is still listed proves nothing, its state does.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
