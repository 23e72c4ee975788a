"""This project's own dialect: the decisions of the policy itself, and errors that change nothing."""

import asyncio
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import websockets.sync.client
from learner_parts import LIMITS, NAMES, SMALL, fitted, measured, shaken, trajectory
from test_dialects import SIZES, at_home

from embodichain.errors import ConfigError, LearnerError
from embodichain.types import CHUNK
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import make_policy
from learner.inference.config import SaiConfig
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.x_wam.config import XwamConfig
from learner.serving.budget import Memory, RequestError
from learner.serving.config import ServeConfig
from learner.serving.dialects.native import NativeConnection
from learner.serving.server import PolicyServer
from learner.serving.sessions import MessageReader
from learner.serving.wire import pack, unpack

BEGIN = {"do": "begin", "prompt": "turn the switch on"}


def agent_of(model, trajectories, codec: str = "dino"):
    config = replace(SMALL, model=model, encoder=replace(SMALL.encoder, codec=codec))
    made = fitted(config, RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=2)))
    shaken(made.model)
    return made


@pytest.fixture(scope="module")
def causal(trajectories):
    return agent_of(LingbotConfig(**SIZES), trajectories)


@pytest.fixture(scope="module")
def joint(trajectories):
    """Its latents can be decoded, and its decisions hold two chunks."""
    return agent_of(XwamConfig(**SIZES), trajectories, codec="vae")


def connect(agent, body, ahead: SaiConfig | None = None) -> NativeConnection:
    connection = NativeConnection(partial(make_policy, agent, ahead, limits=LIMITS), MessageReader(body), body, Memory(1 << 30))
    assert connection.answer(BEGIN) == {}
    return connection


def seen(t: int, do: str = "act", **more) -> dict:
    pictures = dict(zip(NAMES, trajectory(0)["rgb"][t % 6], strict=True))
    return {"do": do, "images": pictures, "state": measured(t, 0), **more}


def begun(agent, ahead: SaiConfig | None = None):
    policy = make_policy(agent, ahead, limits=LIMITS)
    policy.begin("turn the switch on")
    return policy


def shown(message: dict) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([message["images"][name] for name in NAMES]), message["state"]


def test_replies_hold_the_policys_own_decisions_for_this_robot_and_what_they_cost(causal, body):
    connection, policy = connect(causal, body), begun(causal)
    for t in range(4):
        reply, own = connection.answer(seen(t)), policy.act(*shown(seen(t)))
        np.testing.assert_array_equal(reply["actions"], own)
        np.testing.assert_array_equal(reply["commands"], body.decode(own).astype(np.float32))
        assert reply["chunk"] == CHUNK and reply["outcome"] == "synchronous" and reply["frames"] == t + 1
        assert reply["evaluations"] == policy.last.evaluations and reply["state_bytes"] == policy.memory.size_bytes
    assert connection.answer({"do": "end"}) == {}
    with pytest.raises(RequestError, match="nothing is under way"):
        connection.answer(seen(4))


def test_frames_that_are_only_watched_are_remembered_with_the_actions_that_were_executed(joint, body):
    connection, policy = connect(joint, body), begun(joint)
    whole = connection.answer(seen(0))["actions"]
    first = policy.act(*shown(seen(0)))
    assert whole.shape == (2 * CHUNK, 30)
    np.testing.assert_array_equal(whole, np.concatenate([first, policy.rest]))
    assert set(connection.answer(seen(1, "watch"))) == {"frames", "state_bytes"}
    policy.watch(*shown(seen(1)))
    with pytest.raises(RequestError, match="was only watched: say which actions were executed since"):
        connection.answer(seen(2))
    reply = connection.answer(seen(2, executed=whole[CHUNK:]))
    np.testing.assert_array_equal(reply["actions"][:CHUNK], policy.act(*shown(seen(2)), whole[CHUNK:]))


