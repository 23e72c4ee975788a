"""Waiting for other processes, never for ever."""

import select
import time


def first_line(process, timeout_s):
    """The next line that a process says on its standard output, a pipe of bytes; fails when it does not come in time."""
    until, said = time.monotonic() + timeout_s, b""
    while not said.endswith(b"\n"):
        left = until - time.monotonic()
        assert left > 0 and select.select([process.stdout], [], [], left)[0], f"{process.args} said {said!r} in {timeout_s} s"
        more = process.stdout.read(1)
        assert more, f"{process.args} ended with {process.wait(timeout_s)} after {said!r}"
        said += more
    return said.decode()


def eventually(condition, timeout_s):
    """Waits until a condition holds; fails when it does not in time."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not so after {timeout_s} s"
        time.sleep(0.02)
