"""All sessions of a server together hold no more memory than is allowed, however they begin; who is refused loses nothing."""

from functools import partial

import numpy as np
import pytest
from learner_parts import LIMITS, PROMPT, request

from embodichain.errors import LearnerError
from learner.inference.background import make_policy
from learner.inference.policy import Policy
from learner.serving.budget import Memory, RequestError
from learner.serving.sessions import Connection, MessageReader


@pytest.fixture
def connect(agent, body):
    """Makes connections for so many sessions [B], with a memory that has seen none."""

    def make(memory: Memory) -> Connection:
        return Connection(
            partial(make_policy, agent, None, limits=LIMITS), MessageReader(body), body, max_sessions=9, memory=memory
        )

    return make


@pytest.fixture
def each(connect) -> int:
    """The memory of a session [B]."""
    memory = Memory(1 << 30)
    connect(memory).answer(request(0))
    assert memory.each_bytes > 0
    return memory.each_bytes


def test_sessions_that_would_hold_too_much_memory_are_refused_and_an_ended_one_makes_room(connect, each):
    full = connect(Memory(3 * each))
    for name in range(3):
        full.answer(request(0, session_id=name))
    with pytest.raises(RequestError, match=r"3 sessions hold.*allowed \(--max-memory-mib\)"):
        full.answer(request(0, session_id=3))
    full.answer(request(1, session_id=2))  # those that are there go on
    full.answer({"reset": True, "session_id": 0})
    full.answer(request(0, session_id=3))


def test_sessions_that_were_only_begun_count_too(connect, each):
    full = connect(Memory(3 * each))
    for name in range(9):  # nobody knows yet what a session takes
        full.answer({"reset": True, "prompt": PROMPT, "session_id": name})
    for name in range(3):
        full.answer(request(0, session_id=name))
    for name in range(3, 9):
        with pytest.raises(RequestError, match="3 sessions hold"):
            full.answer(request(0, session_id=name))
    for name in range(9):
        full.answer({"reset": True, "session_id": name})
    for name in range(3):  # now it is known
        full.answer({"reset": True, "prompt": PROMPT, "session_id": name})
    with pytest.raises(RequestError, match="3 sessions hold"):
        full.answer({"reset": True, "prompt": PROMPT, "session_id": 3})
    for name in range(3):
        full.answer(request(0, session_id=name))


def test_a_reset_takes_the_place_of_its_session_and_one_that_fails_ends_nothing(connect, each, monkeypatch):
    alone, full = connect(Memory(each)), connect(Memory(each))
    expected = [alone.answer(request(t))["actions"] for t in range(2)]
    full.answer(request(4))
    full.answer({"reset": True, "prompt": PROMPT})
    got = [full.answer(request(0))["actions"]]

    def broken(self: Policy, instruction: str) -> None:
        raise LearnerError("this instruction is not understood")

    with monkeypatch.context() as patch:
        patch.setattr(Policy, "begin", broken)
        for message in ({"reset": True, "prompt": PROMPT}, request(0, reset=True), request(0, prompt="another")):
            with pytest.raises(LearnerError, match="not understood"):
                full.answer(message)
    got.append(full.answer(request(1))["actions"])
    np.testing.assert_array_equal(got, expected)


def test_a_first_frame_that_fails_gives_its_room_back(connect, each, monkeypatch):
    memory = Memory(each)
    full = connect(memory)

    def broken(self: Policy, *arguments: object) -> None:
        raise LearnerError("this frame is not understood")

    memory.each_bytes = each
    with monkeypatch.context() as patch:
        patch.setattr(Policy, "act", broken)
        for name in range(3):
            with pytest.raises(LearnerError, match="not understood"):
                full.answer(request(0, session_id=name))
    full.answer(request(0, session_id="a"))
