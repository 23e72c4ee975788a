"""Sessions remember what they saw and nothing of each other; a request that is refused has changed nothing."""

from functools import partial

import numpy as np
import pytest
import torch
from learner_parts import LIMITS, PROMPT, measured, request, trajectory

from embodichain import robots
from embodichain.errors import ConfigError, EmbodiChainError, LearnerError
from learner.inference.background import make_policy
from learner.inference.config import SaiConfig
from learner.serving.budget import Memory, RequestError
from learner.serving.sessions import Connection, MessageReader


@pytest.fixture
def connect(agent, body):
    opened: list[Connection] = []

    def make(*, sai: bool = False, rename=None, max_sessions: int = 4) -> Connection:
        policy = partial(make_policy, agent, SaiConfig(s_mid=1.0) if sai else None, limits=body.limits)
        opened.append(Connection(policy, MessageReader(body, rename), body, max_sessions=max_sessions, memory=Memory(1 << 30)))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


def play(connection: Connection, frames: int, number: int = 0, **extra) -> np.ndarray:
    return np.stack([connection.answer(request(t, number, **extra))["actions"] for t in range(frames)])


def test_a_connection_answers_as_the_policy_in_this_process_does(connect, agent):
    policy, episode = make_policy(agent, None, limits=LIMITS), trajectory(0)
    policy.begin(PROMPT)
    expected = np.stack([policy.act(episode["rgb"][t], measured(t)) for t in range(4)])
    assert np.array_equal(play(connect(), 4), expected)


def test_sessions_and_connections_are_as_if_each_were_alone(connect):
    alone = play(connect(), 3)
    one, two = connect(), connect()
    mixed = []
    for t in range(3):
        mixed.append(one.answer(request(t))["actions"])
        two.answer(request(t, 7))
        one.answer(request(t, 5, session_id="other"))
        one.answer(request(t, 9, session_id=4))
    assert np.array_equal(np.stack(mixed), alone)


@pytest.mark.parametrize("how", ["reset", "reset beside an observation", "another prompt", "reset with a prompt"])
def test_reset_and_a_new_prompt_forget(connect, how):
    connection, fresh = connect(), play(connect(), 2)
    play(connection, 2, number=5)
    if how == "reset":
        assert connection.answer({"reset": True}) == {}
    elif how == "reset with a prompt":
        assert connection.answer({"reset": True, "prompt": PROMPT}) == {}
    elif how == "another prompt":
        connection.answer(request(3, prompt="place the mouse"))
    first = connection.answer(request(0, reset=how == "reset beside an observation"))["actions"]
    second = connection.answer(request(1))["actions"]
    assert np.array_equal(np.stack([first, second]), fresh)


def test_the_prompt_need_not_be_repeated_but_must_have_been_said(connect):
    connection, expected = connect(), play(connect(), 3)
    silent = [{key: value for key, value in request(t).items() if key != "prompt"} for t in range(3)]
    with pytest.raises(RequestError, match="needs a prompt"):
        connection.answer(silent[0])
    got = [connection.answer(request(0))["actions"], *(connection.answer(silent[t])["actions"] for t in (1, 2))]
    assert np.array_equal(np.stack(got), expected)


def test_channels_first_and_last_flat_and_nested_are_the_same_picture(connect):
    expected = play(connect(), 1)[0]
    message = request(0)
    first = {**message, "images": {name: picture.transpose(2, 0, 1) for name, picture in message["images"].items()}}
    flat = {"state": message["state"], "prompt": PROMPT, **{f"images/{n}": p for n, p in message["images"].items()}}
    for form in (first, flat):
        assert np.array_equal(connect().answer(form)["actions"], expected)


def test_other_clients_names_are_mapped_and_parts_of_a_state_joined(connect):
    rename = {
        "observation/image": "images/head",
        "observation/wrist_image": "images/wrist",
        "observation/joints": "state/0",
        "observation/grippers": "state/1",
    }
    message = request(0)
    theirs = {
        "observation/image": message["images"]["head"],
        "observation": {"wrist_image": message["images"]["wrist"]},
        "observation/joints": message["state"][:28],
        "observation/grippers": message["state"][28:],
        "prompt": PROMPT,
    }
    assert np.array_equal(connect(rename=rename).answer(theirs)["actions"], play(connect(), 1)[0])
    with pytest.raises(ConfigError, match="images/head"):
        connect(rename={"observation/image": "picture"})


