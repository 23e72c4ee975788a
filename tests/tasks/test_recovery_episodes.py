"""Recovery in whole episodes: a provoked failure is detected from the state, tried again, and kept under its labels."""

import numpy as np
import pytest
from staging import Stage

from embodichain import tasks
from embodichain.motion.action import ActionCodec
from embodichain.motion.hand import HandConfig
from embodichain.recovery.config import MISALIGNED, Miss, RecoveryConfig
from embodichain.rollout import ExpertPilot, rollout
from embodichain.types import Segment, camera_spec

ALWAYS = RecoveryConfig(probability=1.0, kinds=MISALIGNED)


def seed_of(miss: Miss) -> int:
    """A seed whose disturbance is of that kind."""
    return next(seed for seed in range(20) if ALWAYS.draw(np.random.default_rng(seed)).miss is miss)


@pytest.mark.parametrize("name", ["turn_switch", "place_mouse_pad"])
@pytest.mark.parametrize("miss", [Miss.ASIDE, Miss.ABOVE])
def test_a_missed_attempt_is_seen_repeated_and_labelled(physics, sampler, name: str, miss: Miss) -> None:
    task = tasks.make(name, ALWAYS)
    scene = sampler.sample(task, 3)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task, seed=seed_of(miss))
    assert stage.verdict.success, stage.verdict.reason
    limits = HandConfig().limits
    speed, acceleration = stage.peaks
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration
    changes = [stage.segments[0], *(b for a, b in zip(stage.segments, stage.segments[1:], strict=False) if a != b)]
    assert changes == [Segment.FAILURE, Segment.RECOVERY]
    assert stage.segments.count(Segment.FAILURE) > 40 and stage.segments.count(Segment.RECOVERY) > 40


def test_the_rollout_keeps_the_failure_and_the_recovery_in_the_trajectory(physics, sampler) -> None:
    task = tasks.make("turn_switch", ALWAYS)
    scene = sampler.sample(task, 3)
    spec = camera_spec(cameras=3, height=32, width=32, horizon=24)
    out = spec.allocate()
    pilot = ExpertPilot(task, scene, physics, np.random.default_rng(0))
    outcome = rollout(physics, ActionCodec(physics.robot), scene, pilot, task.grader(scene), out, spec)
    assert outcome.verdict.success and outcome.recovered
    labels = out["segment"][: outcome.num_chunks].tolist()
    switch = labels.index(Segment.RECOVERY)
    assert set(labels[:switch]) == {Segment.FAILURE} and set(labels[switch:]) == {Segment.RECOVERY}
    assert 3 <= switch <= outcome.num_chunks - 3
    assert (out["segment"][outcome.num_chunks :] == 0).all()


def test_an_undisturbed_episode_is_nominal_throughout(physics, sampler) -> None:
    task = tasks.make("turn_switch", RecoveryConfig(probability=0.0))
    scene = sampler.sample(task, 3)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    assert stage.verdict.success and set(stage.segments) == {Segment.NOMINAL}
