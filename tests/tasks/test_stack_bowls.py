"""stack_bowls: its expert nests two and three bowls, and its grader sees every stack that was not built by careful hands."""

import numpy as np
import pytest
from bowl_parts import bowl
from staging import Stage
from table_parts import carried, let_go, put, sampler_of, shove, throw

from embodichain.motion.hand import HandConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks.stack_bowls import StackBowls, nested_height
from embodichain.types import Segment

TASK = StackBowls(numbers=(2,))


@pytest.fixture(scope="module")
def bowls(reach_dir):
    return sampler_of([bowl(0.066), bowl(0.068)], reach_dir)


@pytest.fixture
def stage(physics, bowls) -> Stage:
    scene = bowls.sample(TASK, 1)
    return Stage(physics, scene, TASK.grader(scene))


def teleport(stage: Stage, upper: str = "bowl2", lower: str = "bowl1", *, aside: float = 0.0) -> None:
    """One bowl is suddenly in the other."""
    x, y, z = stage.state.object_poses[lower].position
    height = nested_height(stage.scene.object(lower).asset, stage.scene.object(upper).asset)
    put(stage, upper, x + aside, y, z=z + height + 0.001)


@pytest.mark.parametrize(("number", "seed"), [(2, 0), pytest.param(3, 1, marks=pytest.mark.slow)])
def test_the_expert_stacks_the_bowls_within_all_limits(physics, bowls, number: int, seed: int) -> None:
    task = StackBowls(numbers=(number,))
    scene = bowls.sample(task, seed)
    assert len(scene.objects) == number
    stage = Stage(physics, scene, task.grader(scene))
    state = stage.expert(task)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 15.0
    limits = HandConfig().limits
    speed, acceleration = stage.peaks
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration


def test_a_missed_bowl_is_tried_again(physics, bowls) -> None:
    task = StackBowls(RecoveryConfig(probability=1.0, kinds=MISALIGNED), numbers=(2,))
    scene = bowls.sample(task, 1)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)


def test_nesting_heights_are_where_physics_stops_a_bowl(stage: Stage) -> None:
    teleport(stage)
    stage.hold(1.0)
    (_, _, low), (_, _, high) = (stage.state.object_poses[role].position for role in ("bowl1", "bowl2"))
    expected = nested_height(stage.scene.object("bowl1").asset, stage.scene.object("bowl2").asset)
    assert high - low == pytest.approx(expected, abs=0.003)


def test_held_out_scenes_use_other_words_and_more_room() -> None:
    requests = [[StackBowls(held_out=held).request(np.random.default_rng(seed)) for seed in range(40)] for held in (False, True)]
    ours, theirs = ({request.instruction for request in some} for some in requests)
    assert len(ours) >= 4 and len(theirs) >= 2 and not ours & theirs
    assert requests[1][0].objects[0].x[1] > requests[0][0].objects[0].x[1]


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(1.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def test_a_stack_that_nobody_built_fails(stage: Stage) -> None:
    teleport(stage)
    stage.hold(1.0)
    assert not stage.verdict.success


def lifted(stage: Stage) -> str:
    """The expert works until one bowl is up in the air: its role."""
    stage.expert(TASK, until=lambda state: any(carried(role, 0.05)(state) for role in ("bowl1", "bowl2")))
    return next(role for role in ("bowl1", "bowl2") if carried(role, 0.05)(stage.state))


def test_a_dropped_bowl_fails_though_it_falls_into_the_other(stage: Stage) -> None:
    role = lifted(stage)
    let_go(stage)
    stage.hold(0.5)
    assert "dropped" in stage.verdict.reason or "thrown" in stage.verdict.reason
    other = "bowl1" if role == "bowl2" else "bowl2"
    teleport(stage, role, other)
    stage.hold(0.6)
    assert not stage.verdict.success


def test_a_thrown_bowl_fails(physics, stage: Stage) -> None:
    role = lifted(stage)
    again = Stage(physics, stage.scene, TASK.grader(stage.scene))
    throw(again, TASK, role, 0.05)
    assert not again.verdict.success and ("thrown" in again.verdict.reason or "dropped" in again.verdict.reason)


def test_a_bowl_pushed_over_the_table_fails(stage: Stage) -> None:
    shove(stage, "bowl2", 0.085, distance=0.09)
    assert not stage.verdict.success and any(word in stage.verdict.reason for word in ("pushed", "slid", "dropped"))


def test_bowls_side_by_side_fail(stage: Stage) -> None:
    role = lifted(stage)
    stage.hold(0.2)
    assert not stage.verdict.success and role


def test_a_bowl_taken_out_after_success_fails(stage: Stage) -> None:
    stage.expert(TASK)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    upper = max(("bowl1", "bowl2"), key=lambda role: stage.state.object_poses[role].position[2])
    stage.qvel(upper)[:3] = (0.2, 0.0, 2.0)
    stage.hold(1.0)
    assert not stage.verdict.success
