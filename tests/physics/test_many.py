"""Laws of a batch of worlds: each of them is what a single physics would be, whatever happens in the others."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from physics_parts import block, gantry, placed, scene, switch

from embodichain.episode import Episode, NoPictures, Snapshots
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.motion.action import ActionCodec
from embodichain.physics.many import Many
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.single import Single
from embodichain.recovery.config import RecoveryConfig
from embodichain.rollout import ExpertPilot, drive_batch, rollout
from embodichain.tasks.place_mouse_pad import PlaceMousePad
from embodichain.tasks.turn_switch import TurnSwitch
from embodichain.types import Push, camera_spec

sys.path.insert(0, str(Path(__file__).parent.parent / "scenes"))
import scene_parts as parts

SIZE = 16
SPEC = camera_spec(cameras=3, height=SIZE, width=SIZE, horizon=70, depth=True, segmentation=True)
RECOVERY = RecoveryConfig(probability=1.0)


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    return parts.make_sampler(tmp_path_factory.mktemp("reach"), physical=PhysicalConfig(enabled=True))


@pytest.fixture(scope="module")
def codec():
    return ActionCodec(parts.ROBOT)


def play(physics, codec, task, setting):
    out = SPEC.allocate()
    pilot = ExpertPilot(task, setting, physics, np.random.default_rng(setting.seed))
    return rollout(physics, codec, setting, pilot, task.grader(setting), out, SPEC), out


def same(first, second):
    for name in SPEC.allocate():
        assert first[1][name].tobytes() == second[1][name].tobytes(), name
    for name in ("verdict", "num_chunks", "recovered", "failed", "pushed"):
        assert getattr(first[0], name) == getattr(second[0], name)


@pytest.mark.parametrize(("task", "seed"), [(TurnSwitch(recovery=RECOVERY), 1), (PlaceMousePad(recovery=RECOVERY), 2)])
def test_an_episode_in_a_batch_of_one_is_bitwise_that_of_a_single_physics(sampler, codec, task, seed):
    setting = sampler.sample(task, seed)
    alone = MujocoPhysics(parts.ROBOT, width=SIZE, height=SIZE)
    batch = Single(Many(parts.ROBOT, num_worlds=1, width=SIZE, height=SIZE))
    expected, found = play(alone, codec, task, setting), play(batch, codec, task, setting)
    assert expected[0].num_chunks > 5 and expected[1]["rgb"].any()
    same(found, expected)


def test_episodes_side_by_side_in_three_worlds_are_bitwise_those_of_single_loops(sampler, codec):
    tasks = [TurnSwitch(recovery=RECOVERY), PlaceMousePad(), TurnSwitch(), TurnSwitch(recovery=RECOVERY), PlaceMousePad()]
    settings = [sampler.sample(task, 3 + number) for number, task in enumerate(tasks)]
    batch = Many(parts.ROBOT, num_worlds=3, width=SIZE, height=SIZE)
    waiting, began, found = list(range(len(tasks))), [], {}
    arrays = [SPEC.allocate() for _ in tasks]
    numbers = {}

    def take(world):
        if not waiting:
            return None
        number = waiting.pop(0)
        task, setting = tasks[number], settings[number]
        pilot = ExpertPilot(task, setting, batch.worlds[world], np.random.default_rng(setting.seed))

        def draw(rgb, depth, segmentation):
            batch.render((world,), rgb[None], depth[None], segmentation[None])

        episode = Episode(setting, pilot, task.grader(setting), codec, Snapshots(draw), arrays[number], SPEC)
        numbers[id(episode)] = number
        began.append((world, len(found)))
        return setting, episode

    for ended in drive_batch(batch, take):
        assert ended.error is None
        found[numbers[id(ended.driver)]] = ended.driver.finish()
    assert {world for world, _ in began} == {0, 1, 2} and began[3][1] == 1, "the fourth began when the first world was free"
    single = MujocoPhysics(parts.ROBOT, width=SIZE, height=SIZE)
    for number, (task, setting) in enumerate(zip(tasks, settings, strict=True)):
        same((found[number], arrays[number]), play(single, codec, task, setting))
        assert found[number].timings.physics_s > 0 and found[number].timings.frames == found[number].num_chunks + 1


def test_an_episode_that_cannot_go_on_ends_alone(sampler, codec):
    task, batch = TurnSwitch(), Many(parts.ROBOT, num_worlds=2, width=SIZE, height=SIZE)
    good = sampler.sample(task, 1)
    mice = placed("one", parts.mouse(), 0.0, 0.3), placed("two", parts.mouse(), 0.0, 0.32)
    crossed = replace(good, objects=(*good.objects, *mice))
    impossible = replace(good, lights=good.lights * 9)
    waiting = [impossible, good, crossed]

    def take(world):
        if not waiting:
            return None
        setting = waiting.pop(0)
        pilot = ExpertPilot(task, setting, batch.worlds[world], np.random.default_rng(0))
        return setting, Episode(setting, pilot, task.grader(setting), codec, NoPictures(), SPEC.allocate(), SPEC)

    ended = list(drive_batch(batch, take))
    assert [[impossible, crossed, good].index(row.driver.scene) for row in ended] == [0, 1, 2]
    assert "lights" in str(ended[0].error) and "begins with" in str(ended[1].error)
    assert ended[2].error is None and ended[2].driver.finish().verdict.success


@pytest.fixture
def batch():
    batch = Many(gantry(), num_worlds=3, width=SIZE, height=SIZE)
    yield batch
    batch.close()


def fall(batch, steps):
    command = np.tile(batch.robot.home, (batch.num_worlds, 1))
    for _ in range(steps):
        tape = batch.step(command)
    return tape


def test_a_tape_keeps_what_it_says_and_says_what_the_world_does(batch):
    batch.load(
        (0, 2),
        (scene(placed("a", block(), z=0.2)), scene(placed("s", switch(), joint_positions=(0.3,)), placed("b", block(), 0.2))),
    )
    early = fall(batch, 3)
    before = early.state(0).object_poses["a"]
    single = MujocoPhysics(gantry(), width=SIZE, height=SIZE)
    single.reset(scene(placed("a", block(), z=0.2)))
    for _ in range(3):
        expected = single.step(single.robot.home)
    assert before == expected.object_poses["a"] and early.state(0).contacts == expected.contacts
    late = fall(batch, 20)
    assert early.state(0).object_poses["a"] == before != late.state(0).object_poses["a"]
    assert late.state(2).object_joints["s"] and not late.state(0).object_joints["a"]
    assert late.state(0).time_s == late.state(2).time_s == pytest.approx(0.46)


def test_worlds_loaded_at_different_times_do_not_disturb_each_other(batch):
    lone = MujocoPhysics(gantry(), width=SIZE, height=SIZE)
    first, second = scene(placed("a", block(), z=0.1)), scene(placed("b", block((0.06, 0.03, 0.05)), z=0.15))
    batch.load((1,), (first,))
    fall(batch, 7)
    touching = batch.look().state(1)
    batch.load((0,), (second,))
    assert batch.look().state(1).contacts == touching.contacts, "contacts stay those of the last period"
    tape = fall(batch, 5)
    for world, setting, steps in ((1, first, 12), (0, second, 5)):
        lone.reset(setting)
        for _ in range(steps):
            state = lone.step(lone.robot.home)
        found = tape.state(world)
        assert found.object_poses == state.object_poses and found.contacts == state.contacts
        np.testing.assert_array_equal(found.measured, state.measured)


def test_a_scene_that_cannot_be_built_leaves_the_others_loaded(batch):
    good, bad = scene(placed("a", block())), scene(placed("table", block()))
    with pytest.raises(SceneError, match=r"1 of 3 scenes cannot be loaded: world 1: .*role 'table'"):
        batch.load((0, 1, 2), (good, bad, good))
    tape = fall(batch, 2)
    assert tape.state(0).time_s == tape.state(2).time_s == pytest.approx(0.04)
    with pytest.raises(SceneError, match="role 'table'"):
        tape.state(1)
    batch.load((1,), (good,))
    assert batch.look().state(1).time_s == 0.0 and 1 not in batch.look().faults


def test_an_unstable_world_is_void_until_the_next_scene_and_the_others_go_on(batch):
    batch.load((0, 1, 2), [scene(placed("a", block()))] * 3)
    world = batch.worlds[1].world
    world.data.qvel[world.objects[0].free_qvel[0]] = np.nan
    tape = fall(batch, 1)
    with pytest.raises(SceneError, match="scene 7 became unstable"):
        tape.state(1)
    with pytest.raises(SceneError, match="unstable"):
        batch.render((1,), np.empty((1, 3, SIZE, SIZE, 3), np.uint8))
    assert fall(batch, 3).state(2).time_s == pytest.approx(0.08)
    batch.load((1,), (scene(placed("a", block())),))
    assert np.isfinite(fall(batch, 1).state(1).measured).all()


def test_a_push_acts_in_its_own_world_and_an_impossible_one_voids_it_alone(batch):
    batch.load((0, 1), [scene(placed("a", block(), z=0.3))] * 2)
    command = np.tile(batch.robot.home, (3, 1))
    tape = batch.step(command, {1: (Push(body="a", force=(5.0, 0.0, 0.0)),)})
    assert tape.state(1).object_velocities["a"][0] > 0.1 > tape.state(0).object_velocities["a"][0]
    tape = batch.step(command, {0: (Push(body="cat", force=(5.0, 0.0, 0.0)),)})
    assert set(tape.faults) == {0} and "no body 'cat'" in tape.faults[0]
    tape.state(1)


def test_pictures_of_some_worlds_are_those_that_each_takes_alone(batch):
    settings = scene(placed("a", block(color=(1.0, 0.0, 0.0, 1.0)))), scene(placed("b", block(color=(0.0, 1.0, 0.0, 1.0)), 0.1))
    batch.load((2, 0), settings)
    rgb, depth = np.empty((2, 3, SIZE, SIZE, 3), np.uint8), np.empty((2, 3, SIZE, SIZE), np.float32)
    batch.render((0, 2), rgb, depth)
    lone = MujocoPhysics(gantry(), width=SIZE, height=SIZE)
    for row, setting in enumerate(reversed(settings)):
        lone.reset(setting)
        picture = np.empty((3, SIZE, SIZE, 3), np.uint8)
        lone.render(picture)
        np.testing.assert_array_equal(rgb[row], picture)


def test_what_no_batch_can_do_is_refused_with_what_it_has(batch):
    setting, home = scene(placed("a", block())), batch.robot.home
    picture = np.empty((1, 3, SIZE, SIZE, 3), np.uint8)
    for refused in (
        partial(batch.load, (3,), (setting,)),
        partial(batch.load, (-1,), (setting,)),
        partial(batch.render, (3,), picture),
        partial(batch.step, np.tile(home, (3, 1)), {3: ()}),
        partial(batch.look().state, 3),
    ):
        with pytest.raises(ValueError, match=r"no world -?\d .*give 0 to 2"):
            refused()
    for worlds, scenes in (((0, 0), (setting, setting)), ((0, 1), (setting,))):
        with pytest.raises(ValueError, match="every world takes one scene"):
            batch.load(worlds, scenes)
    for command in (home, np.tile(home, (2, 1)), np.zeros((3, 5))):
        with pytest.raises(ValueError, match=r"take commands \(3, 6\), got"):
            batch.step(command)
    with pytest.raises(SceneError, match="world 1 holds no scene yet: load one first"):
        batch.look().state(1)
    with pytest.raises(SceneError, match="world 1 holds no scene yet: load one first"):
        batch.render((1,), picture)
    with pytest.raises(ConfigError, match="at least 1 world, got num_worlds=0"):
        Many(gantry(), num_worlds=0, width=SIZE, height=SIZE)
    with pytest.raises(ConfigError, match="batch of 1 world, got 3"):
        Single(batch)
