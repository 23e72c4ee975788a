"""A host's side of the wire: one request, one reply, until the other end is closed. Standard library and NumPy alone."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HEAD = 3
"""Numbers before the rest of a reading: success (0 or 1), reward, progress in 0..1."""

POSE = ("qpos", "mocap_pos", "mocap_quat", "site_xpos", "site_xmat")
"""Of the MuJoCo data, on which a picture depends."""
FIELDS = ("body_pos", "body_quat", "geom_pos", "geom_rgba", "site_rgba")
"""Of the MuJoCo model, in which an episode may differ from the file."""


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


def receive(descriptor: int) -> bytes:
    """The next message, of which one at most is ever under way: a step's comes with a single read. Raises EOFError at the end."""
    found = _some(descriptor)
    while len(found) < _LENGTH:
        found += _some(descriptor)
    end = _LENGTH + int.from_bytes(found[:_LENGTH], "little")
    if len(found) < end:
        parts, size = [found], len(found)
        while size < end:
            parts.append(_some(descriptor))
            size += len(parts[-1])
        found = b"".join(parts)
    return found[_LENGTH:]


def _some(descriptor: int) -> bytes:
    found = os.read(descriptor, 1 << 16)
    if not found:
        raise EOFError
    return found


def serve(make: Callable[[], Environment], packages: tuple[str, ...]) -> None:
    """Answers on the descriptor that the command line names: says hello with the versions of `packages`, or what is missing."""
    wire = int(sys.argv[1])
    try:
        environment = make()
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
            reply = b"K" + _answer(environment, request)
        except Exception as error:  # whatever other people's code raises: whoever asked is told, and decides
            where = traceback.extract_tb(error.__traceback__)[-1]
            reply = b"E" + f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})".encode()
        send(wire, reply)


def _answer(environment: Environment, request: bytes) -> bytes:
    kind = request[:1]
    if kind == b"S":
        environment.step(np.frombuffer(request, np.float64, offset=1))
        return environment.reading().tobytes()
    if kind == b"A":
        return _ahead(environment, request[1])
    values = json.loads(request[1:])
    environment.reset(values["task"], values["seed"])
    return pack(environment.facts(), {"reading": environment.reading(), **environment.fields()})


def _ahead(environment: Environment, steps: int) -> bytes:
    """Steps by the commands of the benchmark's own expert, rounded as ours are, until it is content; the readings after each."""
    sizes: dict[str, int] = environment.facts()["sizes"]  # type: ignore[assignment]
    begin = HEAD + sizes["measured"]
    found, reading = [], environment.reading()
    for _ in range(steps):
        environment.step(reading[begin : begin + sizes["expert"]].astype(np.float32).astype(np.float64))
        reading = environment.reading()
        found.append(reading)
        if reading[0]:
            break
    return np.concatenate(found).tobytes()
