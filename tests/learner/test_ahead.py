"""Decisions made whole before their observation: what stands in for it decides whether errors stay or pile up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_parts import SMALL, fitted, frame, shaken
from torch import nn

from embodichain.types import CHUNK
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import SpeculativePolicy, make_policy
from learner.inference.config import SaiConfig
from learner.inference.policy import ChunkOrigin, Policy
from learner.memory.kv_cache import Kind
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.world_model import Decision, WorldModel

PICTURE = np.zeros((2, 32, 32, 3), np.uint8)
GRIPPER = 28
"""A channel of which commands are absolute."""
CHUNKS, EPISODES = 40, 60


class Exact(WorldModel):
    """Knows the world x' = x + a + w but for w, and undoes what it believes of x; x is channel 28 of the measured state."""

    modes = ("naive", "grounded")
    horizon = CHUNK
    draw = losses = forward_flops = None

    def read_text(self, text):
        return None

    def empty(self):
        return torch.zeros(1)

    def observe(self, state, seen, text, grid, made=None):
        return seen.proprio_BA[:, GRIPPER] if seen.imagined is None else seen.imagined["x"]

    def noise(self, latents, generator):
        return latents

    def decide(self, state, noise, text, grid):
        actions = torch.zeros(1, CHUNK, 30)
        actions[..., GRIPPER] = -state[:, None]
        after = state + actions[:, -1, GRIPPER]
        return Decision(actions, noise, {"steps": 1}, {"x": after})

    def foresee(self, state, seen, noise, text, grid, mode):
        return seen if mode.name == "naive" else seen._replace(imagined={"x": state + seen.executed_BKA[:, -1, GRIPPER]})

    def check(self, mode):
        pass

    def begin(self, state, noise, text, grid, mode, *, stopped=bool, made=None):
        return self.decide(state, noise, text, grid)

    def finish(self, state, started, text, grid, *, made=None):
        return started._replace(evaluations={"steps": 0}, is_ahead=True)


def errors(agent, mode: str) -> float:
    """Mean square of x over the last ten of `CHUNKS` chunks, over episodes."""
    rng, found = np.random.default_rng(0), []
    for episode in range(EPISODES):
        policy = make_policy(agent, None if mode == "synchronous" else SaiConfig(variant=mode), seed=episode)
        policy.begin("hold it")
        x = 0.0
        for chunk in range(CHUNKS):
            proprio = np.zeros(30, np.float32)
            proprio[GRIPPER] = x
            action = policy.act(PICTURE, proprio)[-1, GRIPPER]
            x = x + float(action) + 0.05 * rng.normal()
            if chunk >= CHUNKS - 10:
                found.append(x * x)
        policy.close()
    return float(np.sqrt(np.mean(found)))


@pytest.fixture(scope="module")
def exact_agent(trajectories):
    agent = fitted(SMALL, RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=3)))
    for span in (agent.normalizer.action_range, agent.normalizer.proprio_range):
        span.copy_(torch.tensor([-1.0, 1.0])[:, None].expand_as(span))
    agent.encoder = nn.Identity()
    agent.encoder.forward = lambda pixels: torch.zeros(1, 8, 24)
    agent.encoder.grid = lambda height, width: (2, 2)
    agent.model = Exact()
    return agent


def test_grounded_decisions_keep_one_steps_error_and_naive_ones_pile_it_up(exact_agent):
    """After 40 chunks: at most 1.5 and at least 4 times the synchronous error; the law of the model gives 1.42 and 6.4."""
    synchronous, naive, grounded = (errors(exact_agent, mode) for mode in ("synchronous", "naive", "grounded"))
    assert synchronous == pytest.approx(0.05, rel=0.1)
    assert grounded / synchronous == pytest.approx(2**0.5, rel=0.1) and grounded / synchronous <= 1.5
    assert naive / synchronous >= 4.0


@pytest.fixture(scope="module")
def causal(trajectories):
    """An agent of the causal family with random weights."""
    model = LingbotConfig(dim=32, layers=2, heads=2, ffn=64, time_frequencies=16, video_steps=2, action_steps=3)
    agent = fitted(replace(SMALL, model=model), RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=3)))
    shaken(agent.model)
    return agent


@pytest.mark.parametrize("mode", ["naive", "grounded"])
def test_chunks_decided_ahead_wait_for_no_evaluation_and_memory_is_that_of_what_happened(causal, mode):
    ahead = SpeculativePolicy(causal, SaiConfig(variant=mode))
    ahead.begin("turn the switch on")
    told = Policy(causal)
    told.begin("turn the switch on")
    last = None
    for t in range(4):
        chunk = ahead.act(*frame(t))
        told.act(*frame(t), executed=last)
        last = chunk
        assert ahead.last is not None and (sum(ahead.last.evaluations.values()) == 0) == (t > 0)
        assert ahead.last.outcome is (ChunkOrigin.SPECULATED if t else ChunkOrigin.SYNCHRONOUS)
        assert {entry.kind for entry in ahead.memory.memory.entries} == {Kind.REAL}
        for one, two in zip(ahead.memory.memory.entries, told.memory.memory.entries, strict=True):
            assert one.id == two.id
            for a, b in zip(one.kept, two.kept, strict=True):
                assert torch.allclose(a.keys, b.keys, atol=1e-4), "what was executed is what is remembered"
    ahead.close()


def test_grounded_and_naive_stand_ins_differ_and_a_lost_frame_is_bridged(causal):
    chunks = {}
    for mode in ("naive", "grounded"):
        policy = SpeculativePolicy(causal, SaiConfig(variant=mode))
        policy.begin("turn the switch on")
        policy.act(*frame(0))
        chunks[mode] = policy.act(*frame(1))
        before = policy.memory
        blind = policy.act_blind()
        assert policy.memory is before and np.isfinite(blind).all() and policy.last.outcome is ChunkOrigin.BLIND
        policy.act(*frame(3))
        assert policy.memory.steps == 3
        policy.close()
    assert not np.array_equal(chunks["naive"], chunks["grounded"])
