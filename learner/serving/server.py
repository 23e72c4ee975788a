"""`embodichain serve`: serves a trained policy over openpi's websocket protocol to robots and simulators in other processes.

The event loop only moves messages. A single other thread runs inference, so that health checks and new connections are answered
meanwhile. Each connection has its own memory, which ends with it. Data from clients are never unpickled.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from embodichain import __version__, robots
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, EmbodiChainError
from embodichain.motion.action import ActionCodec
from embodichain.types import ACTION_DIM
from learner.inference.background import make_policy, thinking_thread
from learner.inference.config import OFF
from learner.inference.policy import Policy
from learner.models.agent import Agent
from learner.models.world_model import Mode
from learner.serving.budget import Memory
from learner.serving.config import ServeConfig
from learner.serving.dialects.lingbot import LingbotConnection
from learner.serving.dialects.native import NativeConnection
from learner.serving.sessions import Connection, Embodiment, MessageReader
from learner.serving.wire import pack, unpack

_LOG = logging.getLogger(__name__)

_WIRE = logging.getLogger(f"{__name__}.wire")
"""Receives the websocket library's log messages about connections."""

AnyConnection: TypeAlias = Connection | LingbotConnection | NativeConnection

_GOODBYE_S = 10.0
"""How long clients may take to close their connections when the server stops [s]."""


def _in_one_line(record: logging.LogRecord) -> bool:
    """A log filter that passes every record but turns a client's protocol errors into one line without a traceback."""
    if record.exc_info and record.exc_info[1] is not None:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]}", ()
        record.exc_info = record.exc_text = None
    return True


_WIRE.addFilter(_in_one_line)


