"""handover_and_place: its expert fills the basket by way of both hands, and its grader sees every short cut."""

import numpy as np
import pytest
import scene_parts as parts
from staging import Stage
from table_parts import block, drop, let_go, put, sampler_of, shove, throw

from embodichain.motion.hand import HandConfig
from embodichain.motion.skills import num_pressing
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks.handover_and_place import HandoverAndPlace, arms_of
from embodichain.types import Asset, Pose, Segment, WorldState

TASK = HandoverAndPlace()


def basket(length: float = 0.20, width: float = 0.15, height: float = 0.06, wall: float = 0.004) -> Asset:
    sides = [parts.box((wall, width, height), (sign * (length - wall) / 2, 0.0, height / 2)) for sign in (-1, 1)]
    sides += [parts.box((length, wall, height), (0.0, sign * (width - wall) / 2, height / 2)) for sign in (-1, 1)]
    floor = parts.box((length, width, wall), (0.0, 0.0, wall / 2))
    return Asset(
        name="basket",
        category="basket",
        bodies=(parts.body("body", floor, *sides, mass=0.3),),
        affordances={"center": ("body", Pose(position=(0.0, 0.0, wall), quaternion=parts.DOWN))},
        content_hash="basket",
    )


@pytest.fixture(scope="module")
def things(reach_dir):
    return sampler_of([block(0.036), block(0.044), basket()], reach_dir)


@pytest.fixture
def stage(physics, things) -> Stage:
    scene = things.sample(TASK, 1)
    return Stage(physics, scene, TASK.grader(scene))


def both_hold(state: WorldState) -> bool:
    return num_pressing(state, "object", 0.5) >= 4


@pytest.mark.parametrize("seed", [0, 3])
def test_the_expert_fills_the_basket_within_all_limits(physics, things, seed: int) -> None:
    scene = things.sample(TASK, seed)
    stage = Stage(physics, scene, TASK.grader(scene))
    state = stage.expert(TASK)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 15.0
    limits = HandConfig().limits
    speed, acceleration = stage.peaks
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration


def test_either_arm_may_give(things) -> None:
    givers = set()
    for seed in range(8):
        scene = things.sample(TASK, seed)
        giver, receiver = arms_of(scene)
        givers.add(giver)
        words = scene.instruction
        assert giver in words or receiver in words
        assert giver not in words or receiver not in words or words.index(giver) < words.index(receiver) or "from" in words
        assert (scene.object("basket").pose.position[1] > 0) == (receiver == "left")
    assert givers == {"left", "right"}


@pytest.mark.slow
def test_a_missed_object_is_tried_again(physics, things) -> None:
    task = HandoverAndPlace(RecoveryConfig(probability=1.0, kinds=MISALIGNED))
    scene = things.sample(task, 1)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)


def test_held_out_scenes_use_other_words_and_more_room() -> None:
    tasks = [HandoverAndPlace(held_out=held) for held in (False, True)]
    requests = [[task.request(np.random.default_rng(seed)) for seed in range(40)] for task in tasks]
    ours, theirs = ({request.instruction for request in some} for some in requests)
    assert len(ours) >= 8 and len(theirs) >= 4 and not ours & theirs
    assert requests[1][0].objects[0].x[1] > requests[0][0].objects[0].x[1]


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(1.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def test_an_object_that_is_simply_in_the_basket_fails(stage: Stage) -> None:
    x, y, _ = stage.state.object_poses["basket"].position
    put(stage, "object", x, y, z=0.006)
    stage.hold(1.0)
    assert not stage.verdict.success


def test_an_object_dropped_by_the_giver_fails(stage: Stage) -> None:
    drop(stage, TASK, "object", 0.05)
    assert "dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason


def test_an_object_thrown_into_the_basket_fails(stage: Stage) -> None:
    throw(stage, TASK, "object", 0.05)
    x, y, _ = stage.state.object_poses["basket"].position
    put(stage, "object", x, y, z=0.006)
    stage.hold(1.0)
    assert not stage.verdict.success and ("thrown" in stage.verdict.reason or "dropped" in stage.verdict.reason)


def test_an_object_dropped_into_the_basket_from_above_its_rim_fails(stage: Stage) -> None:
    x, y, _ = stage.state.object_poses["basket"].position

    def over_basket(state: WorldState) -> bool:
        a, b, c = state.object_poses["object"].position
        return num_pressing(state, "object", 0.5) == 2 and abs(a - x) < 0.04 and abs(b - y) < 0.04 and c > 0.08

    stage.expert(TASK, until=over_basket)
    assert over_basket(stage.state)
    let_go(stage)
    stage.hold(1.2)
    assert not stage.verdict.success and ("dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason)


def test_an_object_that_both_still_hold_fails(stage: Stage) -> None:
    stage.expert(TASK, until=both_hold)
    stage.hold(1.0)
    assert not stage.verdict.success and "by itself after both had" in stage.verdict.reason


def test_an_object_pushed_over_the_table_fails(stage: Stage) -> None:
    shove(stage, "object", 0.05)
    assert not stage.verdict.success and ("pushed" in stage.verdict.reason or "slid" in stage.verdict.reason)


def test_a_basket_that_moved_fails(stage: Stage) -> None:
    stage.expert(TASK)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    stage.qpos("basket")[0] += 0.03
    stage.hold(0.1)
    assert not stage.verdict.success and "basket was moved" in stage.verdict.reason
