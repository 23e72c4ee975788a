"""Clients that feed frames back apart from asking for actions: the same memory, and errors that change nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import websockets.asyncio.client
import websockets.sync.client
from learner_parts import LIMITS, NAMES, SMALL, fitted, measured, shaken, trajectory
from websockets.exceptions import InvalidStatus

from embodichain import robots
from embodichain.errors import ConfigError
from embodichain.motion.action import ActionCodec
from embodichain.types import CHUNK
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import make_policy
from learner.inference.policy import Policy
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.x_wam.config import XwamConfig
from learner.serving.budget import Memory, RequestError
from learner.serving.config import ServeConfig
from learner.serving.dialects.lingbot import LingbotConnection
from learner.serving.server import PolicyServer
from learner.serving.sessions import Connection, MessageReader
from learner.serving.wire import pack, unpack

SIZES = {"dim": 24, "layers": 2, "heads": 2, "ffn": 32, "time_frequencies": 8, "video_steps": 2, "action_steps": 2}


def agent_of(model, trajectories):
    made = fitted(replace(SMALL, model=model), RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=2)))
    shaken(made.model)
    return made


@pytest.fixture(scope="module")
def agent(trajectories):
    return agent_of(LingbotConfig(**SIZES), trajectories)


def frame(t: int, number: int = 0) -> dict:
    episode = trajectory(number)
    return {"images": dict(zip(NAMES, episode["rgb"][t % 6], strict=True)), "state": measured(t, number)}


def at_home() -> np.ndarray:
    """The state of a robot that stands still."""
    robot = robots.get("dual_piper")
    return ActionCodec(robot).encode(robot.home)


def limited(agent) -> Callable[[], Policy]:
    """Makes policies for a robot with limits."""
    return partial(make_policy, agent, None, limits=LIMITS)


def connect(agent, body) -> LingbotConnection:
    connection = LingbotConnection(limited(agent), MessageReader(body), Memory(1 << 30))
    assert connection.answer({"reset": True, "prompt": "turn the switch on"}) == {}
    return connection


def round_trip(connection, t: int, number: int = 0) -> np.ndarray:
    """Asks for actions at frame t and feeds back frame t + 1 with them."""
    action = connection.answer({"obs": frame(t, number), "prompt": "turn the switch on"})["action"]
    told = {"obs": [frame(t + 1, number)], "compute_kv_cache": True, "imagine": False, "state": action, "video_guidance_scale": 5}
    assert connection.answer(told) == {}
    return action


def test_a_client_that_feeds_back_gets_the_actions_that_one_that_observes_gets(agent, body):
    connection, policy = connect(agent, body), limited(agent)()
    policy.begin("turn the switch on")
    last = None
    for t in range(4):
        action = round_trip(connection, t)
        assert action.shape == (30, 1, CHUNK)
        seen = frame(t)
        expected = policy.act(np.stack([seen["images"][name] for name in NAMES]), seen["state"], last)
        np.testing.assert_array_equal(action[:, 0].T, expected)
        last = expected


def test_two_connections_share_nothing_and_one_that_dies_harms_nobody(agent, body):
    alone = [round_trip(connection, t, 1) for connection in [connect(agent, body)] for t in range(3)]
    one, two = connect(agent, body), connect(agent, body)
    together = []
    for t in range(3):
        round_trip(one, t, 2)
        together.append(round_trip(two, t, 1))
    one.answer({"obs": frame(3, 2), "prompt": "turn the switch on"})
    one.close()  # between actions and feedback
    np.testing.assert_array_equal(alone, together)
    with pytest.raises(RequestError, match="nothing is under way"):
        one.answer({"obs": frame(0)})


def test_what_comes_out_of_order_or_in_another_number_is_refused_and_changes_nothing(agent, body):
    connection, other = connect(agent, body), connect(agent, body)
    first = connection.answer({"obs": frame(0), "prompt": ""})["action"]
    feedback = {"obs": [frame(1)], "compute_kv_cache": True, "state": first}
    for wrong, message in (
        ({"obs": frame(1)}, "must be fed back before"),
        ({**feedback, "obs": [frame(1), frame(2)]}, r"holds 1 frame\(s\) here"),
        ({**feedback, "state": first[:, :, :8]}, r"numbers \[30, 1, 16\]"),
        ({"reset": True}, "needs a prompt"),
        ({"reset": np.ones(2, bool), "prompt": ""}, "reset must be true or false"),
        ({**feedback, "compute_kv_cache": np.ones(2)}, "compute_kv_cache must be true or false"),
        ({**feedback, "state": [[1.0], [1.0, 2.0]]}, "state must be an array of numbers"),
        ({**feedback, "state": first.astype(np.float64) + 1e300}, "state holds values that are not finite"),
        ({**feedback, "state": first + np.float32(1e30)}, "this executed action cannot be"),
        ({**feedback, "obs": [{**frame(1), 7: 1}]}, "keys are strings, got 7"),
        ({**feedback, "obs": [{**frame(1), "state": np.full(30, 1e30)}]}, "this state cannot be"),
    ):
        with pytest.raises(RequestError, match=message):
            connection.answer(wrong)
    connection.answer(feedback)
    with pytest.raises(RequestError, match="fed back once"):
        connection.answer(feedback)
    round_trip(other, 0)
    np.testing.assert_array_equal(connection.answer({"obs": frame(1)})["action"], other.answer({"obs": frame(1)})["action"])


def test_decisions_of_several_chunks_come_whole_and_to_other_clients_when_they_ask(trajectories, body):
    agent = agent_of(XwamConfig(**SIZES), trajectories)
    connection = connect(agent, body)
    action = connection.answer({"obs": frame(0)})["action"]
    assert action.shape == (30, 2, CHUNK)
    connection.answer({"obs": [frame(1), frame(2)], "compute_kv_cache": True, "state": action})
    assert connection.answer({"obs": frame(2)})["action"].shape == (30, 2, CHUNK)
    plain = Connection(limited(agent), MessageReader(body), body, max_sessions=2, memory=Memory(1 << 30))
    asked = {**frame(0), "prompt": "turn the switch on"}
    short, whole = plain.answer(asked)["actions"], plain.answer({**asked, "reset": True, "horizon": True})["actions"]
    assert short.shape == (CHUNK, 30) and whole.shape == (2 * CHUNK, 30)
    np.testing.assert_array_equal(short, whole[:CHUNK])


def test_sessions_begun_in_this_dialect_count_against_the_memory_too(agent, body):
    known = Memory(1 << 30)
    one = LingbotConnection(limited(agent), MessageReader(body), known)
    one.answer({"reset": True, "prompt": ""})
    one.answer({"obs": frame(0)})
    tight = Memory(2 * known.each_bytes)
    begun = [LingbotConnection(limited(agent), MessageReader(body), tight) for _ in range(4)]
    for connection in begun:
        connection.answer({"reset": True, "prompt": ""})  # nobody knows yet what a session takes
    for connection in begun[:2]:
        connection.answer({"obs": frame(0)})
    for connection in begun[2:]:
        with pytest.raises(RequestError, match="2 sessions hold"):
            connection.answer({"obs": frame(0)})
    for connection in begun:
        connection.close()
    for connection in begun[:2]:
        connection.answer({"reset": True, "prompt": ""})
    begun[0].answer({"reset": True, "prompt": "again"})
    with pytest.raises(RequestError, match="2 sessions hold"):
        begun[2].answer({"reset": True, "prompt": ""})


def test_a_server_knows_before_its_first_client_how_large_a_memory_becomes(agent, body):
    server = PolicyServer(agent, body, ServeConfig(port=0, dialect="lingbot"))
    server.warm_up()
    connection = server._new_connection()
    connection.answer({"reset": True, "prompt": ""})
    known = server._memory.each_bytes
    for t in range(20):  # more than the window of 32 half chunks
        round_trip(connection, t % 5)
    assert server._memory.each_bytes == known > 0
    connection.close()


def test_what_several_frames_hold_is_checked_before_any_is_watched(trajectories, body):
    agent = agent_of(XwamConfig(**SIZES), trajectories)
    told, untold = connect(agent, body), connect(agent, body)
    for connection in (told, untold):
        action = connection.answer({"obs": frame(0)})["action"]
    feedback = {"obs": [frame(1), frame(2)], "compute_kv_cache": True, "state": action}
    for _ in range(2):
        with pytest.raises(RequestError, match="this state cannot be"):
            told.answer({**feedback, "obs": [frame(1), {**frame(2), "state": np.full(30, 1e30)}]})
    for connection in (told, untold):
        assert connection.answer(feedback) == {}
    np.testing.assert_array_equal(told.answer({"obs": frame(2)})["action"], untold.answer({"obs": frame(2)})["action"])


def test_a_burst_of_clients_gets_no_more_connections_than_are_allowed(agent, body):
    server = PolicyServer(agent, body, ServeConfig(port=0, max_connections=2))

    async def drive() -> tuple[int, int]:
        stop, ports = asyncio.Event(), asyncio.Queue()
        running = asyncio.create_task(server.run(ports.put_nowait, stop))
        address = f"ws://127.0.0.1:{await ports.get()}"

        async def burst() -> list:
            clients = (websockets.asyncio.client.connect(address, compression=None) for _ in range(12))
            return await asyncio.gather(*clients, return_exceptions=True)

        admitted = []
        for _ in range(2):
            tried = await burst()
            clients = [client for client in tried if not isinstance(client, BaseException)]
            assert all(client.response.status_code == 503 for client in tried if isinstance(client, InvalidStatus))
            admitted.append(len(clients))
            for client in clients:
                await client.close()
        stop.set()
        await running
        return tuple(admitted)

    assert asyncio.run(drive()) == (2, 2)


def test_dialects_that_nobody_speaks_are_refused():
    with pytest.raises(ConfigError, match="unknown dialect 'zeromq'; available"):
        ServeConfig(dialect="zeromq")


def test_over_a_socket_every_reply_is_timed_and_an_error_is_text_that_ends_nothing(agent, body):
    server = PolicyServer(agent, body, ServeConfig(port=0, dialect="lingbot"))
    assert server.metadata["family"] == "lingbot_va" and server.metadata["modes"] == ["naive", "grounded"]

    def seen(t: int) -> dict:
        return {**frame(t), "state": at_home()}

    def client(port: int) -> None:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as socket:
            assert unpack(socket.recv())["dialect"] == "lingbot"

            def ask(message: dict) -> dict | str:
                socket.send(pack(message))
                reply = socket.recv()
                return reply if isinstance(reply, str) else unpack(reply)

            assert set(ask({"reset": True, "prompt": "turn the switch on"})) == {"server_timing"}
            action = ask({"obs": seen(0), "prompt": "turn the switch on"})["action"]
            assert "must be fed back before" in ask({"obs": seen(1)})
            assert set(ask({"obs": [seen(1)], "compute_kv_cache": True, "state": action})) == {"server_timing"}
            assert ask({"obs": seen(1)})["action"].shape == (30, 1, CHUNK)

    async def drive() -> None:
        stop, ports = asyncio.Event(), asyncio.Queue()
        running = asyncio.create_task(server.run(ports.put_nowait, stop))
        await asyncio.to_thread(client, await ports.get())
        stop.set()
        await running

    asyncio.run(drive())