def test_what_a_policy_imagines_can_be_seen_where_it_can_be_decoded(joint, causal, body):
    connection, policy = connect(joint, body), begun(joint)
    with pytest.raises(LearnerError, match="no frame is predicted"):
        connection.answer({"do": "imagine"})
    connection.answer(seen(0))
    policy.act(*shown(seen(0)))
    pictures = connection.answer({"do": "imagine"})["images"]
    assert list(pictures) == list(NAMES)
    raw = joint.normalizer.encoder_latents(policy.imagined[None])
    expected = joint.encoder.decode(raw, *joint.grid(np.stack([trajectory(0)["rgb"][0]])))[0].numpy()
    np.testing.assert_array_equal(np.stack(list(pictures.values())), expected)
    blind = connect(causal, body)
    blind.answer(seen(0))
    with pytest.raises(ConfigError, match="cannot be decoded into pictures: use vae"):
        blind.answer({"do": "imagine"})


def test_a_lost_frame_is_bridged_by_who_thinks_ahead_and_refused_by_others(causal, body):
    ahead = SaiConfig(variant="grounded")
    connection, policy = connect(causal, body, ahead), begun(causal, ahead)
    connection.answer(seen(0))
    policy.act(*shown(seen(0)))
    reply = connection.answer({"do": "blind"})
    np.testing.assert_array_equal(reply["actions"], policy.act_blind())
    assert reply["outcome"] == "blind"
    connection.close()
    policy.close()
    plain = connect(causal, body)
    plain.answer(seen(0))
    with pytest.raises(RequestError, match="start it with --sai"):
        plain.answer({"do": "blind"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"do": "dance"}, "got do='dance'; available: begin, act, watch, blind, imagine, end"),
        ({"prompt": "x"}, "got do=None"),
        ({"do": "begin"}, "needs a prompt"),
        ({**BEGIN, "state": np.zeros(30)}, "'begin' takes prompt, got 'state'"),
        ({"do": "end", "prompt": "x"}, "'end' takes nothing, got 'prompt'"),
        ({"do": "act", "state": np.zeros(30)}, "no picture of camera"),
        (seen(1, session_id="x"), "'act' takes images and state and executed, got 'session_id'"),
        (seen(1) | {"state": np.full(30, 1e30)}, "this state cannot be"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(causal, body, wrong, message):
    told, untold = connect(causal, body), connect(causal, body)
    for connection in (told, untold):
        connection.answer(seen(0))
    with pytest.raises(RequestError, match=message):
        told.answer(wrong)
    np.testing.assert_array_equal(told.answer(seen(1))["actions"], untold.answer(seen(1))["actions"])


def test_executed_actions_before_the_first_frame_are_refused(causal, body):
    with pytest.raises(RequestError, match="this one just begins"):
        connect(causal, body).answer(seen(0, executed=np.zeros((CHUNK, 30), np.float32)))


def test_over_a_socket_the_server_says_what_it_imagines_and_every_reply_is_timed(joint, body):
    server = PolicyServer(joint, body, ServeConfig(port=0, dialect="native"))
    server.warm_up()
    assert server.metadata["dialect"] == "native" and server.metadata["imagines"] is True

    def client(port: int) -> None:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as socket:
            assert unpack(socket.recv())["dialect"] == "native"

            def ask(message: dict) -> dict | str:
                socket.send(pack(message))
                reply = socket.recv()
                return reply if isinstance(reply, str) else unpack(reply)

            assert "nothing is under way" in ask(seen(0))
            assert set(ask(BEGIN)) == {"server_timing"}
            assert ask({**seen(0), "state": at_home()})["actions"].shape == (2 * CHUNK, 30)
            assert ask({"do": "imagine"})["images"][NAMES[0]].dtype == np.uint8

    async def drive() -> None:
        stop, ports = asyncio.Event(), asyncio.Queue()
        running = asyncio.create_task(server.run(ports.put_nowait, stop))
        await asyncio.to_thread(client, await ports.get())
        stop.set()
        await running

    asyncio.run(drive())
