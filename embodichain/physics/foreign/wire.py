"""Starts the host process of a benchmark and communicates with it over a pipe."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from embodichain.cache import cache_dir
from embodichain.errors import SceneError
from embodichain.extras import MissingExtra
from embodichain.physics.foreign.hosts.embodichain_host import receive, send
from embodichain.processes import Guest

INTERPRETER = "EMBODICHAIN_FOREIGN"
"""Environment variable with the path of a Python interpreter that has the benchmarks installed."""
_HOSTS = Path(__file__).parent / "hosts"
_REQUESTS = {b"R": "asked to begin an episode", b"S": "asked for a step", b"A": "asked for steps of its own expert"}
"""Descriptions of requests for messages, by their first byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark: the script of its host, its requirements, and time limits."""

    name: str
    host: str
    """The host's script: an absolute path, or a file in `hosts`. It can import `embodichain_host`."""
    requirement: str
    """Requirement for pip install."""
    start_s: float = 180.0
    """Most time until the greeting [s], including the import of the benchmark."""
    answer_s: float = 120.0
    """Most time for an answer [s]: the start of an episode, a step, or sixteen steps of the expert."""


class HostLost(SceneError):
    """The host process has ended: the current episode is lost, and the next one starts another process."""


class HostHung(HostLost):
    """The host process did not answer in time and was killed."""


def interpreter() -> Path:
    """The Python of the benchmarks: $EMBODICHAIN_FOREIGN, or the environment "foreign" in the folder of derived data."""
    return Path(os.environ.get(INTERPRETER) or cache_dir() / "foreign" / "bin" / "python").absolute()


class Host:
    """A running host process; for one thread. It is killed when this object is dropped or the program ends in any way.

    Raises MissingExtra, with the install command, when Python or the benchmark is missing, HostLost when it is killed before its
    greeting, HostHung when the greeting takes too long.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark, python = benchmark, interpreter()
        if not python.exists():
            raise _missing(benchmark, f"there is no {python}")
        if python.is_dir():
            raise _missing(benchmark, f"{python} is a folder and no Python: name the bin/python in it")
        try:
            self._guest = Guest(
                [str(python), str(_HOSTS / benchmark.host)], environment={"PYTHONPATH": str(_HOSTS), "OMP_NUM_THREADS": "1"}
            )
        except OSError as error:
            raise _missing(benchmark, f"{python} cannot be started: {error.strerror}") from error
        said = self._take(f"started as {python}", benchmark.start_s)
        if said[:1] != b"K":
            self.close()
            raise _missing(benchmark, " ".join(said[1:].decode().split()))
        self.versions = said[1:].decode()
        """Versions, such as "metaworld 3.1.1, mujoco 3.3.0, numpy 1.26.4"."""

    def ask(self, request: bytes) -> bytes:
        """Sends a request and returns the reply, within the benchmark's time limit.

        Raises SceneError with the benchmark's error message, HostLost when its process has ended, HostHung when it does not answer.
        """
        self._guest.forget()
        reply = self._take(_REQUESTS[request[:1]], self._benchmark.answer_s, request)
        if reply[:1] != b"K":
            raise SceneError(f"{self._benchmark.name} failed: {reply[1:].decode()}")
        return reply[1:]

    def close(self) -> None:
        """Ends the process; safe to call twice."""
        self._guest.end()

    def _take(self, what: str, timeout_s: float, request: bytes = b"") -> bytes:
        name, wire = self._benchmark.name, self._guest.wire.fileno()
        try:
            if request:
                send(wire, request)
            return receive(wire, timeout_s)
        except TimeoutError as error:
            raise HostHung(
                self._last(f"the process of {name} was killed: {what}, it did not answer within {timeout_s:g} s")
            ) from error
        except (EOFError, OSError) as error:
            code = self._guest.join(1.0)
            if not request and code is not None and code >= 0:
                why = f"{interpreter()} has ended with {code} and said nothing"
                words = self._guest.last_words()
                self.close()
                raise _missing(self._benchmark, f"{why} but: {words}" if words else why) from error
            raise HostLost(self._last(f"the process of {name} has ended with {code}, {what}")) from error
        except BaseException:  # interrupted before the answer, which the next request would take for its own
            self.close()
            raise

    def _last(self, why: str) -> str:
        """Ends the process; returns a message with the reason and the last lines that it printed."""
        words = self._guest.last_words()
        self.close()
        return f"{why}; its last words: {words}" if words else why


def _missing(benchmark: Benchmark, why: str) -> MissingExtra:
    folder = cache_dir() / "foreign"
    make, pip = (
        shlex.join(["python3", "-m", "venv", str(folder)]),
        shlex.join([f"{folder}/bin/pip", "install", benchmark.requirement]),
    )
    return MissingExtra(
        f"{benchmark.name} is not installed ({why}): {make} && {pip}, or name a Python that has it in ${INTERPRETER}"
    )
