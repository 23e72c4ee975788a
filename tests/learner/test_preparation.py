"""What no observation changes is made before it comes, and is what would have been made when asked: to the last bit."""

import threading
from collections import Counter

import numpy as np
import pytest
import torch
from learner_parts import GRID, SMALL, exact_model, fitted, shaken, trajectory, window

from embodichain.types import CHUNK
from learner.backbone.layers import body_positions, chunk_positions, grid_positions, rotations
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import SpeculativePolicy
from learner.inference.config import SaiConfig
from learner.inference.policy import Policy
from learner.models.clwm.config import NextFrame
from learner.models.clwm.inputs import Noise
from learner.models.clwm.speculate import StepsAhead, finish, prepare, start
from learner.models.world_model import Mode, Seen

MADE = ("frame_settings", "video_setting", "action_setting")


@pytest.fixture
def agent(trajectories):
    made = fitted(SMALL, RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=3)))
    shaken(made.model)
    return made


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"memory_every": 0},
        {"memory_every": 2},
        {"told_place": True},
        {"told_past": False},
        {"glance": GRID.size},
        {"aim": GRID.cameras},
        {"video_shift": 3.0, "action_shift": 0.5},
        {"next_frame": NextFrame.CHANGE, "see_imagined": True, "glance": GRID.size},
    ],
    ids=str,
)
@torch.inference_mode()
def test_with_everything_prepared_frames_chunks_and_memories_are_the_same_to_the_last_bit(changes):
    model, seen = exact_model(video_steps=2, action_steps=4, **changes), window(batch=2)
    text, noise = model.read_text(seen.text_BLC), Noise(seen.latents_BTNC[:, 2], seen.actions_BTKA[:, 2])
    made = prepare(model, GRID, noise)
    first = model.observe(model.empty(), Seen(seen.latents_BTNC[:, 0], seen.proprio_BTA[:, 0], None), text, GRID)
    arguments = (first, Seen(seen.latents_BTNC[:, 1], seen.proprio_BTA[:, 1], seen.actions_BTKA[:, 0]), text, GRID)
    plain, prepared = model.observe(*arguments), model.observe(*arguments, made)
    for one, other in zip((*plain.weights, *plain.context), (*prepared.weights, *prepared.context), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert plain.glance is prepared.glance is None or torch.equal(plain.glance, prepared.glance)
    started = start(model, prepared, noise, text, GRID, StepsAhead.of(Mode("video+action", 0.5), model.config), made=made)
    ended, whole = finish(model, prepared, started, text, GRID, made), model.generate(plain, *noise, text, GRID)
    assert all(torch.equal(a, b) for a, b in zip(ended, whole, strict=True))


def test_from_the_third_chunk_of_an_episode_on_nobody_waits_for_or_repeats_what_was_prepared(agent, monkeypatch):
    calls: Counter[tuple[str, bool]] = Counter()
    here = threading.get_ident()
    for name in MADE:

        def counted(*arguments, name=name, plain=getattr(agent.model, name)):  # noqa: B008
            calls[name, threading.get_ident() == here] += 1
            return plain(*arguments)

        monkeypatch.setattr(agent.model, name, counted)
    policy = SpeculativePolicy(agent, SaiConfig(s_mid=0.0))
    for _ in range(2):
        policy.begin("turn the switch on")
        episode = trajectory(0)
        for t in range(2):
            policy.act(episode["rgb"][t], episode["proprio"][t])
            assert policy.settle(60.0)
        before = calls.copy()
        assert before[MADE[1], False] and before[MADE[2], False], "made in the background"
        for t in range(2, 4):
            policy.act(episode["rgb"][t], episode["proprio"][t])
            assert policy.settle(60.0)
        assert calls == before
    policy.close()


def test_pictures_laid_out_otherwise_in_the_middle_of_an_episode_are_prepared_for_anew(agent):
    rng = np.random.default_rng(0)
    wide, tall = (rng.integers(0, 255, (2, *size, 3), dtype=np.uint8) for size in ((32, 64), (64, 32)))
    policies = [Policy(agent), SpeculativePolicy(agent, SaiConfig(s_mid=0.0))]
    chunks = []
    for policy in policies:
        policy.begin("turn the switch on")
        chunks.append([policy.act(rgb, np.zeros(30, np.float32)) for rgb in (wide, wide, tall, tall, wide)])
        policy.close()
    assert np.array_equal(*chunks)
    assert not np.array_equal(chunks[0][2], chunks[0][3])


@pytest.mark.parametrize(
    ("positions", "arguments"), [(grid_positions, (2, 3, 4, 1.0)), (chunk_positions, (CHUNK, 0.0)), (body_positions, (CHUNK,))]
)
def test_rotary_tables_that_inference_keeps_are_those_made_anew_and_may_be_trained_with(positions, arguments):
    like = torch.zeros(1)
    anew = rotations(positions, arguments, 12, like)
    with torch.inference_mode():
        kept = rotations(positions, arguments, 12, like)
        assert kept is rotations(positions, arguments, 12, like)
    assert all(torch.equal(a, b) and not b.is_inference() for a, b in zip(anew, kept, strict=True))
