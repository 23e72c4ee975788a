"""A host's side of the wire: one request, one reply, until the other end is closed. Standard library and NumPy alone."""

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
"""Numbers before the rest of a reading: success (0 or 1), reward, progress in 0..1."""

POSE = ("qpos", "mocap_pos", "mocap_quat", "site_xpos", "site_xmat")
"""Arrays of the MuJoCo data on which a picture depends."""
FIELDS = ("body_pos", "body_quat", "geom_pos", "geom_rgba", "site_rgba")
"""Arrays of the MuJoCo model in which an episode may differ from the file."""


class Environment(Protocol):
    """What a host asks of its benchmark."""

    def reset(self, task: str, seed: int) -> None:
        """Begins the episode that this seed of the task decides, whatever was played before."""
        ...

    def step(self, action: NDArray[np.float64]) -> None:
        """One control step."""
        ...

    def reading(self) -> NDArray[np.float64]:
        """Success, reward and progress; then what the facts name in their order: measured, expert, observations, and the pose.

        The pose is all of the MuJoCo data that a picture depends on.
        """
        ...

    def facts(self) -> dict[str, object]:
        """Of the episode: `sizes` of a reading's parts, `pose` with the shapes of its last ones, `path` or `xml` of the model, and
        `hidden`, groups of geoms that no picture shows.
        """
        ...

    def fields(self) -> dict[str, NDArray]:
        """Arrays of the MuJoCo model in which this episode differs from its file."""
        ...


def shapes(data: object) -> dict[str, list[int]]:
    """Of the arrays of a pose."""
    return {name: list(getattr(data, name).shape) for name in POSE}


def pack(values: Mapping[str, object], arrays: Mapping[str, NDArray]) -> bytes:
    """Plain values and float64 arrays as one message: a line of JSON, then the arrays' bytes."""
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
"""Bytes before each message that say how long it is."""


def send(descriptor: int, message: bytes) -> None:
    """Writes one message; blocks while the other end does not read. Raises OSError when that is closed."""
    rest = memoryview(len(message).to_bytes(_LENGTH, "little") + message)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int, timeout_s: float | None = None) -> bytes:
    """The next message, of which one at most is ever under way: a step's comes with a single read.

    Waits `timeout_s` [s] at most for the whole of it, for ever when that is None. Raises EOFError at the end, TimeoutError.
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
        poll = select.poll()  # not `select.select`, which refuses descriptors over 1023
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, 1e3 * (until - time.monotonic()))):
            raise TimeoutError
    found = os.read(descriptor, 1 << 16)
    if not found:
        raise EOFError
    return found


def serve(make: Callable[[], Environment], packages: tuple[str, ...]) -> None:
    """Answers on the descriptor that the command line names: says hello with the versions of `packages`, or what is missing."""
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
        except Exception as error:  # whatever other people's code raises: whoever asked is told, and decides
            where = traceback.extract_tb(error.__traceback__)[-1]
            reply = b"E" + f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})".encode()
        send(wire, reply)


def _end_with_worker() -> None:
    """From now on the kernel ends this process when whoever started it is gone, even in the middle of a step.

    Standard input is a pipe that the worker alone could write to and never does, so its only news is its end; with that comes a
    signal that terminates, by default. A thread of ours could not look: other people's code may hold the interpreter for good. The
    signal that Linux sends at a parent's death (prctl) comes when the parent's thread ends, too.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)  # may have been ignored by whoever started the worker
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if poll.poll(0):  # it ended before it was watched
        sys.exit(1)


class _Game:
    """What is played in an environment. Each state is read once: an expert may remember that it was asked, or draw lots."""

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
        """Steps by the commands of the benchmark's own expert, rounded as ours are, until the task is done: a reading after each.

        A step that fails is nobody's yet: what came before it is told, and whoever asks for that step gets its failure.
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
