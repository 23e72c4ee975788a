"""The process that holds a benchmark's environments, and the pipe to it."""

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
"""The environment variable that names a Python which has the benchmarks."""
_HOSTS = Path(__file__).parent / "hosts"
_REQUESTS = {b"R": "asked to begin an episode", b"S": "asked for a step", b"A": "asked for steps of its own expert"}
"""What a host is asked for, in words, by a request's first byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Who is behind the wire: the script that runs there, what has to be installed for it, and how long it may take."""

    name: str
    host: str
    """Script: an absolute path, or a file in `hosts`. It can import `embodichain_host`, the other end of the wire."""
    requirement: str
    """For pip."""
    start_s: float = 180.0
    """Most seconds until it says hello: it imports the benchmark meanwhile."""
    answer_s: float = 120.0
    """Most seconds for an answer: an episode's beginning, a step, or sixteen steps of its own expert."""


class HostLost(SceneError):
    """The process of a benchmark has ended: the episode under way is lost, and the next one starts another."""


class HostHung(HostLost):
    """It did not answer in time and was killed."""


def interpreter() -> Path:
    """The Python of the benchmarks: $EMBODICHAIN_FOREIGN, or that of the environment "foreign" where derived data is kept."""
    return Path(os.environ.get(INTERPRETER) or cache_dir() / "foreign" / "bin" / "python").absolute()


class Host:
    """A running host; owned by one thread, killed when it is forgotten or the program ends, however that comes about.

    Raises MissingExtra, which says what to install, when there is no such Python or the benchmark is not in it, and HostLost when
    it is killed before it says hello, HostHung when that takes too long.
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
        """Of the benchmark and what it simulates with, as in "metaworld 3.1.1, mujoco 3.3.0, numpy 1.26.4"."""

    def ask(self, request: bytes) -> bytes:
        """The reply to one request, waited for as long as the benchmark may take.

        Raises SceneError with what the benchmark raised, HostLost when its process has ended, HostHung when it does not answer.
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
        except BaseException:  # interrupted between question and answer: the next answer would be to this question
            self.close()
            raise

    def _last(self, why: str) -> str:
        """Sees the process off; why it is lost, and its last words."""
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
