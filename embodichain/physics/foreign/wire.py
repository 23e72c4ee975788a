"""The process that holds a benchmark's environments, and the pipe to it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import weakref
from dataclasses import dataclass
from pathlib import Path

from embodichain.cache import cache_dir
from embodichain.errors import EmbodiChainError, SceneError
from embodichain.extras import MissingExtra
from embodichain.physics.foreign.hosts.embodichain_host import receive, send

INTERPRETER = "EMBODICHAIN_FOREIGN"
"""The environment variable that names a Python which has the benchmarks."""
_HOSTS = Path(__file__).parent / "hosts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Who is behind the wire: the script that runs there, and what has to be installed for it."""

    name: str
    host: str
    """File in `hosts`."""
    requirement: str
    """For pip."""


class HostLost(EmbodiChainError):
    """The process of a benchmark has ended; the next episode starts another."""


def interpreter() -> Path:
    """The Python of the benchmarks: $EMBODICHAIN_FOREIGN, or that of the environment "foreign" where derived data is kept."""
    return Path(os.environ.get(INTERPRETER) or cache_dir() / "foreign" / "bin" / "python").absolute()


class Host:
    """A running host; owned by one thread, killed when it is forgotten or the program ends.

    Raises MissingExtra, which says what to install, when there is no such Python or the benchmark is not in it.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        python = interpreter()
        if not python.exists():
            raise _missing(benchmark, f"there is no {python}")
        self._name = benchmark.name
        self._wire, theirs = socket.socketpair()
        quiet = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # our packages are not theirs
        with theirs:
            self._process = subprocess.Popen(
                [str(python), str(_HOSTS / benchmark.host), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # faults come through the pipe, in words
                pass_fds=(theirs.fileno(),),
                env=quiet | {"OMP_NUM_THREADS": "1"},
            )
        self._ended = weakref.finalize(self, _end, self._process)
        said = self._take()
        if said[:1] != b"K":
            raise _missing(benchmark, said[1:].decode())
        self.versions = said[1:].decode()
        """Of the benchmark and what it simulates with, as in "metaworld 3.1.1, mujoco 3.3.0, numpy 1.26.4"."""

    def ask(self, request: bytes) -> bytes:
        """The reply to one request; raises SceneError with what the benchmark raised, HostLost when it has ended."""
        try:
            send(self._wire.fileno(), request)
        except OSError as error:
            raise self._lost() from error
        reply = self._take()
        if reply[:1] != b"K":
            raise SceneError(f"{self._name} failed: {reply[1:].decode()}")
        return reply[1:]

    def close(self) -> None:
        """Ends the process; safe to call twice."""
        self._wire.close()
        self._ended()

    def _take(self) -> bytes:
        try:
            return receive(self._wire.fileno())
        except (EOFError, OSError) as error:
            raise self._lost() from error

    def _lost(self) -> HostLost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return HostLost(f"the process of {self._name} has ended with {self._process.poll()}: the episode under way is lost")


def _missing(benchmark: Benchmark, why: str) -> MissingExtra:
    folder = cache_dir() / "foreign"
    return MissingExtra(
        f"{benchmark.name} is not installed ({why}): python3 -m venv {folder} && {folder}/bin/pip install {benchmark.requirement}, "
        f"or name a Python that has it in ${INTERPRETER}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
