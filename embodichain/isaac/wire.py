"""The protocol between EmbodiChain and a simulator in another interpreter: msgpack frames over a socket, arrays in shared memory.

The simulator's interpreter has its own Python and packages, so this file uses only the standard library, NumPy and msgpack, and
imports nothing of EmbodiChain: the server loads it by its path.

A request is a map with its number, "n", and the operation, "do". Its reply carries the same number and either the result or
"error". A reply may come with a new board, as a file descriptor beside the frame: the arrays for commands, states and pictures from
then on.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import signal
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgpack
import numpy as np
from numpy.typing import NDArray

ABI = 2
"""Version of the protocol, raised with every change; both sides must agree."""
MOST_PAIRS = 128
"""Largest number of pairs of bodies that are reported for one world and one control period. Where more touch, the
world's state is void: see `report_pairs`."""
_LOOKS = ("textures", "cameras", "exposure", "noise", "wander", "setting", "sensor")
KINDS: tuple[str, ...] = ("drives", "damping", "grip", "delay", *_LOOKS)
"""Properties that a scene may vary but USD cannot express: stiffness, damping and torque of servos; damping of the robot's joints;
friction of its fingers; delay of commands; patterns; cameras; exposure; noise; drift; room and finishes; errors of sensors. A
simulator names those that it applies."""
_HEADER = struct.Struct("<IB")
_MOST_BYTES = 1 << 26
_ALIGN = 64
SIZES: tuple[str, ...] = ("objects", "joints", "grains")
"""The numbers that decide the size of a board, each the largest of any world; the simulator reports these and nothing else."""
MOST = 1 << 16
"""Largest such number that is accepted."""
GRACE_S = 20.0
"""Time after which a server is killed when the other side is gone [s]."""
_ADD_SEALS, _GET_SEALS, _SEALS = 1033, 1034, 2 | 4
"""fcntl's F_ADD_SEALS and F_GET_SEALS; F_SEAL_SHRINK and F_SEAL_GROW."""

Layout = Sequence[tuple[str, str, tuple[int, ...]]]
"""Name, dtype and shape of every array of a board."""


class PeerError(Exception):
    """The other side is gone, does not answer, or breaks the protocol; the message says which."""


class SharedArrays:
    """Named arrays in anonymous shared memory whose size is sealed."""

    def __init__(self, layout: Layout, descriptor: int) -> None:
        """Maps a board that `create` made, in this process or another, and closes the descriptor.

        Raises PeerError when it is too small, or not sealed against shrinking.
        """
        self.layout = layout
        self.arrays: dict[str, NDArray[Any]] = {}
        try:
            size = sum(_extent(dtype, shape) for _, dtype, shape in layout)
            if os.fstat(descriptor).st_size < size or fcntl.fcntl(descriptor, _GET_SEALS) & _SEALS != _SEALS:
                raise PeerError(f"a board of {size} bytes came in a file of {os.fstat(descriptor).st_size}, or one that may shrink")
            memory = mmap.mmap(descriptor, max(size, 1))
        except OSError as error:
            raise PeerError(f"a board cannot be mapped ({error})") from error
        finally:
            os.close(descriptor)
        start = 0
        for name, dtype, shape in layout:
            self.arrays[name] = np.ndarray(shape, dtype, memory, start)
            start += _extent(dtype, shape)

    @staticmethod
    def create(layout: Layout) -> int:
        """A descriptor of zeroed memory for a board."""
        descriptor = os.memfd_create("embodichain-board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, max(1, sum(_extent(dtype, shape) for _, dtype, shape in layout)))
        fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS)
        return descriptor


