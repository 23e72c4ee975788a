"""rearrange_table: its expert succeeds, and its grader sees every piece that lies wrong or came there by no honest way."""

import math
from dataclasses import replace

import numpy as np
import pytest
from staging import Stage
from table_parts import carried, cutlery, drop, plate, put, sampler_of, shove, throw

from embodichain.motion.hand import HandConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks.rearrange_table import INSTRUCTIONS, PIECES, SIDES, RearrangeTable, misplaced
from embodichain.types import Contact, Segment

TASK = RearrangeTable()


@pytest.fixture(scope="module")
def tables(reach_dir):
    return sampler_of([plate(), *(cutlery(name) for name in PIECES)], reach_dir)


@pytest.fixture
def stage(physics, tables) -> Stage:
    scene = tables.sample(TASK, 1)
    return Stage(physics, scene, TASK.grader(scene))


@pytest.mark.parametrize("seed", (1, 2))
def test_the_expert_lays_the_table(physics, tables, seed: int) -> None:
    scene = tables.sample(TASK, seed)
    stage = Stage(physics, scene, TASK.grader(scene))
    state = stage.expert(TASK)
    stage.hold(0.5)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 20.0
    speed, acceleration = stage.peaks
    limits = HandConfig().limits
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration


@pytest.mark.slow
def test_a_missed_piece_is_tried_again(physics, tables) -> None:
    task = RearrangeTable(RecoveryConfig(probability=1.0, kinds=MISALIGNED))
    scene = tables.sample(task, 1)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    stage.hold(0.5)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)


def test_the_instruction_names_the_pieces_by_their_sides(tables) -> None:
    for seed in range(12):
        scene = tables.sample(TASK, seed)
        left, right = (scene.object(side).asset.category for side in SIDES)
        assert left != right and left in scene.instruction and right in scene.instruction
        others = {phrase.format(left=right, right=left) for phrase in INSTRUCTIONS.streamed}
        assert scene.instruction in {phrase.format(left=left, right=right) for phrase in INSTRUCTIONS.streamed} - others


def test_held_out_scenes_use_other_words() -> None:
    ours = {TASK.request(np.random.default_rng(seed)).instruction for seed in range(160)}
    theirs = {RearrangeTable(held_out=True).request(np.random.default_rng(seed)).instruction for seed in range(160)}
    assert len(ours) == 24 and len(theirs) == 12 and not ours & theirs


def lay(
    stage: Stage, *, left: float = 1.0, right: float = -1.0, along: float = 0.0, yaw: float = 0.0, beside: float = 0.05
) -> None:
    """The pieces are suddenly beside the plate."""
    x, y, _ = stage.state.object_poses["plate"].position
    radius = float(stage.scene.object("plate").asset.bounds[1, 1])
    for side, sense in (("left", left), ("right", right)):
        put(stage, side, x + along, y + sense * (radius + beside), yaw, 0.0005)


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(1.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def test_a_table_that_nobody_laid_fails(stage: Stage) -> None:
    lay(stage)
    stage.hold(1.0)
    assert misplaced(stage.scene, stage.state, "left") == misplaced(stage.scene, stage.state, "right") == ""
    assert not stage.verdict.success


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"left": -1.0, "right": 1.0}, "does not lie on the left"),
        ({"along": 0.07}, "before or behind"),
        ({"yaw": math.radians(25.0)}, "not lined up"),
        ({"beside": 0.14}, "from the plate"),
    ],
)
def test_a_wrong_table_fails(stage: Stage, wrong, reason: str) -> None:
    lay(stage, **wrong)
    assert reason in misplaced(stage.scene, stage.physics.step(stage.command), "left")


def first_held(stage: Stage) -> str:
    """The piece that the expert lifts first."""
    twin = Stage(stage.physics, stage.scene, TASK.grader(stage.scene))
    twin.expert(TASK, until=lambda state: any(carried(side, 0.03)(state) for side in SIDES))
    side = next(side for side in SIDES if carried(side, 0.03)(twin.state))
    stage.state = stage.physics.reset(stage.scene)
    return side


def test_a_dropped_piece_fails_though_it_lies_well_later(stage: Stage) -> None:
    drop(stage, TASK, first_held(stage), 0.04)
    lay(stage)
    stage.hold(0.8)
    assert not stage.verdict.success and ("dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason)


def test_a_thrown_piece_fails(stage: Stage) -> None:
    throw(stage, TASK, first_held(stage), 0.04)
    assert not stage.verdict.success and ("thrown" in stage.verdict.reason or "dropped" in stage.verdict.reason)


@pytest.mark.slow
def test_a_pushed_plate_fails(stage: Stage) -> None:
    shove(stage, "plate", 0.11)
    stage.expert(TASK)
    stage.hold(0.5)
    assert not stage.verdict.success and "plate" in stage.verdict.reason


def test_a_piece_still_held_or_moving_fails(stage: Stage) -> None:
    stage.expert(TASK)
    stage.hold(0.5)
    assert stage.verdict.success
    touch = Contact(first="robot/left/finger_l", second="left/body", force=2.0)
    stage.grader.observe(replace(stage.state, contacts=(*stage.state.contacts, touch)))
    assert not stage.verdict.success and "untouched" in stage.verdict.reason
