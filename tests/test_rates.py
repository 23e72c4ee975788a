"""How many actions a chunk holds is the schema's to say, how many commands a second the robot's: everybody else asks them."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodichain.config import WorldConfig
from embodichain.engine import Engine
from embodichain.episode import NoPictures
from embodichain.errors import ConfigError, RingTimeout, RobotError
from embodichain.motion.action import ActionCodec
from embodichain.physics import counting
from embodichain.physics.counting import CountingPhysics
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.prepare import prepare
from embodichain.ring import layout
from embodichain.ring.ring import Ring
from embodichain.rollout import ExpertPilot, replay, rollout, write_provenance
from embodichain.scenes.config import SettleConfig
from embodichain.scenes.settle import settle
from embodichain.tasks.counting import CountingTask
from embodichain.tasks.turn_switch import TurnSwitch
from embodichain.types import Field, RingSpec, Scene, Segment, TrajectoryId, TrajectoryInfo, TrajectorySpec, camera_spec

sys.path.insert(0, str(Path(__file__).parent / "scenes"))
import scene_parts as parts


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    return parts.make_sampler(tmp_path_factory.mktemp("reach"))


@pytest.mark.parametrize(("chunk", "control_hz"), [(8, 50), (16, 100), (8, 25)])
def test_an_episode_of_any_chunk_and_rate_streams_through_the_ring_and_replays_bitwise(sampler, chunk, control_hz):
    robot = replace(parts.ROBOT, control_hz=control_hz)
    spec = camera_spec(cameras=3, height=16, width=16, horizon=5 * control_hz // chunk, chunk=chunk)
    task, scene = TurnSwitch(), sampler.sample(TurnSwitch(), 1)
    physics, codec = MujocoPhysics(robot, width=16, height=16), ActionCodec(robot)
    with Ring.create(RingSpec(trajectory=spec, num_slots=2, max_reads=1)) as ring:
        with ring.reserve() as slot:
            pilot = ExpertPilot(task, scene, physics, np.random.default_rng(1))
            outcome = rollout(physics, codec, scene, pilot, task.grader(scene), slot, spec)
            identity = TrajectoryId(worker=0, epoch=0, sequence=1)
            write_provenance(slot, scene, outcome, identity=identity, robot=robot.name, physics="mujoco")
        assert outcome.verdict.success and outcome.timings.frames == outcome.num_chunks + 1
        end = physics.world.data.qpos.copy(), physics.world.data.qvel.copy()
        with Ring.attach(ring.path, spec) as reader, reader.sample(1) as lease:
            stored = {name: array.copy() for name, array in lease[0].items()}
    assert stored["action"].shape == (spec.horizon, chunk, 30) and TrajectoryInfo.decode(stored["info"]).success
    chunks = int(stored["num_chunks"])
    assert len(np.unique(stored["rgb"][: chunks + 1].reshape(chunks + 1, -1), axis=0)) > chunks // 2
    grader = task.grader(scene)
    state = replay(physics, codec, scene, stored["action"][:chunks], grader)
    np.testing.assert_array_equal(physics.world.data.qpos, end[0])
    np.testing.assert_array_equal(physics.world.data.qvel, end[1])
    assert grader.verdict() == outcome.verdict and state.control_hz == control_hz
    assert state.time_s == pytest.approx(chunks * chunk / control_hz)
    np.testing.assert_array_equal(codec.encode(state.measured), stored["proprio"][chunks])


def test_experts_take_as_long_in_seconds_at_any_rate_and_keep_their_limits(sampler):
    lasted = {}
    for control_hz in (25, 50, 125):
        robot = replace(parts.ROBOT, control_hz=control_hz)
        spec = camera_spec(cameras=3, height=16, width=16, horizon=6 * control_hz, chunk=1)
        task, scene, out = TurnSwitch(), sampler.sample(TurnSwitch(), 3), spec.allocate()
        physics, codec = MujocoPhysics(robot, width=16, height=16), ActionCodec(robot)
        pilot = ExpertPilot(task, scene, physics, np.random.default_rng(3))
        outcome = rollout(physics, codec, scene, pilot, task.grader(scene), out, spec, shutter=NoPictures())
        assert outcome.verdict.success
        lasted[control_hz] = outcome.num_chunks / control_hz
        joints = np.stack([codec.decode(action) for action in out["action"][: outcome.num_chunks, 0]])
        grippers = np.cumsum([arm.command_size for arm in robot.arms]) - 1
        assert np.abs(np.diff(np.delete(joints, grippers, axis=1), axis=0)).max() * control_hz < 2.1
    assert max(lasted.values()) < 1.15 * min(lasted.values()), lasted


def test_scenes_settle_for_as_long_in_seconds_at_any_rate(sampler):
    scene = sampler.sample(TurnSwitch(), 2)
    for control_hz in (25, 100):
        physics = MujocoPhysics(replace(parts.ROBOT, control_hz=control_hz), width=16, height=16)
        settled = settle(physics, scene)
        assert physics.world.data.time == pytest.approx(SettleConfig().quiet_s, abs=1 / control_hz), "it stood still from the start"
        assert settled.objects[0].pose.position == pytest.approx(scene.objects[0].pose.position, abs=1e-3)


@pytest.mark.parametrize("chunk", [1, 5, 8, 16, 40])
def test_counting_trajectories_of_any_chunk_arrive_intact(chunk):
    world = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=24, chunk=chunk), lambda *_: None)
    assert world.trajectory_spec.chunk == chunk and world.trajectory_spec.action_dim == 30
    read = []
    with (
        Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=4, max_reads=1)) as ring,
        Engine(world, ring, limit=12) as engine,
    ):
        while not engine.exhausted or ring.stats().ready:
            engine.feed()
            try:
                with ring.sample(1, timeout_s=0.0) as batch:
                    counting.verify(batch[0], robot=world.robot)
                    read.append(batch[0]["segment"][: int(batch[0]["num_chunks"])].tolist())
            except RingTimeout:
                continue
    assert len(read) == engine.report.published > 5
    assert {label for labels in read for label in labels} == set(Segment)


def test_counting_keeps_its_count_at_another_rate():
    robot = replace(parts.ROBOT, control_hz=10)
    spec = camera_spec(cameras=3, height=4, width=4, horizon=12)
    task, scene = CountingTask(), Scene(seed=11, task="counting", instruction=counting.INSTRUCTION, objects=())
    physics = CountingPhysics(robot, width=4, height=4)
    pilot = ExpertPilot(task, scene, physics, np.random.default_rng(0))
    outcome = rollout(physics, ActionCodec(robot), scene, pilot, task.grader(scene), spec.allocate(), spec)
    assert outcome.verdict.success


def test_what_was_written_before_still_means_the_same():
    spec = camera_spec(cameras=3, height=64, width=64, horizon=64, depth=True)
    assert spec.schema_hash == 7147376509360895906 and (spec.chunk, spec.action_dim) == (16, 30)
    assert parts.ROBOT.content_hash == "c74ef41289cfae10" and parts.ROBOT.control_hz == 50
    assert replace(parts.ROBOT, control_hz=100).content_hash != parts.ROBOT.content_hash
    old = (
        b'{"trajectory":{"horizon":1,"fields":[{"name":"action","shape":[1,16,30],"dtype":"float32"}]},"num_slots":2,'
        b'"max_reads":50,"full_policy":"block","min_ready":1,"mode":"trajectory"}'
    )
    assert layout.decode_spec(old).trajectory.chunk == 16


def test_what_no_trajectory_or_robot_can_have_is_refused():
    with pytest.raises(ValueError, match="chunk=0, action_dim=30"):
        camera_spec(cameras=1, height=4, width=4, horizon=2, chunk=0)
    with pytest.raises(ConfigError, match="at least 1 action, got chunk=-3"):
        WorldConfig(chunk=-3)
    with pytest.raises(ValueError, match="control_hz=0"):
        replace(parts.ROBOT, control_hz=0)
    with pytest.raises(RobotError, match=r"60 commands per second, .* 2 ms fits into; available: 10, 20, 25, 50, .* 500"):
        MujocoPhysics(replace(parts.ROBOT, control_hz=60), width=16, height=16)
    flat = TrajectorySpec(horizon=3, fields=(Field(name="action", shape=(4, 30), dtype="float32"),))
    with pytest.raises(ValueError, match=re.escape("'action' has shape [4, 30]: it takes [3, chunk, action_dim]")):
        _ = flat.chunk
    with pytest.raises(KeyError, match="no field 'action'"):
        _ = TrajectorySpec(horizon=3, fields=()).action_dim
    narrow, task = camera_spec(cameras=3, height=16, width=16, horizon=2, action_dim=14), TurnSwitch()
    physics = MujocoPhysics(parts.ROBOT, width=16, height=16)
    scene = Scene(seed=1, task="turn_switch", instruction="", objects=())
    with pytest.raises(ConfigError, match="acts in 30 channels and the trajectory holds 14"):
        pilot = ExpertPilot(task, scene, physics, np.random.default_rng(0))
        rollout(physics, ActionCodec(parts.ROBOT), scene, pilot, CountingTask().grader(scene), narrow.allocate(), narrow)
