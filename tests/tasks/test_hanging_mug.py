"""hanging_mug: its expert hangs the mug by its handle, and its grader sees every mug that does not hang or was not hung."""

import numpy as np
import pytest
from mug_parts import mug, rack
from staging import Stage
from table_parts import carried, drop, let_go, put, sampler_of, shove, throw

from embodichain.errors import MotionError
from embodichain.motion.frames import affordance
from embodichain.motion.hand import HandConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks import hanging_mug
from embodichain.tasks.hanging_mug import HangingMug, threaded
from embodichain.types import Pose, Segment, WorldState
from embodichain.types.poses import compose, inverse, turn, turned

TASK = HangingMug()


@pytest.fixture(scope="module")
def things(reach_dir):
    return sampler_of([mug(), rack()], reach_dir)


@pytest.fixture
def stage(physics, things) -> Stage:
    scene = things.sample(TASK, 1)
    return Stage(physics, scene, TASK.grader(scene))


def hung_pose(stage: Stage, branch: int = 0) -> Pose:
    """Where the mug would hang on a branch, its mouth tilted up a little."""
    scene = stage.scene
    seat = affordance(scene.object("rack").asset, f"seat_{branch}", stage.state.object_poses["rack"])
    loop = affordance(scene.object("mug").asset, "hang_loop", Pose())
    return compose(compose(seat, Pose(quaternion=turn((0.0, 0.0, 1.0), 0.2))), inverse(loop))


def hang(stage: Stage) -> None:
    """The mug is suddenly on a branch."""
    pose = hung_pose(stage)
    stage.qpos("mug")[:3] = pose.position
    stage.qpos("mug")[3:] = pose.quaternion
    stage.qvel("mug")[:] = 0.0
    stage.hold(3.0)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_the_expert_hangs_the_mug_within_all_limits(physics, things, seed: int) -> None:
    scene = things.sample(TASK, seed)
    stage = Stage(physics, scene, TASK.grader(scene))
    state = stage.expert(TASK)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 15.4
    limits = HandConfig().limits
    speed, acceleration = stage.peaks
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration


@pytest.mark.slow
def test_a_missed_mug_is_tried_again(physics, things) -> None:
    task = HangingMug(RecoveryConfig(probability=1.0, kinds=MISALIGNED))
    scene = things.sample(task, 1)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)


@pytest.mark.slow
def test_a_mug_that_no_way_leads_on_with_once_it_is_held_is_put_back(physics, things, monkeypatch) -> None:
    scene = things.sample(TASK, 1)
    stage, over, carried_off = Stage(physics, scene, TASK.grader(scene)), hanging_mug.over, []

    def nowhere(*_):
        raise MotionError("no branch can be reached")

    def only_before_it_is_held(*arguments, **more):
        if stage.state.object_poses["mug"].position[2] > 0.02:
            carried_off.append(stage.state.time_s)
            raise MotionError("no way on")
        return over(*arguments, **more)

    monkeypatch.setattr(hanging_mug, "_plan", nowhere)
    monkeypatch.setattr(hanging_mug, "over", only_before_it_is_held)
    state = stage.expert(TASK)
    assert carried_off and stage.mishaps
    assert state.touching("mug/", "table") and not state.touching("mug/", "robot/")
    assert abs(turned(state.object_poses["mug"].quaternion, (0.0, 0.0, 1.0))[2] - 1.0) < 1e-3


def test_held_out_scenes_use_other_words_and_more_room() -> None:
    requests = [[HangingMug(held_out=held).request(np.random.default_rng(seed)) for seed in range(40)] for held in (False, True)]
    ours, theirs = ({request.instruction for request in some} for some in requests)
    assert len(ours) == 4 and len(theirs) == 2 and not ours & theirs
    assert requests[1][0].objects[1].x[1] > requests[0][0].objects[1].x[1]


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(1.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def test_a_mug_that_nobody_hung_fails_though_it_hangs(stage: Stage) -> None:
    hang(stage)
    assert threaded(stage.scene, stage.state) and stage.state.touching("mug/", "rack/")
    assert not stage.verdict.success


def test_a_mug_hung_by_no_hand_after_an_honest_lift_fails(stage: Stage) -> None:
    stage.expert(TASK, until=carried("mug", 0.07))
    let_go(stage)
    stage.hold(0.1)
    hang(stage)
    assert not stage.verdict.success


def test_a_dropped_mug_fails(stage: Stage) -> None:
    drop(stage, TASK, "mug", 0.06)
    assert any(word in stage.verdict.reason for word in ("dropped", "thrown", "let go"))


def test_a_mug_thrown_at_the_rack_fails(stage: Stage) -> None:
    throw(stage, TASK, "mug", 0.07)
    assert not stage.verdict.success and any(word in stage.verdict.reason for word in ("dropped", "thrown", "let go"))


def test_a_mug_let_go_of_before_the_branch_fails_though_it_hangs_later(stage: Stage) -> None:
    x, y, _ = stage.state.object_poses["rack"].position

    def near(state: WorldState) -> bool:
        a, b, c = state.object_poses["mug"].position
        return c > 0.09 and np.hypot(a - x, b - y) < 0.16 and not threaded(stage.scene, state)

    stage.expert(TASK, until=near)
    assert near(stage.state)
    let_go(stage)
    stage.hold(0.1)
    hang(stage)
    assert not stage.verdict.success


def test_a_mug_standing_under_the_rack_fails(stage: Stage) -> None:
    stage.expert(TASK, until=carried("mug", 0.07))
    let_go(stage)
    x, y, _ = stage.state.object_poses["rack"].position
    put(stage, "mug", x, y + 0.15)
    stage.hold(1.2)
    assert not stage.verdict.success


def test_a_mug_still_held_on_the_branch_fails(stage: Stage) -> None:
    stage.expert(TASK, until=lambda state: state.touching("mug/", "rack/") and threaded(stage.scene, state))
    stage.hold(2.0)
    assert not stage.verdict.success and "untouched" in stage.verdict.reason


def test_a_mug_pushed_over_the_table_fails(stage: Stage) -> None:
    shove(stage, "mug", 0.06, distance=0.09)
    stage.hold(0.3)
    assert not stage.verdict.success and any(
        word in stage.verdict.reason for word in ("pushed", "slid", "dropped", "thrown", "let go")
    )


def test_a_mug_lifted_off_and_a_rack_moved_after_success_fail(stage: Stage) -> None:
    stage.expert(TASK)
    assert stage.verdict.success, stage.verdict.reason
    stage.qpos("rack")[0] += 0.04
    stage.qpos("mug")[0] += 0.04
    stage.hold(0.1)
    assert not stage.verdict.success and "rack was moved" in stage.verdict.reason
