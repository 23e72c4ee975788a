"""A Ray cluster that asks for a token."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def cluster_with_token() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of one, and the environment of those that it takes in."""
    ray_bin = str(Path(sys.executable).parent / "ray")
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32}
    port, folder = free_port(), tempfile.mkdtemp(prefix="ray-")  # the path of a socket must be short
    command = [ray_bin, "start", "--head", "--block", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    command.append(f"--temp-dir={folder}")
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        await_listener(port)
        yield f"127.0.0.1:{port}", environment
    finally:
        head.terminate()  # `ray stop` would end everybody's
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(timeout=60.0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def await_listener(port: int) -> None:
    """Waits until somebody listens on a port of this machine."""
    deadline = time.monotonic() + 180.0
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.2)
