"""Provoked episodes in real physics: each kind is noticed under its name, labelled, made good, and replays bit for bit."""

import numpy as np
import pytest

from embodichain import tasks
from embodichain.motion.action import ActionCodec
from embodichain.motion.hand import HandConfig
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.recovery.config import Kinds, RecoveryConfig
from embodichain.rollout import ExpertPilot, replay, rollout, write_provenance
from embodichain.types import CONTROL_HZ, Mishap, Segment, TrajectoryId, TrajectoryInfo, camera_spec

SPEC = camera_spec(cameras=3, height=16, width=16, horizon=96)
OF_SWITCH = [("turn_switch", kind) for kind in (Mishap.COLLISION, Mishap.TIME_OUT)]
OF_MOUSE = [("place_mouse_pad", kind) for kind in (Mishap.SLIP, Mishap.OUT_OF_BOUNDS, Mishap.COLLISION, Mishap.TIME_OUT)]


class Unseen(MujocoPhysics):
    """MuJoCo without pictures: nothing here looks at them."""

    def render(self, rgb, depth=None, segmentation=None) -> None:
        """Draws nothing."""


@pytest.fixture(scope="module")
def unseen(physics):
    world = Unseen(physics.robot, width=16, height=16)
    yield world
    world.close()


def play(physics, sampler, name: str, kind: Mishap, seed: int):
    task = tasks.make(name, RecoveryConfig(probability=1.0, kinds=Kinds.only(kind)))
    scene, out = sampler.sample(task, seed), SPEC.allocate()
    pilot = ExpertPilot(task, scene, physics, np.random.default_rng(seed))
    outcome = rollout(physics, ActionCodec(physics.robot), scene, pilot, task.grader(scene), out, SPEC)
    return task, scene, outcome, out


def first_provoked(physics, sampler, name: str, kind: Mishap):
    """The first seed in which the moment for the disturbance comes: an object may stand where nobody can knock it aside."""
    for seed in range(1, 5):
        played = play(physics, sampler, name, kind, seed)
        if played[2].failed:
            return played
    raise AssertionError(f"nothing was provoked in four episodes of {name}")


@pytest.mark.parametrize(("name", "kind"), OF_SWITCH + OF_MOUSE)
def test_a_provoked_failure_is_named_labelled_made_good_and_replayed_bitwise(unseen, sampler, name: str, kind: Mishap) -> None:
    task, scene, outcome, out = first_provoked(unseen, sampler, name, kind)
    final = unseen.world.data.qpos.copy()
    assert outcome.verdict.success, outcome.verdict.reason
    assert outcome.recovered and [attempt.mishap for attempt in outcome.failed] == [kind]
    (attempt,) = outcome.failed
    assert attempt.provoked and attempt.begin == 0
    assert (kind is Mishap.OUT_OF_BOUNDS) == bool(outcome.pushed)
    labels = out["segment"][: outcome.num_chunks].tolist()
    last_failure = -(-attempt.noticed // 16)
    assert set(labels[: attempt.noticed // 16]) == {Segment.FAILURE} and set(labels[last_failure:]) == {Segment.RECOVERY}
    codec, actions, grader = ActionCodec(unseen.robot), out["action"][: outcome.num_chunks], task.grader(scene)
    commands = np.concatenate([codec.decode(action)[None] for action in actions.reshape(-1, actions.shape[-1])])
    joints = np.delete(commands, np.cumsum([arm.command_size for arm in unseen.robot.arms]) - 1, axis=1)
    limits, velocity = HandConfig().limits, np.diff(joints, axis=0) * CONTROL_HZ
    assert np.abs(velocity).max() <= 1.01 * limits.joint_speed
    assert np.abs(np.diff(velocity, axis=0)).max() * CONTROL_HZ <= 1.15 * limits.joint_acceleration
    identity = TrajectoryId(worker=0, epoch=0, sequence=0)
    write_provenance(out, scene, outcome, identity=identity, robot=unseen.robot.name, physics="mujoco")
    info = TrajectoryInfo.decode(out["info"])
    assert info.failed == outcome.failed and info.pushed == outcome.pushed
    replay(unseen, codec, scene, actions, grader, failed=info.failed, pushed=info.pushed)
    np.testing.assert_array_equal(unseen.world.data.qpos, final)
    assert grader.verdict() == outcome.verdict


def test_without_its_forces_a_pushed_episode_ends_elsewhere(unseen, sampler) -> None:
    _, scene, outcome, out = first_provoked(unseen, sampler, "place_mouse_pad", Mishap.OUT_OF_BOUNDS)
    final = unseen.world.data.qpos.copy()
    replay(unseen, ActionCodec(unseen.robot), scene, out["action"][: outcome.num_chunks])
    assert not np.array_equal(unseen.world.data.qpos, final)


def test_a_grader_does_not_pardon_what_is_not_labelled(unseen, sampler) -> None:
    task, scene, outcome, out = first_provoked(unseen, sampler, "place_mouse_pad", Mishap.OUT_OF_BOUNDS)
    actions, codec, grader = out["action"][: outcome.num_chunks], ActionCodec(unseen.robot), task.grader(scene)
    replay(unseen, codec, scene, actions, grader, pushed=outcome.pushed)
    assert outcome.verdict.success and not grader.verdict().success
    assert "with nothing holding it" in grader.verdict().reason


@pytest.mark.parametrize("name", ["turn_switch", "place_mouse_pad"])
def test_a_watched_episode_in_which_nothing_happens_is_the_same_bit_for_bit(unseen, sampler, name: str) -> None:
    actions = []
    for probability in (0.0, 1e-9):
        task = tasks.make(name, RecoveryConfig(probability=probability))
        scene, out = sampler.sample(task, 3), SPEC.allocate()
        pilot = ExpertPilot(task, scene, unseen, np.random.default_rng(3))
        outcome = rollout(unseen, ActionCodec(unseen.robot), scene, pilot, task.grader(scene), out, SPEC)
        assert outcome.verdict.success and not outcome.failed
        actions.append(out["action"].copy())
    np.testing.assert_array_equal(*actions)