class PolicyServer:
    """Serves one agent to many clients. It must be made and run in one thread, which runs the event loop."""

    def __init__(self, agent: Agent, body: Embodiment, config: ServeConfig, extra: dict[str, Any] | None = None) -> None:
        self._agent, self._body, self._config = agent, body, config
        self._reader = MessageReader(body, config.rename)
        if config.sai is not None:
            agent.model.check(Mode(config.sai.variant, config.sai.s_mid))  # fail at the start, not at the first request
        self._compute = thinking_thread("infer")
        self._background = thinking_thread("speculate")
        self._memory = Memory(config.max_memory_mib << 20)
        self._open = 0
        self.metadata: dict[str, Any] = {
            "server": f"embodichain {__version__}",
            "cameras": list(body.cameras),
            "image_shape": [body.height, body.width, 3],
            "state_sizes": {"unified": ACTION_DIM, "native": body.native},
            "action_horizon": body.chunk,
            "execution_horizon": [0, body.chunk],
            "dialect": config.dialect,
            "family": agent.config.model.family,
            "modes": [*agent.model.modes, *agent.model.late_modes],
            "horizon": agent.model.horizon,
            "control_hz": body.control_hz,
            "speculation": OFF if config.sai is None else f"{config.sai.variant} to s_mid {config.sai.s_mid:g}",
            **(extra or {}),
        }

    def make_policy(self) -> Policy:
        """The policy of a new session."""
        config = self._config
        return make_policy(self._agent, config.sai, seed=config.seed, worker=self._background, limits=self._body.limits)

    def warm_up(self) -> None:
        """Runs two inferences, with native and unified vectors, so that the first client need not wait for lazy initialisation.

        Then it shows the policy frames until its memory grows no more, so that the server knows from the first client on how much
        memory a session may take, and its metadata say whether it imagines frames that can be shown.
        """
        policy, body = self.make_policy(), self._body
        policy.begin("warm up")
        measured = body.encode(body.home)
        picture = np.zeros((len(body.cameras), body.height, body.width, 3), np.uint8)
        for _ in range(2):
            body.encode(body.decode(policy.act(picture, measured)))
        before = -1
        while (size := policy.memory.size_bytes) > before:
            before = size
            policy.watch(picture, measured)
        self.metadata["imagines"] = policy.imagined is not None and self._agent.encoder.decodes
        self._memory.note(policy)
        self._memory.forget(policy)
        policy.close()

    async def run(self, ready: Callable[[int], None], stop: asyncio.Event) -> None:
        """Listens until `stop` is set; calls `ready` with the port. Raises ConfigError when the address cannot be used."""
        config = self._config
        try:
            server = await listen(
                self._converse,
                config.host,
                config.port,
                compression=None,
                max_size=config.max_message_bytes,
                max_queue=2,  # bounds the messages waiting for each client, and so the server's memory
                origins=[None],  # refuses browsers, so that no web page can drive a robot through its visitor
                process_request=self._admit,
                logger=_WIRE,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {config.host}:{config.port}: {error.strerror or error}; choose another --port"
            ) from error
        try:
            ready(next(iter(server.sockets)).getsockname()[1])
            await stop.wait()
        finally:
            await _goodbye(server)
            self._background.shutdown(wait=True, cancel_futures=True)
            self._compute.shutdown(wait=True, cancel_futures=True)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if self._config.api_key and not has_key(request.headers.get_all("Authorization"), self._config.api_key):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "this server wants `Authorization: Api-Key ...`\n")
        if self._open >= self._config.max_connections:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{self._open} clients are connected already\n")
        return None

    def _new_connection(self) -> AnyConnection:
        if self._config.dialect == "lingbot":
            return LingbotConnection(self.make_policy, self._reader, self._memory)
        if self._config.dialect == "native":
            return NativeConnection(self.make_policy, self._reader, self._body, self._memory)
        return Connection(self.make_policy, self._reader, self._body, max_sessions=self._config.max_sessions, memory=self._memory)

    async def _converse(self, socket: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        connection = self._new_connection()
        self._open += 1
        previous_s: float | None = None
        try:
            await socket.send(pack(self.metadata))
            async for data in socket:
                received = time.perf_counter()
                try:
                    reply = await loop.run_in_executor(self._compute, _answer, connection, data)
                except EmbodiChainError as error:
                    await socket.send(str(error))
                    continue
                timing = {"infer_ms": 1e3 * (time.perf_counter() - received)}
                if previous_s is not None:
                    timing["prev_total_ms"] = 1e3 * previous_s
                is_timed = reply or connection.times_everything
                await socket.send(pack({**reply, "server_timing": timing} if is_timed else {}))
                previous_s = time.perf_counter() - received
        except ConnectionClosed:
            pass  # the client has disconnected, maybe in the middle of a request: end only its sessions
        except Exception:  # a bug in the server: log it, tell the client, keep serving the others
            _LOG.exception("a request failed")
            await _fail(socket)
        finally:
            self._open -= 1
            await loop.run_in_executor(self._compute, connection.close)


def has_key(given: Sequence[str], api_key: str) -> bool:
    """Whether the `Authorization` headers of a request, decoded as websockets does, are one that holds the key; in constant time.

    Bytes are compared, because a client may send any. The key is expected in UTF-8, as the websockets library sends it.
    """
    expected = f"Api-Key {api_key}".encode(errors="surrogateescape")
    return len(given) == 1 and hmac.compare_digest(given[0].encode("ascii", "surrogateescape"), expected)


def _answer(connection: AnyConnection, data: str | bytes) -> dict[str, Any]:
    if isinstance(data, str):
        return connection.answer(unpack(data.encode()))  # a text message: `unpack` refuses it and says what is expected
    return connection.answer(unpack(data))


async def _fail(socket: ServerConnection) -> None:
    try:
        await socket.send("the server failed on this request; its log says why")
        await socket.close(1011, "internal error")
    except ConnectionClosed:
        pass


async def _goodbye(server: Server) -> None:
    server.close()
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await server.wait_closed()
    except TimeoutError:
        _LOG.warning("some clients did not say goodbye in time")


def embodiment(world: WorldConfig) -> Embodiment:
    """What clients must send for the robot of this world."""
    robot = robots.get(world.robot)
    codec = ActionCodec(robot)
    return Embodiment(
        cameras=tuple(camera.name for camera in robot.cameras),
        height=world.height,
        width=world.width,
        native=robot.command_size,
        control_hz=robot.control_hz,
        chunk=world.chunk,
        limits=codec.limits,
        home=robot.home,
        encode=codec.encode,
        decode=codec.decode,
    )
