"""handover_block: its expert passes the block from hand to hand, and its grader believes nothing but hands in the air."""

import numpy as np
import pytest
import scene_parts as parts
from staging import Stage
from table_parts import block, carried, drop, let_go, put, sampler_of, shove, throw

from embodichain.motion.hand import HandConfig
from embodichain.motion.skills import num_pressing
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks.handover_block import HandoverBlock
from embodichain.types import Segment, WorldState

TASK = HandoverBlock()


@pytest.fixture(scope="module")
def blocks(reach_dir):
    return sampler_of([block(0.036), block(0.044), parts.pad(0.21)], reach_dir)


@pytest.fixture
def stage(physics, blocks) -> Stage:
    scene = blocks.sample(TASK, 1)
    return Stage(physics, scene, TASK.grader(scene))


def both_hold(state: WorldState) -> bool:
    return num_pressing(state, "block", 0.5) >= 4


@pytest.mark.parametrize("seed", [0, 2])
def test_the_expert_hands_the_block_over_within_all_limits(physics, blocks, seed: int) -> None:
    scene = blocks.sample(TASK, seed)
    stage = Stage(physics, scene, TASK.grader(scene))
    state = stage.expert(TASK)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 15.0
    limits = HandConfig().limits
    speed, acceleration = stage.peaks
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration


def test_a_missed_block_is_tried_again(physics, blocks) -> None:
    task = HandoverBlock(RecoveryConfig(probability=1.0, kinds=MISALIGNED))
    scene = blocks.sample(task, 1)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)


def test_held_out_scenes_use_other_words_and_more_room() -> None:
    requests = [[HandoverBlock(held_out=held).request(np.random.default_rng(seed)) for seed in range(40)] for held in (False, True)]
    ours, theirs = ({request.instruction for request in some} for some in requests)
    assert len(ours) >= 6 and len(theirs) >= 4 and not ours & theirs
    assert requests[1][0].objects[0].x[1] > requests[0][0].objects[0].x[1]


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(1.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def test_a_block_that_is_simply_on_the_pad_fails(stage: Stage) -> None:
    x, y, _ = stage.state.object_poses["target"].position
    put(stage, "block", x, y, z=0.004)
    stage.hold(1.0)
    assert not stage.verdict.success


def test_a_block_that_one_hand_carried_all_the_way_fails(stage: Stage) -> None:
    stage.expert(TASK, until=carried("block", 0.04))
    stage.hold(0.3)
    x, y, _ = stage.state.object_poses["target"].position
    let_go(stage)
    put(stage, "block", x, y, z=0.004)
    stage.hold(1.0)
    assert not stage.verdict.success


def test_a_block_dropped_by_the_giver_fails(stage: Stage) -> None:
    drop(stage, TASK, "block", 0.05)
    assert "dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason


def test_a_block_thrown_to_the_pad_fails(stage: Stage) -> None:
    throw(stage, TASK, "block", 0.05)
    assert not stage.verdict.success and ("thrown" in stage.verdict.reason or "dropped" in stage.verdict.reason)


def test_a_block_that_both_hands_let_fall_fails(stage: Stage) -> None:
    stage.expert(TASK, until=both_hold)
    assert both_hold(stage.state)
    command = stage.command.copy()
    command[[6, 13]] = 0.06
    for _ in range(50):
        stage.step(command)
    assert not stage.verdict.success and ("dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason)


def test_a_block_that_both_still_hold_fails(stage: Stage) -> None:
    stage.expert(TASK, until=both_hold)
    stage.hold(1.0)
    assert not stage.verdict.success and "by itself after both had" in stage.verdict.reason
    assert 0.5 < stage.verdict.progress < 0.9


def test_a_block_pushed_over_the_table_fails(stage: Stage) -> None:
    shove(stage, "block", 0.05)
    assert not stage.verdict.success and ("pushed" in stage.verdict.reason or "slid" in stage.verdict.reason)


def test_a_block_taken_away_after_success_fails(stage: Stage) -> None:
    stage.expert(TASK)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    stage.qvel("block")[:3] = (0.0, 0.0, 2.0)
    stage.hold(1.0)
    assert not stage.verdict.success
