"""Decisions that take effect late go on from what is under way, told in the state measured now; depth reaches who asks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_parts import SMALL, fitted, frame, shaken, trajectory

from embodichain.errors import ConfigError, LearnerError
from embodichain.types import CHUNK
from learner.codecs.config import EncoderConfig
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import make_policy
from learner.inference.chunking import LatePolicy
from learner.inference.config import SaiConfig
from learner.inference.policy import ChunkOrigin
from learner.models.agent import Agent
from learner.models.world_model import Prefix
from learner.models.x_wam.config import XwamConfig

MODEL = XwamConfig(dim=24, layers=2, heads=2, ffn=32, time_frequencies=8, video_steps=3, action_steps=2, prefix=8)


@pytest.fixture(scope="module")
def agent(trajectories):
    made = fitted(replace(SMALL, model=MODEL), RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=2)))
    shaken(made.model)
    return made


@pytest.mark.parametrize("mode", ["guided", "prefix"])
def test_a_late_chunk_begins_with_what_was_left_and_the_model_is_told_it_in_todays_state(agent, mode, monkeypatch):
    told: list[Prefix] = []
    decide = agent.model.decide_from
    monkeypatch.setattr(agent.model, "decide_from", lambda *given: (told.append(given[2]), decide(*given))[1])
    policy = make_policy(agent, SaiConfig(variant=mode, delay=5))
    assert isinstance(policy, LatePolicy)
    policy.begin("turn the switch on")
    first = policy.act(*frame(0))
    assert policy.last.outcome is ChunkOrigin.SYNCHRONOUS and policy.rest.shape == (CHUNK, 30)
    left, measured = policy.rest, frame(1)[1]
    second = policy.act(*frame(1))
    assert (
        policy.last.outcome is ChunkOrigin.LATE
        and np.array_equal(second[:5], left[:5])
        and not np.array_equal(second[5:], left[5:])
    )
    (prefix,) = told
    assert prefix.delay == 5
    joints = agent.normalizer.physical_actions(prefix.actions_BHA, torch.from_numpy(measured)[None])[0].numpy()
    inside = np.abs(prefix.actions_BHA[0].numpy()) < agent.config.normalizer.clip
    assert inside.mean() > 0.5 and np.abs((joints - left)[inside]).max() < 1e-5, "the same joints in another frame"
    assert not np.allclose(first, second)


def test_a_delay_beyond_what_decisions_hold_and_unknown_ways_are_refused(agent):
    with pytest.raises(ConfigError, match="unknown mode 'early'; available: guided, prefix"):
        make_policy(agent, SaiConfig(variant="early"))
    with pytest.raises(ConfigError, match="delay is a number of commands"):
        SaiConfig(delay=-1)
    with pytest.raises(ConfigError, match=r"delay is at most 16, got 17"):
        make_policy(agent, SaiConfig(variant="guided", delay=17))


@pytest.mark.parametrize("where", ["learner", "workers"])
def test_depth_that_workers_encode_is_that_which_the_learner_would(where):
    config = replace(SMALL, encoder=EncoderConfig(codec="vae"), model=replace(MODEL, depth=1))
    agent = Agent(config)
    rows = []
    for number in range(4):
        episode = dict(trajectory(number))
        depth = np.random.default_rng(number).uniform(0.0, 3.0, (*episode["rgb"].shape[:-1],)).astype(np.float32)
        if where == "workers":
            episode["latents"], episode["depth_latents"] = (
                agent.encoder.encode(episode.pop("rgb")),
                agent.encoder.encode_depth(depth),
            )
        rows.append({**episode, "depth": depth})
    batch = RingDataset(MemorySource(rows), DataConfig(batch_size=4, window=2)).draw().gather(depth=True)
    window = agent.window(batch)
    assert window.depth_BTNC.shape == window.latents_BTNC.shape
    number, start = batch.trajectory_ids[0], batch.starts[0]
    direct = agent.encoder.depth_latents(torch.from_numpy(rows[number]["depth"][start : start + 3]))
    assert (window.depth_BTNC[0] - agent.normalizer.latents(direct)).abs().max() < 2e-2
    assert agent.losses(batch, torch.Generator()).parts["depth"] > 0.0


def test_depth_that_nobody_carries_or_encodes_is_refused_with_the_remedy(trajectories):
    with pytest.raises(ConfigError, match="codec 'dino' does not encode: use codec vae"):
        Agent(replace(SMALL, model=replace(MODEL, depth=1)))
    with pytest.raises(LearnerError, match="set world"):
        RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=2)).draw().gather(depth=True)
