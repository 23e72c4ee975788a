"""The host's side of the wire: answers requests until the other end closes. Imports only the standard library and NumPy."""

# pyright: reportMissingImports=false
from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HEAD = 3
"""Numbers at the start of a reading: success (0 or 1), reward, progress in 0..1."""

POSE = ("qpos", "mocap_pos", "mocap_quat", "site_xpos", "site_xmat")
"""Arrays of the MuJoCo data on which a picture depends."""
FIELDS = ("body_pos", "body_quat", "geom_pos", "geom_rgba", "site_rgba")
"""Arrays of the MuJoCo model in which an episode may differ from the file."""


class Environment(Protocol):
    """The interface of a benchmark for its host."""

    def reset(self, task: str, seed: int) -> None:
        """Begins the episode of a task and seed, independently of earlier episodes."""
        ...

    def step(self, action: NDArray[np.float64]) -> None:
        """One control step."""
        ...

    def reading(self) -> NDArray[np.float64]:
        """Success, reward and progress; then the parts in the order of `facts`: measured, expert, observations, pose.

        The pose contains all MuJoCo data that a picture depends on.
        """
        ...

    def facts(self) -> dict[str, object]:
        """Facts about the episode: `sizes` of a reading's parts, `pose` with the shapes of its arrays, `path` or `xml` of the
        model, and `hidden`, the groups of geoms that are not drawn.
        """
        ...

    def fields(self) -> dict[str, NDArray]:
        """Arrays of the MuJoCo model in which this episode differs from its file."""
        ...


def shapes(data: object) -> dict[str, list[int]]:
    """The shapes of the arrays in a pose."""
    return {name: list(getattr(data, name).shape) for name in POSE}


def pack(values: Mapping[str, object], arrays: Mapping[str, NDArray]) -> bytes:
    """Packs plain values and float64 arrays into one message: a line of JSON, then the bytes of the arrays."""
    shapes = {name: list(np.shape(array)) for name, array in arrays.items()}
    line = json.dumps({"values": dict(values), "shapes": shapes}).encode() + b"\n"
    return line + b"".join(np.ascontiguousarray(array, np.float64).tobytes() for array in arrays.values())


def unpack(message: bytes) -> tuple[dict[str, object], dict[str, NDArray[np.float64]]]:
    """The inverse of `pack`."""
    end = message.index(b"\n") + 1
    told, arrays, place = json.loads(message[:end]), {}, end
    for name, shape in told["shapes"].items():
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(message, np.float64, count, place).reshape(shape)
        place += 8 * count
    return told["values"], arrays


_LENGTH = 4
"""Size of the length prefix of each message [bytes]."""


def send(descriptor: int, message: bytes) -> None:
    """Writes one message; blocks while the other end does not read. Raises OSError when the other end is closed."""
    rest = memoryview(len(message).to_bytes(_LENGTH, "little") + message)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int, timeout_s: float | None = None) -> bytes:
    """Reads the next message. There is at most one at a time, so a short one needs only a single read.

    Waits at most `timeout_s` [s] for the whole message, for ever if None. Raises EOFError if the other end closed, and
    TimeoutError.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    found = _some(descriptor, until)
    while len(found) < _LENGTH:
        found += _some(descriptor, until)
    end = _LENGTH + int.from_bytes(found[:_LENGTH], "little")
    if len(found) < end:
        parts, size = [found], len(found)
        while size < end:
            parts.append(_some(descriptor, until))
            size += len(parts[-1])
        found = b"".join(parts)
    return found[_LENGTH:]


def _some(descriptor: int, until: float | None) -> bytes:
    if until is not None:
        poll = select.poll()  # select.select refuses descriptors above 1023
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, 1e3 * (until - time.monotonic()))):
            raise TimeoutError
    found = os.read(descriptor, 1 << 16)
    if not found:
        raise EOFError
    return found


def serve(make: Callable[[], Environment], packages: tuple[str, ...]) -> None:
    """Answers requests on the descriptor given on the command line, after a greeting with versions or what is missing."""
    _end_with_worker()
    wire = int(sys.argv[1])
    try:
        game = _Game(make())
        versions = ", ".join(f"{name} {version(name)}" for name in packages)
    except Exception as error:
        send(wire, b"M" + f"{type(error).__name__}: {error}".encode())
        return
    send(wire, b"K" + versions.encode())
    while True:
        try:
            request = receive(wire)
        except EOFError:
            return
        try:
            reply = b"K" + game.answer(request)
        except Exception as error:  # the benchmark may raise anything; the caller is told and decides
            where = traceback.extract_tb(error.__traceback__)[-1]
            reply = b"E" + f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})".encode()
        send(wire, reply)


def _end_with_worker() -> None:
    """Makes the kernel end this process when the worker that started it is gone, even in the middle of a step.

    Standard input is a pipe to which only the worker could write, and never does. So the only event on it is its end, at which the
    kernel sends SIGIO, which terminates by default. A watching thread would not do, because the benchmark may hold the interpreter
    lock for ever. Linux's parent-death signal (prctl) would not do either, as it also comes when only the parent's thread ends.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)  # the setting is inherited, and may have been "ignore"
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if poll.poll(0):  # the worker ended before the signal was set up
        sys.exit(1)


class _Game:
    """The episode being played. Each state is read only once, because an expert may have memory or be random."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._reading: NDArray[np.float64] = np.empty(0)
        self._expert = slice(0, 0)
        self._fault: Exception | None = None

    def answer(self, request: bytes) -> bytes:
        """The reply to one request; raises whatever the environment does."""
        kind = request[:1]
        if kind == b"R":
            return self._begin(request)
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        if kind == b"A":
            return self._ahead(request[1])
        self._step(np.frombuffer(request, np.float64, offset=1))
        return self._reading.tobytes()

    def _begin(self, request: bytes) -> bytes:
        values = json.loads(request[1:])
        self._fault = None
        self._environment.reset(values["task"], values["seed"])
        facts = self._environment.facts()
        sizes: dict[str, int] = facts["sizes"]  # type: ignore[assignment]
        begin = HEAD + sizes["measured"]
        self._expert = slice(begin, begin + sizes["expert"])
        self._reading = self._environment.reading()
        return pack(facts, {"reading": self._reading, **self._environment.fields()})

    def _step(self, action: NDArray[np.float64]) -> None:
        self._environment.step(action)
        self._reading = self._environment.reading()

    def _ahead(self, steps: int) -> bytes:
        """Makes steps with the commands of the benchmark's expert, rounded to float32 as in this package, until the task is done.

        Returns a reading after each. If a step fails, the readings before it are returned, and the error is raised when that step
        is requested.
        """
        found: list[NDArray[np.float64]] = []
        for _ in range(steps):
            try:
                self._step(self._reading[self._expert].astype(np.float32).astype(np.float64))
            except Exception as error:
                if not found:
                    raise
                self._fault = error
                break
            found.append(self._reading)
            if self._reading[0]:
                break
        return np.concatenate(found).tobytes()