class Wire:
    """One end of a connection. Owned by one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: Mapping[str, Any], descriptor: int | None = None, *, timeout_s: float | None = None) -> None:
        """Sends one frame, and a descriptor with it if given.

        Raises PeerError when the other side is gone, or has not accepted the frame within `timeout_s` [s] (None waits forever).
        """
        pack: Any = msgpack.packb
        body = pack(message)
        head = _HEADER.pack(len(body), descriptor is not None)
        self._socket.settimeout(timeout_s)
        try:
            if descriptor is None:
                self._socket.sendall(head + body)
            else:
                socket.send_fds(self._socket, [head], [descriptor])
                self._socket.sendall(body)
        except TimeoutError as error:
            raise PeerError(f"what was said was not taken within {timeout_s:g} s") from error
        except OSError as error:
            raise PeerError(f"the other side is gone ({error})") from error

    def receive(self, timeout_s: float | None = None) -> tuple[dict[str, Any], int | None]:
        """The next frame, and the descriptor that came with it.

        Raises PeerError when none comes within `timeout_s` [s] (None waits forever), and when the other side is gone.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        descriptors: list[int] = []
        try:
            head = b""
            while len(head) < _HEADER.size:
                self._patience(deadline)
                part, found, _, _ = socket.recv_fds(self._socket, _HEADER.size - len(head), 1)
                descriptors += found
                if not part:
                    raise PeerError("the other side has closed the connection")
                head += part
            size, has_descriptor = _HEADER.unpack(head)
            if size > _MOST_BYTES or bool(has_descriptor) != bool(descriptors):
                raise PeerError(f"what came is no frame: {size} bytes, {len(descriptors)} descriptors")
            body = bytearray()
            while len(body) < size:
                self._patience(deadline)
                part = self._socket.recv(size - len(body))
                if not part:
                    raise PeerError("the other side has closed the connection")
                body += part
            message: Any = msgpack.unpackb(bytes(body), strict_map_key=False)
            if not isinstance(message, dict):
                raise PeerError(f"a frame holds a map, not {type(message).__name__}")
        except BaseException as error:
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(error, TimeoutError):
                raise PeerError(f"no answer within {timeout_s:g} s") from error
            if isinstance(error, (OSError, ValueError, TypeError, msgpack.exceptions.UnpackException)):
                raise PeerError(f"what came cannot be read ({error})") from error
            raise
        return message, descriptors[0] if descriptors else None

    def _patience(self, deadline: float | None) -> None:
        self._socket.settimeout(None if deadline is None else max(1e-3, deadline - time.monotonic()))

    def close(self) -> None:
        """Ends the connection; safe to call twice."""
        self._socket.close()


