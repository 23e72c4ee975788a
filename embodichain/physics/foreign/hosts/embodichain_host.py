"""A host's side of the wire: one request, one reply, until the other end is closed. Standard library and NumPy alone."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HEAD = 3
"""Numbers before the rest of a reading: success (0 or 1), reward, progress in 0..1."""


class Environment(Protocol):
    """What a host asks of its benchmark."""

    def reset(self, task: str, seed: int) -> None:
        """Begins the episode that this seed of the task decides, whatever was played before."""
        ...

    def step(self, action: NDArray[np.float64]) -> None:
        """One control step."""
        ...

    def reading(self) -> NDArray[np.float64]:
        """Success, reward and progress; then as many numbers as the facts name: measured, expert, and each observation."""
        ...

    def facts(self) -> dict[str, object]:
        """Of the episode: sizes of the parts of a reading in their order, and the model (a path or XML)."""
        ...

    def fields(self) -> dict[str, NDArray]:
        """Arrays of the MuJoCo model in which this episode differs from its file."""
        ...

    def pose(self) -> dict[str, NDArray]:
        """Arrays of the MuJoCo data on which a picture depends."""
        ...


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


def serve(make: Callable[[], Environment], packages: tuple[str, ...]) -> None:
    """Answers on the descriptor that the command line names: says hello with the versions of `packages`, or what is missing."""
    pipe = Connection(int(sys.argv[1]))
    try:
        environment = make()
        versions = ", ".join(f"{name} {version(name)}" for name in packages)
    except Exception as error:
        pipe.send_bytes(b"M" + f"{type(error).__name__}: {error}".encode())
        return
    pipe.send_bytes(b"K" + versions.encode())
    while True:
        try:
            request = pipe.recv_bytes()
        except EOFError:
            return
        try:
            reply = b"K" + _answer(environment, request)
        except Exception as error:  # whatever other people's code raises: whoever asked is told, and decides
            where = traceback.extract_tb(error.__traceback__)[-1]
            reply = b"E" + f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})".encode()
        pipe.send_bytes(reply)


def _answer(environment: Environment, request: bytes) -> bytes:
    kind = request[:1]
    if kind == b"S":
        environment.step(np.frombuffer(request, np.float64, offset=1))
        return environment.reading().tobytes()
    if kind == b"P":
        return pack({}, environment.pose())
    values = json.loads(request[1:])
    environment.reset(values["task"], values["seed"])
    return pack(environment.facts(), {"reading": environment.reading(), **environment.fields()})
