"""open_pan_and_place: its expert succeeds with two arms, and its grader sees every shortcut."""

from dataclasses import replace

import numpy as np
import pytest
from staging import Stage
from table_parts import block, carried, drop, let_go, lid, pan, put, sampler_of, shove, throw

from embodichain.motion.hand import HandConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks.open_pan_and_place import LIDS, OpenPanAndPlace, ajar, lid_role, outside
from embodichain.types import Contact, Scene, Segment, WorldState

TASK = OpenPanAndPlace()


@pytest.fixture(scope="module")
def kitchen(reach_dir):
    return sampler_of([pan(), lid(), block(0.036), block(0.042)], reach_dir)


def scene_with(kitchen, role: str) -> Scene:
    """The first scene whose lid must end there."""
    return next(scene for scene in (kitchen.sample(TASK, seed) for seed in range(10)) if lid_role(scene) == role)


@pytest.fixture
def stage(physics, kitchen) -> Stage:
    scene = scene_with(kitchen, "lid_aside")
    return Stage(physics, scene, TASK.grader(scene))


@pytest.mark.parametrize("role", LIDS)
def test_the_expert_uncovers_fills_and_leaves_the_lid_where_it_should(physics, kitchen, role: str) -> None:
    scene = scene_with(kitchen, role)
    stage = Stage(physics, scene, TASK.grader(scene))
    state = stage.expert(TASK)
    stage.hold(0.5)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 20.0 and bool(ajar(scene, state)) == (role == "lid_aside")
    speed, acceleration = stage.peaks
    limits = HandConfig().limits
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration


@pytest.mark.slow
def test_a_missed_knob_is_tried_again(physics, kitchen) -> None:
    task = OpenPanAndPlace(RecoveryConfig(probability=1.0, kinds=MISALIGNED))
    scene = scene_with(kitchen, "lid_aside")
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    stage.hold(0.5)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)


def test_the_lid_starts_on_the_pan_and_the_words_say_where_it_ends(physics, kitchen) -> None:
    for seed in range(8):
        scene = kitchen.sample(TASK, seed)
        state = physics.reset(scene)
        for _ in range(10):
            state = physics.step(state.measured)
        assert not ajar(scene, state) and state.touching(f"{lid_role(scene)}/", "pan/") and outside(scene, state)
        words = scene.instruction
        assert any(word in words for word in ("back", "close", "cover")) == (lid_role(scene) == "lid_back")


def test_held_out_scenes_use_other_words() -> None:
    ours = {TASK.request(np.random.default_rng(seed)).instruction for seed in range(60)}
    theirs = {OpenPanAndPlace(held_out=True).request(np.random.default_rng(seed)).instruction for seed in range(60)}
    assert len(ours) == 8 and len(theirs) == 4 and not ours & theirs


def in_pan(stage: Stage) -> None:
    """The block is suddenly in the pan."""
    x, y, _ = stage.state.object_poses["pan"].position
    put(stage, "block", x, y, 0.3, 0.0045)


def lid_in_hand(state: WorldState) -> bool:
    return carried("lid_aside", 0.07)(state) and not state.touching("lid_aside/", "pan/")


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(1.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def test_a_block_that_is_simply_in_the_pan_fails(stage: Stage) -> None:
    in_pan(stage)
    put(stage, "lid_aside", 0.1, 0.2)
    stage.hold(1.0)
    assert not outside(stage.scene, stage.state) and not stage.verdict.success


def test_a_lid_dropped_beside_the_pan_fails(stage: Stage) -> None:
    stage.expert(TASK, until=lid_in_hand)
    let_go(stage)
    stage.hold(1.0)
    assert not stage.verdict.success and ("dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason)


def test_a_thrown_lid_fails(stage: Stage) -> None:
    throw(stage, TASK, "lid_aside", 0.07)
    assert not stage.verdict.success and ("dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason)


@pytest.mark.slow
def test_a_block_dropped_into_the_pan_fails(stage: Stage) -> None:
    drop(stage, TASK, "block", 0.07)
    assert not stage.verdict.success and ("dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason)


@pytest.mark.slow
def test_a_block_put_in_by_the_arm_of_the_lid_fails(stage: Stage) -> None:
    stage.expert(TASK)
    stage.hold(0.5)
    assert stage.verdict.success
    grader = TASK.grader(stage.scene)
    names = ("robot/left/", "robot/right/")
    other = Stage(stage.physics, stage.scene, OneArmed(grader, *names))
    other.expert(TASK)
    other.hold(0.5)
    assert not grader.verdict().success and "both lid and block" in grader.verdict().reason


class OneArmed:
    """Shows a grader the same events as if one arm had done them all."""

    def __init__(self, grader, first: str, second: str) -> None:
        self.grader, self.first, self.second = grader, first, second

    def observe(self, state: WorldState) -> None:
        contacts = tuple(
            replace(c, first=c.first.replace(self.second, self.first), second=c.second.replace(self.second, self.first))
            for c in state.contacts
        )
        self.grader.observe(replace(state, contacts=contacts))


def test_a_pan_pushed_about_fails(stage: Stage) -> None:
    shove(stage, "pan", 0.1)
    assert not stage.verdict.success and ("the pan" in stage.verdict.reason or "the lid" in stage.verdict.reason)


@pytest.mark.slow
def test_a_pan_left_open_fails_when_it_should_be_closed(physics, kitchen) -> None:
    scene = scene_with(kitchen, "lid_back")
    stage = Stage(physics, scene, TASK.grader(scene))
    stage.expert(TASK, until=lambda state: not outside(scene, state) and not state.touching("robot/", "block/"))
    stage.hold(1.0)
    assert not stage.verdict.success and "above its seat" in stage.verdict.reason


@pytest.mark.slow
def test_a_lid_still_held_fails(stage: Stage) -> None:
    stage.expert(TASK)
    stage.hold(0.5)
    assert stage.verdict.success
    touch = Contact(first="robot/up/finger_l", second="lid_aside/body", force=2.0)
    stage.grader.observe(replace(stage.state, contacts=(*stage.state.contacts, touch)))
    assert not stage.verdict.success and "untouched" in stage.verdict.reason
