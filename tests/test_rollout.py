"""Laws of the loop: stored actions replay an episode bitwise, and a scene that cannot begin is named."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodichain.config import WorldConfig
from embodichain.errors import MotionError, SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.motion.action import ActionCodec
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.recovery.config import RecoveryConfig
from embodichain.ring.ring import Ring
from embodichain.rollout import ExpertPilot, replay, rollout
from embodichain.stages import Fate, RolloutStage
from embodichain.tasks.turn_switch import TurnSwitch
from embodichain.types import ObjectPlacement, Pose, RingSpec, Step, camera_spec
from embodichain.world import World

sys.path.insert(0, str(Path(__file__).parent / "scenes"))
import scene_parts as parts


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    return parts.make_sampler(tmp_path_factory.mktemp("reach"), physical=PhysicalConfig(enabled=True))


@pytest.fixture(scope="module")
def physics():
    world = MujocoPhysics(parts.ROBOT, width=16, height=16)
    yield world
    world.close()


def test_stored_actions_replay_every_object_bitwise_and_earn_the_same_verdict(sampler, physics):
    codec, spec = ActionCodec(parts.ROBOT), camera_spec(cameras=3, height=16, width=16, horizon=60)
    task = TurnSwitch(recovery=RecoveryConfig(probability=1.0))
    for seed in (1, 2):
        scene, out = sampler.sample(task, seed), spec.allocate()
        assert scene.dynamics.delay_s >= 0 and scene.dynamics.stiffness != 1.0
        pilot = ExpertPilot(task, scene, physics, np.random.default_rng(seed))
        outcome = rollout(physics, codec, scene, pilot, task.grader(scene), out, spec)
        end = physics.world.data.qpos.copy(), physics.world.data.qvel.copy()
        other = sampler.sample(task, seed + 50)
        physics.reset(other)  # whatever was simulated in between
        grader = task.grader(scene)
        state = replay(physics, codec, scene, out["action"][: outcome.num_chunks], grader)
        np.testing.assert_array_equal(physics.world.data.qpos, end[0])
        np.testing.assert_array_equal(physics.world.data.qvel, end[1])
        assert grader.verdict() == outcome.verdict
        assert state.time_s == pytest.approx(outcome.num_chunks * 0.32)
        np.testing.assert_array_equal(codec.encode(state.measured), out["proprio"][outcome.num_chunks])


def test_sampled_scenes_are_settled(sampler, physics):
    for seed in range(4):
        scene = sampler.sample(TurnSwitch(), seed)
        pad = ObjectPlacement(role="pad", asset=parts.pad(), pose=Pose(position=(-0.1, 0.4, 0.0)))
        first = physics.reset(replace(scene, objects=(*scene.objects, pad)))
        for _ in range(40):
            state = physics.step(parts.ROBOT.home)
        for role, pose in first.object_poses.items():
            np.testing.assert_allclose(state.object_poses[role].position, pose.position, atol=1e-3)
        assert state.object_joints["switch"] == pytest.approx(first.object_joints["switch"], abs=0.02)


def test_a_scene_that_begins_inside_itself_is_named(sampler, physics):
    scene = sampler.sample(TurnSwitch(), 3)
    places = {"one": Pose(position=(0.0, 0.3, 0.0)), "two": Pose(position=(0.0, 0.32, 0.0))}
    mice = tuple(ObjectPlacement(role=role, asset=parts.mouse(), pose=pose) for role, pose in places.items())
    crossed = replace(scene, objects=(*scene.objects, *mice))
    spec = camera_spec(cameras=3, height=16, width=16, horizon=2)
    task = TurnSwitch()
    pilot = ExpertPilot(task, crossed, physics, np.random.default_rng(0))
    with pytest.raises(SceneError, match=r"begins with '(one|two)/body' \d+\.\d mm inside '(one|two)/body', 4 mm allowed"):
        rollout(physics, ActionCodec(parts.ROBOT), crossed, pilot, task.grader(crossed), spec.allocate(), spec)


class NeverDone(ExpertPilot):
    """An expert that goes on holding its last command, as a policy would."""

    def command(self, state):
        step = super().command(state)
        self.last = step or self.last
        return self.last


def test_an_episode_until_success_ends_with_the_chunk_that_makes_the_grader_content(sampler, physics):
    codec, spec, task = ActionCodec(parts.ROBOT), camera_spec(cameras=3, height=16, width=16, horizon=20), TurnSwitch()
    scene = sampler.sample(task, 1)

    def play(**options):
        out = spec.allocate()
        pilot = NeverDone(task, scene, physics, np.random.default_rng(1))
        return rollout(physics, codec, scene, pilot, task.grader(scene), out, spec, **options), out

    whole, first = play()
    short, second = play(until_success=True)
    assert whole.verdict.success and short.verdict.success
    assert short.num_chunks < whole.num_chunks == spec.horizon
    np.testing.assert_array_equal(first["action"][: short.num_chunks], second["action"][: short.num_chunks])
    grader = task.grader(scene)
    replay(physics, codec, scene, second["action"][: short.num_chunks - 1], grader)
    assert not grader.verdict().success


class Undecided(TurnSwitch):
    """Finds no further way after a while."""

    def expert(self, scene, robot, state, rng):
        def moves():
            for _ in range(20):
                yield Step(command=robot.home)
            time.sleep(0.02)
            raise MotionError("there is no way")

        return moves()


def test_an_episode_that_is_refused_has_taken_its_time(sampler):
    config = WorldConfig(tasks=("turn_switch",), width=16, height=16)
    world = World(config=config, robot=parts.ROBOT, assets=(), reach=None)
    with Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=2)) as ring:
        stage = RolloutStage(world, ring, worker=0, epoch=0)
        try:
            found = stage.step(0, Undecided(), sampler.sample(TurnSwitch(), 1), timeout_s=1.0)
        finally:
            stage.close()
    assert (found.fate, found.reason) == (Fate.REFUSED, "there is no way")
    assert found.timings.pilot_s > 0.02 and found.timings.physics_s > 0.0 and found.timings.render_s > 0.0