@pytest.fixture
def reader(body):
    return MessageReader(body)


def seen(message: dict) -> dict:
    """A frame without its state, as flat keys."""
    return {f"images/{name}": picture for name, picture in message["images"].items()}


@pytest.mark.parametrize("count", range(2, 31))
def test_however_many_parts_a_state_comes_in_it_is_the_whole_one(reader, count):
    message, rng = request(0), np.random.default_rng(count)
    parts = list(enumerate(np.array_split(message["state"], count)))
    rng.shuffle(parts)
    split = {**seen(message), "state": {str(number): part for number, part in parts}}
    assert np.array_equal(reader.observation(reader.flat(split)).proprio, message["state"])


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"state/0": 15, "state/2": 15}, "state/1 is missing.*2 parts.*state/2"),
        ({"state/1": 30}, "state/0 is missing"),
        ({"state/0": 15, "state/01": 15}, "'state/01' is no part of a state"),
        ({"state/0": 15, "state/one": 15}, "'state/one' is no part"),
        ({"state/0": 15, "state/\u0661": 15}, "is no part"),
        ({"state/0": 15, "state/-1": 15}, "is no part"),
        ({"state/0": 15, "state/1/0": 15}, "is no part"),
        ({"state/": 30}, "is no part"),
        ({"state": 30, "state/0": 30}, "'state' is no part"),
    ],
)
def test_parts_of_a_state_that_say_no_order_are_refused(reader, state, reason):
    message = {**seen(request(0)), **{key: np.zeros(size, np.float32) for key, size in state.items()}}
    with pytest.raises(RequestError, match=reason):
        reader.observation(reader.flat(message))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"images": {"head": 1}, "images/head": 2}, "'images/head' and 'images/head' both mean 'images/head'"),
        ({"images/head": 1, "images": {"head": 2}}, "both mean 'images/head'"),
        ({"camera": 1, "images/head": 2}, "'camera' and 'images/head' both mean 'images/head'"),
        ({"images/head": 1, "camera": 2}, "'images/head' and 'camera' both mean 'images/head'"),
        ({"camera": 1, "eye": 2}, "'camera' and 'eye' both mean 'images/head'"),
        ({"state": {0: 1, "0": 2}}, "two keys in 'state' read the same"),
        ({"prompt": {"words": "go"}}, "unknown key 'prompt/words'"),
    ],
)
def test_two_values_for_one_name_are_refused(body, message, reason):
    with pytest.raises(RequestError, match=reason):
        MessageReader(body, {"camera": "images/head", "eye": "images/head"}).flat(message)


def test_the_robots_own_vectors_give_its_own_actions(connect, codec):
    home = codec.round(robots.get("dual_piper").home)
    unified = connect().answer(request(0, state=codec.encode(home)))["actions"]
    native = connect().answer(request(0, state=home))["actions"]
    assert native.shape == (16, 14)
    assert np.array_equal(native, codec.decode(unified).astype(np.float32))


def test_what_the_robot_really_did_is_remembered_instead_of_what_was_asked(connect):
    told, untold = connect(), connect()
    first = told.answer(request(0))["actions"]
    untold.answer(request(0))
    same = told.answer(request(1, executed=first))["actions"]
    np.testing.assert_allclose(same, untold.answer(request(1))["actions"], atol=1e-3)
    stopped = np.repeat(measured(1)[None], 16, axis=0)
    other = connect()
    other.answer(request(0))
    assert not np.allclose(other.answer(request(1, executed=stopped))["actions"], same, atol=1e-3)


def test_a_lost_observation_needs_a_server_that_speculates(connect):
    connection = connect(sai=True)
    with pytest.raises(RequestError, match="running session"):
        connection.answer({"lost": True, "prompt": PROMPT})
    connection.answer(request(0))
    reply = connection.answer({"lost": True})
    assert reply["actions"].shape == (16, 30) and reply["policy_timing"]["outcome"] == "blind"
    plain = connect()
    plain.answer(request(0))
    with pytest.raises(RequestError, match="--sai"):
        plain.answer({"lost": True})