class Simulator(Protocol):
    """The interface of a simulator behind a server: worlds of one robot. Units: m, rad, quaternions w x y z, N, s."""

    def hello(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Starts worlds for "robot", "num_worlds", "width", "height", "cameras" and "shadows"; returns "versions",
        "command_size", and in "applies" those of `KINDS` that it applies: scenes that vary others are never sent to it.

        Raises ValueError with the reason for a request that it cannot serve.
        """
        ...

    def load(self, worlds: Sequence[int], paths: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Loads scenes, given by the paths of their USD files, into worlds, with the robot at home.

        Returns, by world, the names of its "bodies" in the order of their numbers in contacts, or an "error".
        """
        ...

    def sizes(self) -> dict[str, int]:
        """Largest numbers of "objects", "joints" and "grains" in any loaded world."""
        ...

    def step(self, command: NDArray[np.float64], pushes: Mapping[int, Sequence[tuple[str, Sequence[float]]]]) -> dict[int, str]:
        """Performs one control period in every world; returns, by world, why its state is void from now on."""
        ...

    def look(self, tape: Mapping[str, NDArray[Any]]) -> None:
        """Writes the state of every world into the arrays that `tape_layout` lists.

        "num_pairs" is the number of pairs that touched, even if there is no room for them: see `report_pairs`.
        """
        ...

    def render(self, worlds: Sequence[int], pictures: Mapping[str, NDArray[Any]]) -> None:
        """Draws the cameras of `worlds` into the first rows of "rgb", "range" (depth) and "segmentation"."""
        ...

    def close(self) -> None:
        """Ends the simulation."""
        ...


def report_pairs(count: int, *, lost: bool = False) -> int:
    """The "num_pairs" of a world in which `count` pairs touched: more than `MOST_PAIRS` says that its state is void.

    `lost` says that there were others, of unknown number.
    """
    return min(max(count, MOST_PAIRS + 1) if lost else count, int(np.iinfo(np.int16).max))


def tape_layout(worlds: int, command_size: int, sizes: Mapping[str, int]) -> list[tuple[str, str, tuple[int, ...]]]:
    """The arrays of a board for commands and states; names and meaning as in `types.tapes.Tape`."""
    objects, joints, grains = sizes["objects"], sizes["joints"], sizes["grains"]
    return [
        ("command", "float64", (worlds, command_size)),
        ("time_s", "float64", (worlds,)),
        ("measured", "float64", (worlds, command_size)),
        ("pose", "float64", (worlds, objects, 7)),
        ("velocity", "float64", (worlds, objects, 6)),
        ("joint", "float64", (worlds, joints)),
        ("grain", "float64", (worlds, grains, 6)),
        ("pair", "int16", (worlds, MOST_PAIRS, 2)),
        ("force", "float64", (worlds, MOST_PAIRS)),
        ("depth", "float64", (worlds, MOST_PAIRS)),
        ("peak", "float64", (worlds, MOST_PAIRS)),
        ("push", "float64", (worlds, MOST_PAIRS, 3)),
        ("num_pairs", "int16", (worlds,)),
    ]


def picture_layout(worlds: int, cameras: int, height: int, width: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """The arrays of a board for pictures."""
    size = (worlds, cameras, height, width)
    return [("rgb", "uint8", (*size, 3)), ("range", "float32", size), ("segmentation", "uint8", size)]


def serve(connection: socket.socket, simulator: Simulator) -> None:
    """Answers requests until the other side sends "close" or is gone. An error of the simulator is sent as the answer."""
    threading.Thread(target=_end_with, args=(connection.fileno(),), daemon=True).start()
    wire = Wire(connection)
    host = _Host(simulator)
    try:
        while True:
            try:
                request, _ = wire.receive()
            except PeerError:
                return
            board: int | None = None
            try:
                reply, board = host.answer(request)
            except Exception as error:
                traceback.print_exc()
                reply = {"error": f"{type(error).__name__}: {error}"}
            try:
                wire.send({**reply, "n": request.get("n")}, board)
            finally:
                if board is not None:
                    os.close(board)
            if request.get("do") == "close":
                return
    finally:
        simulator.close()


def _end_with(descriptor: int) -> None:
    """Kills this process some time after the other side is gone, because a hanging simulator would keep its GPU forever."""
    watch = select.poll()
    watch.register(descriptor, select.POLLHUP | select.POLLRDHUP)
    watch.poll()
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)  # a simulator that hangs cannot be asked to end


class _Host:
    """Handles requests one after another, on a simulator and the board that it shares."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._board: SharedArrays | None = None
        self._pictures: list[tuple[str, str, tuple[int, ...]]] = []
        self._worlds = self._command_size = 0
        self._sizes = dict.fromkeys(SIZES, 0)

    @property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        if self._board is None:
            raise RuntimeError("say hello first")
        return self._board.arrays

    def answer(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """The reply, and the descriptor of the board if it is new."""
        deeds: dict[str, Callable[[Mapping[str, Any]], tuple[dict[str, Any], int | None]]] = {
            "hello": self._hello,
            "load": self._load,
            "step": self._step,
            "look": self._look,
            "render": self._render,
            "close": lambda _: ({}, None),
        }
        return deeds[str(request["do"])](request)

    def _hello(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        if request["abi"] != ABI:
            return {"error": f"the server speaks ABI {ABI}, not {request['abi']}: install one version on both sides"}, None
        told = self._simulator.hello(request)
        self._worlds, self._command_size = int(request["num_worlds"]), int(told["command_size"])
        self._pictures = picture_layout(self._worlds, len(request["cameras"]), int(request["height"]), int(request["width"]))
        return {**told, "abi": ABI, "sizes": self._sizes}, self._renew()

    def _renew(self) -> int | None:
        """A descriptor of a new board when the old one is too small, else None. Boards never get smaller."""
        wanted = self._simulator.sizes()
        if self._board is not None and all(wanted[name] <= self._sizes[name] for name in SIZES):
            return None
        self._sizes.update({name: max(wanted[name], self._sizes[name]) for name in SIZES})
        layout = tape_layout(self._worlds, self._command_size, self._sizes) + self._pictures
        descriptor = SharedArrays.create(layout)
        self._board = SharedArrays(layout, os.dup(descriptor))
        return descriptor

    def _load(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        loaded = self._simulator.load(request["worlds"], request["scenes"])
        board = self._renew()
        self._simulator.look(self._arrays)
        return {"worlds": loaded, "sizes": self._sizes}, board

    def _step(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        faults = self._simulator.step(self._arrays["command"].copy(), request["pushes"])
        self._simulator.look(self._arrays)
        return {"faults": faults}, None

    def _look(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        self._simulator.look(self._arrays)
        return {}, None

    def _render(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        self._simulator.render(request["worlds"], self._arrays)
        return {}, None


def _extent(dtype: str, shape: Sequence[int]) -> int:
    size = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
    return -(-size // _ALIGN) * _ALIGN
