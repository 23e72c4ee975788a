"""Speculation changes when work is done, never what a session remembers; with a perfect forecast it changes nothing at all."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_parts import GRID, SMALL, exact_model, fitted, shaken, trajectory, window

from embodichain.errors import ConfigError, LearnerError
from embodichain.types import CHUNK
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import SpeculativePolicy
from learner.inference.config import SaiConfig
from learner.inference.policy import ChunkOrigin, Policy
from learner.models.clwm.inputs import Noise
from learner.models.clwm.speculate import StepsAhead, Variant, finish, start
from learner.models.world_model import Mode, Seen

STEPS = replace(SMALL, model=replace(SMALL.model, video_steps=4, action_steps=8))
BOTH, VIDEO = SaiConfig(), SaiConfig(variant=Variant.VIDEO)
VARIANTS = pytest.mark.parametrize("variant", Variant)


@pytest.fixture(scope="module")
def agent(trajectories):
    made = fitted(STEPS, RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=3)))
    shaken(made.model)
    return made


@pytest.fixture
def speculative(agent):
    made: list[SpeculativePolicy] = []

    def make(config: SaiConfig = BOTH, *, instruction: str = "turn the switch on", **options) -> SpeculativePolicy:
        policy = SpeculativePolicy(agent, config, **options)
        policy.begin(instruction)
        made.append(policy)
        return policy

    yield make
    for policy in made:
        policy.close()


def frame(number: int, t: int):
    episode = trajectory(number)
    return episode["rgb"][t % 6], episode["proprio"][t % 6]


def play(policy: Policy, frames: int, number: int = 0) -> np.ndarray:
    return np.stack([policy.act(*frame(number, t)) for t in range(frames)])


def synchronous(agent, frames: int, number: int = 0, *, seed: int = 0, instruction: str = "turn the switch on") -> np.ndarray:
    policy = Policy(agent, seed=seed)
    policy.begin(instruction)
    return play(policy, frames, number)


def same(one, other) -> bool:
    pairs = zip(one.weights, other.weights, strict=True)
    return one.steps == other.steps and all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


@VARIANTS
def test_wherever_phase_1_stops_phase_2_ends_where_the_whole_integration_ends(variant):
    model = exact_model(video_steps=2, action_steps=4)
    seen = window(batch=1)
    text = model.read_text(seen.text_BLC)
    memory = model.observe(model.empty(), Seen(seen.latents_BTNC[:, 0], seen.proprio_BTA[:, 0], None), text, GRID)
    noise = Noise(seen.latents_BTNC[:, 1], seen.actions_BTKA[:, 1])
    whole = model.generate(memory, *noise, text, GRID)
    for s_mid in (0.5, 1.0):
        split = StepsAhead.of(Mode(variant, s_mid), model.config)
        for allowed in (0, 1, 2, 3, 5, 8):
            asked = iter(range(100))
            started = start(model, memory, noise, text, GRID, split, lambda: next(asked) >= allowed)  # noqa: B023
            assert started.video_steps <= split.video and started.action_steps <= split.action
            ended = finish(model, memory, started, text, GRID)
            assert all(torch.equal(a, b) for a, b in zip(ended, whole, strict=True))
        assert started[1::2] == split, "with time enough Phase 1 goes all the way"


@VARIANTS
@pytest.mark.parametrize("s_mid", [0.0, 0.5, 1.0])
def test_with_the_real_observation_as_surrogate_the_chunks_are_the_synchronous_ones_bit_for_bit(agent, speculative, variant, s_mid):
    policy = speculative(SaiConfig(variant=variant, s_mid=s_mid))
    chunks = [policy.act(*frame(0, 0))]
    for t in range(1, 6):  # past the memory's span
        policy.expect(*frame(0, t))
        chunks.append(policy.act(*frame(0, t)))
        assert policy.last is not None and policy.last.outcome is ChunkOrigin.SPECULATED
    assert np.array_equal(np.stack(chunks), synchronous(agent, 6))


@VARIANTS
def test_with_its_own_forecast_chunks_differ_but_what_is_remembered_is_real(agent, speculative, variant):
    policy, plain = speculative(SaiConfig(variant=variant)), Policy(agent)
    plain.begin("turn the switch on")
    executed = None
    for t in range(4):
        chunk = policy.act(*frame(0, t))
        plain.act(*frame(0, t), executed)  # the plain one is told what the other executed
        executed = chunk
        assert policy.settle(120.0)
        assert policy.memory.steps == plain.memory.steps == t + 1
    assert policy.seen is not None and plain.seen is not None and torch.equal(policy.seen, plain.seen)
    for mine, other in zip(policy.memory.weights, plain.memory.weights, strict=True):
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not np.allclose(play(speculative(SaiConfig(variant=variant)), 3), synchronous(agent, 3), atol=1e-4)


@VARIANTS
@pytest.mark.parametrize("s_mid", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_blocking_evaluations_are_exactly_what_phase_1_leaves(agent, speculative, monkeypatch, variant, s_mid):
    counts: dict[tuple[str, bool], int] = {}
    here = threading.get_ident()
    for name in ("video_velocity", "action_velocity"):
        plain = getattr(agent.model, name)

        def counted(*arguments, name=name, plain=plain):
            key = (name, threading.get_ident() == here)
            counts[key] = counts.get(key, 0) + 1
            return plain(*arguments)

        monkeypatch.setattr(agent.model, name, counted)
    policy = speculative(SaiConfig(variant=variant, s_mid=s_mid))
    policy.act(*frame(0, 0))
    assert policy.settle(120.0)
    counts = {key: count for key, count in counts.items() if not key[1]}
    policy.act(*frame(0, 1))
    action_mid = s_mid if variant is Variant.VIDEO_ACTION else 0.0
    assert counts.get(("video_velocity", True), 0) == (1 - s_mid) * 4
    assert counts.get(("action_velocity", True), 0) == (1 - action_mid) * 8
    assert policy.last is not None and policy.last.outcome is ChunkOrigin.SPECULATED
    assert (policy.last.evaluations["video"], policy.last.evaluations["action"]) == ((1 - s_mid) * 4, (1 - action_mid) * 8)


def test_an_early_observation_waits_or_takes_over_what_is_there(agent, speculative, monkeypatch):
    entered, told = threading.Event(), threading.Event()
    here, plain = threading.get_ident(), agent.model.video_velocity
    steps = []

    def slow(*arguments):
        if threading.get_ident() != here:
            steps.append(1)
            if len(steps) == 2:  # inside the second evaluation of Phase 1
                entered.set()
                told.wait(120.0)
        return plain(*arguments)

    monkeypatch.setattr(agent.model, "video_velocity", slow)
    hasty = speculative(SaiConfig(variant=Variant.VIDEO, s_mid=1.0, patience_s=0.02))
    first = hasty.act(*frame(0, 0))
    assert entered.wait(120.0) and hasty._pending is not None
    stop = hasty._pending.stop
    threading.Thread(target=lambda: (stop.wait(120.0), told.set())).start()  # the evaluation lasts until it is told to stop
    hasty.act(*frame(0, 1))
    assert hasty.last is not None and hasty.last.outcome is ChunkOrigin.TAKEN_OVER
    assert hasty.last.evaluations["video"] == 2, "two evaluations were done or under way, two remain"
    assert np.array_equal(first, synchronous(agent, 1)[0])


def test_an_observation_before_phase_1_has_begun_is_answered_synchronously(agent, speculative):
    with ThreadPoolExecutor(1) as worker:
        busy = threading.Event()
        worker.submit(busy.wait, 200.0)
        policy = speculative(SaiConfig(patience_s=0.0), worker=worker)
        chunks = play(policy, 3)
        busy.set()
    assert policy.last is not None and policy.last.outcome is ChunkOrigin.TAKEN_OVER
    assert np.array_equal(chunks, synchronous(agent, 3))


def test_a_late_observation_is_answered_from_scratch_with_the_same_noise(agent, speculative):
    policy = speculative(SaiConfig(expires_s=0.0))
    assert np.array_equal(play(policy, 4), synchronous(agent, 4))
    assert policy.last is not None and policy.last.outcome is ChunkOrigin.EXPIRED


@VARIANTS
def test_a_lost_observation_is_replaced_by_the_prediction_and_never_remembered(agent, speculative, variant):
    policy = speculative(SaiConfig(variant=variant, max_lost=2))
    policy.act(*frame(0, 0))
    before = policy.memory
    for _ in range(2):
        chunk = policy.act_blind()
        assert chunk.shape == (16, 30) and np.isfinite(chunk).all()
        assert policy.memory is before
    with pytest.raises(LearnerError, match="max_lost"):
        policy.act_blind()
    policy.act(*frame(0, 3))
    assert policy.memory.steps == before.steps + 1
    policy.act_blind()  # losses in a row are counted anew after a real observation


def test_a_blind_chunk_is_the_one_that_the_predicted_frame_would_give(agent, speculative):
    """Losing o_1 and predicting it perfectly is seeing it: with the real frame as forecast, blind equals sighted."""
    policy = speculative()
    policy.act(*frame(0, 0))
    policy.expect(*frame(0, 1))
    assert np.array_equal(policy.act_blind(), synchronous(agent, 2)[1])
    assert policy.last is not None and policy.last.outcome is ChunkOrigin.BLIND


def test_nothing_can_be_lost_before_something_was_seen(speculative):
    policy = speculative()
    with pytest.raises(LearnerError, match="nothing is predicted"):
        policy.act_blind()
    with pytest.raises(LearnerError, match="nothing is being speculated"):
        policy.expect(*frame(0, 0))


@VARIANTS
def test_sessions_that_share_a_worker_share_no_memory(agent, speculative, variant):
    config = SaiConfig(variant=variant)
    alone = [play(speculative(config, seed=seed, instruction=f"task {seed}"), 4, number=seed) for seed in range(3)]
    with ThreadPoolExecutor(1) as worker:
        policies = [speculative(config, seed=seed, instruction=f"task {seed}", worker=worker) for seed in range(3)]
        together: list[list[np.ndarray]] = [[], [], []]

        def session(index: int) -> None:
            for t in range(4):
                together[index].append(policies[index].act(*frame(index, t)))

        threads = [threading.Thread(target=session, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for mine, theirs in zip(together, alone, strict=True):
        assert np.array_equal(np.stack(mine), theirs)


def test_a_new_episode_uses_nothing_of_the_last_ones_speculation(speculative):
    policy = speculative()
    fresh = play(policy, 3)
    policy.begin("place the mouse")
    play(policy, 2, number=5)
    policy.begin("turn the switch on")
    assert np.array_equal(play(policy, 3), fresh)


def test_a_refused_observation_leaves_memory_and_speculation_as_they_were(speculative):
    whole = play(speculative(), 3)
    policy = speculative()
    chunks = [policy.act(*frame(0, 0))]
    rgb, proprio = frame(0, 1)
    for wrong in ((rgb.astype(np.float32), proprio), (rgb[:, :20], proprio), (rgb, proprio[:7])):
        with pytest.raises((LearnerError, ConfigError)):
            policy.act(*wrong)
    chunks += [policy.act(*frame(0, t)) for t in (1, 2)]
    assert np.array_equal(np.stack(chunks), whole)


def test_an_observation_that_the_model_refuses_leaves_even_what_was_executed_and_how_frames_lie(speculative):
    chunks = []
    for refused in (False, True):
        policy = speculative()
        policy.act(*frame(0, 0))
        if refused:
            rgb, proprio = frame(0, 1)
            with pytest.raises(ConfigError, match="max_cameras"):
                policy.act(np.concatenate([rgb] * 3), proprio, np.zeros((CHUNK, 30), np.float32))
        chunks.append([policy.act_blind(), policy.act(*frame(0, 2))])
    assert np.array_equal(*chunks)


def test_a_failure_in_the_background_is_raised_where_its_result_is_wanted(agent, speculative, monkeypatch):
    policy = speculative()
    here, plain = threading.get_ident(), agent.model.video_velocity

    def broken(*arguments):
        if threading.get_ident() != here:
            raise RuntimeError("out of memory")
        return plain(*arguments)

    monkeypatch.setattr(agent.model, "video_velocity", broken)
    policy.act(*frame(0, 0))
    with pytest.raises(RuntimeError, match="out of memory"):
        policy.act(*frame(0, 1))


def test_a_middle_that_falls_between_steps_is_rounded_for_each_stage(agent):
    model = dataclasses.replace(agent.config.model, video_steps=4, action_steps=10)
    assert [StepsAhead.of(Mode(Variant.VIDEO_ACTION, share), model) for share in (0.0, 0.3, 0.62, 1.0)] == [
        (0, 0),
        (1, 3),
        (2, 6),
        (4, 10),
    ]
    assert StepsAhead.of(Mode(Variant.VIDEO, 0.75), model) == (3, 0)
    policy = SpeculativePolicy(agent, SaiConfig(s_mid=0.3))
    policy.close()


@pytest.mark.parametrize("wrong", [{"s_mid": 1.5}, {"s_mid": -0.1}, {"patience_s": -1.0}, {"max_lost": -1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        SaiConfig(**wrong)


def test_close_ends_the_thread_and_can_be_repeated(agent):
    before = threading.active_count()
    policy = SpeculativePolicy(agent, BOTH)
    policy.begin("turn the switch on")
    policy.act(*frame(0, 0))
    assert threading.active_count() == before + 1
    policy.close()
    policy.close()
    assert threading.active_count() == before
