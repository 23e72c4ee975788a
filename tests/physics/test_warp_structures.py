"""Laws of worlds in MuJoCo Warp whose kernels take minutes to compile: other structures, real robots, experts, a whole run."""

from contextlib import closing, suppress

import numpy as np
import pytest
from physics_parts import block, gantry, placed, scene, switch

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.crew_engine import CrewEngine
from embodichain.episode import Episode, NoPictures
from embodichain.errors import RingTimeout, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.physics.many import Many
from embodichain.physics.warp import batch as batches
from embodichain.physics.warp import contacts
from embodichain.physics.warp.worlds import WarpWorlds
from embodichain.prepare import prepare
from embodichain.ring.ring import Ring
from embodichain.rollout import ExpertPilot, drive_batch
from embodichain.stages import SceneStage
from embodichain.types import RingSpec, TrajectoryId, TrajectoryInfo

pytestmark = pytest.mark.slow
SIZE = 16


def made(kind, num_worlds, robot=None):
    return kind(robot or gantry(), num_worlds=num_worlds, width=SIZE, height=SIZE)


def run(batch, steps):
    home = np.tile(batch.robot.home, (batch.num_worlds, 1))
    for _ in range(steps):
        tape = batch.step(home)
    return tape


def test_scenes_of_other_structures_are_simulated_beside_each_other_and_worlds_change_between_them():
    lever = placed("s", switch(), 0.1, 0.15, joint_positions=(0.3,))
    turned = placed("s", switch(damping=0.003), -0.05, -0.15, quaternion=(0.8, 0.0, 0.0, 0.6), joint_positions=(-0.2,))
    settings = [
        scene(placed("a", block(), z=0.02)),
        scene(lever, placed("b", block((0.06, 0.03, 0.05)), 0.2, z=0.02)),
        scene(turned, placed("b", block((0.03, 0.03, 0.05)), 0.2, z=0.02)),
    ]
    with closing(made(WarpWorlds, 3)) as mine, closing(made(Many, 3)) as theirs:
        for shift in range(2):
            order = settings[shift:] + settings[:shift]
            for batch in (mine, theirs):
                batch.load(range(3), order)
            found, expected = run(mine, 10), run(theirs, 10)
            assert len(mine.batches) == 2 and sum(batch.taken for batch in mine.batches.values()) == 3
            for world in range(3):
                a, b = found.state(world), expected.state(world)
                assert a.object_poses.keys() == b.object_poses.keys()
                for role, pose in a.object_poses.items():
                    np.testing.assert_allclose(pose.position, b.object_poses[role].position, atol=1e-3)
                for role, values in a.object_joints.items():
                    np.testing.assert_allclose(values, b.object_joints[role], atol=1e-3)
                assert {(c.first, c.second) for c in a.contacts} == {(c.first, c.second) for c in b.contacts}


def test_a_pile_that_finds_no_room_for_constraints_or_pairs_is_void_and_is_simulated_once_there_is(monkeypatch):
    rows = [placed(f"b{i}", block((0.04, 0.04, 0.03)), 0.06 * (i % 5) - 0.12, 0.06 * (i // 5), 0.05) for i in range(10)]
    setting = scene(*rows)
    with closing(made(WarpWorlds, 1)) as batch:
        batch.load((0,), (setting,))
        assert "NEFC" in run(batch, 10).faults[0] and "128 rows of constraints" in run(batch, 1).faults[0]
        batch.load((0,), (setting,))
        state = run(batch, 25).state(0)
        weight = sum(row.asset.bodies[0].mass for row in rows) * 9.81
        assert state.force_between("table", "b") == pytest.approx(weight, rel=0.1)
    monkeypatch.setattr(contacts, "CAPACITY", 8)
    monkeypatch.setattr(batches, "_CONSTRAINTS", 256)
    with closing(made(WarpWorlds, 1)) as batch:
        batch.load((0,), (setting,))
        assert "pairs of bodies that touch" in run(batch, 25).faults[0]


@pytest.mark.parametrize("name", ["turn_switch", "place_mouse_pad", "stack_bowls"])
def test_unchanged_experts_earn_the_same_verdicts_as_in_mujoco_c(name):
    world = prepare(WorldConfig(tasks=(name,), width=SIZE, height=SIZE))
    spec, codec, stage, settings, number = world.trajectory_spec, ActionCodec(world.robot), SceneStage(world), [], 0
    while len(settings) < 2:
        with suppress(SceneError):
            task, setting = stage.step(number)
            settings.append(setting)
        number += 1

    def verdicts(batch):
        waiting, found = list(settings), {}

        def take(world):
            if not waiting:
                return None
            setting = waiting.pop(0)
            pilot = ExpertPilot(task, setting, batch.worlds[world], np.random.default_rng(setting.seed))
            return setting, Episode(setting, pilot, task.grader(setting), codec, NoPictures(), spec.allocate(), spec)

        for ended in drive_batch(batch, take):
            verdict = ended.driver.finish().verdict if ended.error is None else None
            # An expert that finds no way in a scene finds none in either; where to the tenth of a millimetre may differ.
            found[ended.driver.scene.seed] = type(ended.error).__name__ if verdict is None else (verdict.success, verdict.reason)
        return found

    with closing(made(WarpWorlds, 2, world.robot)) as mine, closing(made(Many, 2, world.robot)) as theirs:
        assert verdicts(mine) == verdicts(theirs)


def test_a_crew_streams_from_worlds_stepped_together_and_its_trajectories_say_so(no_shared_memory_left):
    config = WorldConfig(
        tasks=("turn_switch",), physics="mujoco_warp", width=SIZE, height=SIZE, assets=AssetsConfig(counts={"switch": 2})
    )
    world, found = prepare(config), {}
    with (
        Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=4, max_reads=1)) as ring,
        CrewEngine(world, ring, num_worlds=2, members=2, groups=1, limit=4) as engine,
    ):
        while not engine.exhausted or len(found) < engine.report.published:
            engine.check()
            with suppress(RingTimeout), ring.sample(1, timeout_s=0.2) as batch:
                identity = TrajectoryId.unpack(int(batch[0]["trajectory_id"]))
                found[identity.sequence] = TrajectoryInfo.decode(batch[0]["info"].copy()), batch[0]["rgb"].copy()
        assert engine.report.published == len(found) >= 3 and engine.report.published + engine.report.fates["refused"] == 4
    assert {info.physics for info, _ in found.values()} == {"mujoco_warp"} and all(rgb.std() > 5 for _, rgb in found.values())