def wrong_requests() -> dict[str, tuple[dict, str]]:
    message = request(1)
    pictures = message["images"]
    return {
        "dtype": (
            {**message, "images": {**pictures, "head": pictures["head"].astype(np.float32)}},
            r"uint8 \[32, 32, 3\].*float32",
        ),
        "shape": ({**message, "images": {**pictures, "head": pictures["head"][:16]}}, r"got uint8 \[16, 32, 3\]"),
        "no array": ({**message, "images": {**pictures, "head": [1, 2]}}, "got list"),
        "camera": ({**message, "images": {**pictures, "nose": pictures["head"]}}, "unknown camera 'nose'; available: head, wrist"),
        "missing": ({**message, "images": {"head": pictures["head"]}}, "no picture of camera wrist"),
        "images": ({**message, "images": 3}, "unknown camera"),
        "state size": ({**message, "state": np.zeros(9)}, r"state: needs shape \[30\].*got \[9\]"),
        "state kind": ({**message, "state": "left"}, "array of numbers"),
        "ragged state": ({**message, "state": [[1.0], [1.0, 2.0]]}, "array of numbers"),
        "state nan": ({**message, "state": np.full(30, np.nan)}, "not finite"),
        "no state": ({key: value for key, value in message.items() if key != "state"}, "no state"),
        "unknown key": ({**message, "imgaes": 1}, "unknown key 'imgaes'"),
        "prompt": ({**message, "prompt": 7}, "prompt must be a string"),
        "long prompt": ({**message, "prompt": "x" * 4000}, "at most"),
        "reset": ({**message, "reset": "yes"}, "reset must be true or false"),
        "session": ({**message, "session_id": 1.5}, "session_id"),
        "horizon": ({**message, "horizon": "yes"}, "horizon must be true or false"),
        "no such state": ({**message, "state": np.full(30, 1e30)}, r"this state cannot be: channel .* is 1e\+30"),
        "number key": ({**message, 3: 1}, "keys are strings, got 3"),
        "no such action": (
            {**message, "executed": np.stack([*[message["state"]] * 15, np.full(30, 1e30, np.float32)])},
            r"this executed action cannot be: channel .* is 1e\+30",
        ),
        "huge action": ({**message, "executed": np.full((16, 30), 1e300)}, "executed holds values that are not finite"),
        "executed": ({**message, "executed": np.zeros((17, 30))}, r"executed: needs shape \[0..16, 30\]"),
        "lost and seen": ({**message, "lost": True}, "lost observation"),
        "executed at the start": ({**message, "executed": np.zeros((16, 30)), "reset": True}, "just begins"),
    }


@pytest.mark.parametrize("sai", [False, True])
def test_refused_requests_name_the_fault_and_leave_the_session_as_it_was(connect, sai):
    expected = play(connect(sai=sai), 3)
    connection = connect(sai=sai)
    got = [connection.answer(request(0))["actions"]]
    for message, reason in wrong_requests().values():
        with pytest.raises(EmbodiChainError, match=reason):
            connection.answer(message)
    got += [connection.answer(request(t))["actions"] for t in (1, 2)]
    assert np.array_equal(np.stack(got), expected)


def test_one_connection_holds_only_so_many_sessions(connect):
    connection = connect(max_sessions=2)
    for session_id in ("a", "b"):
        connection.answer(request(0, session_id=session_id))
    with pytest.raises(RequestError, match="2 sessions are open"):
        connection.answer(request(0, session_id="c"))
    connection.answer({"reset": True, "session_id": "a"})
    connection.answer(request(0, session_id="c"))


def test_actions_that_are_no_numbers_are_refused_and_the_session_goes_on(connect, agent):
    for sai in (False, True):
        expected, connection = play(connect(sai=sai), 3), connect(sai=sai)
        got = [connection.answer(request(0))["actions"]]
        kept = agent.normalizer.action_range.clone()
        agent.normalizer.action_range.fill_(torch.nan)
        try:
            with pytest.raises(LearnerError, match="actions are not finite"):
                connection.answer(request(1))
        finally:
            agent.normalizer.action_range.copy_(kept)
        got += [connection.answer(request(t))["actions"] for t in (1, 2)]
        assert np.array_equal(np.stack(got), expected)
