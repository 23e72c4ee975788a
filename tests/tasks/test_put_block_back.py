"""put_block_back: once the block lies in the middle nothing tells where it stood, and only who remembers puts it back."""

from dataclasses import replace

import numpy as np
import pytest
from scene_parts import COARSE, DOWN, ROBOT, RUBBER, body, box
from staging import Stage
from table_parts import block

from embodichain.motion.hand import HandConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.scenes.reach import ReachTable
from embodichain.scenes.sample import SceneSampler
from embodichain.tasks.put_block_back import MARKS, PutBlockBack, home_of, pressed
from embodichain.types import CHUNK, CONTROL_HZ, Asset, Joint, JointKind, Pose, Scene, Segment
from embodichain.types.poses import angle_between

TASK = PutBlockBack()
HEIGHT, TRAVEL = 0.002, 0.006


def mark() -> Asset:
    return Asset(
        name="mark",
        category="mark",
        bodies=(body("body", box((0.076, 0.076, HEIGHT), (0, 0, HEIGHT / 2)), mass=0.003, material=RUBBER),),
        joints=(Joint(name="mount", kind=JointKind.FIXED, parent="", child="body"),),
        affordances={
            "top": ("body", Pose(position=(0.0, 0.0, HEIGHT))),
            "center": ("body", Pose(position=(0.0, 0.0, HEIGHT), quaternion=DOWN)),
        },
        content_hash="mark",
    )


def panel() -> Asset:
    button = body("button_0", box((0.022, 0.022, 0.012), (0, 0, 0.006)), mass=0.008, pose=Pose(position=(0.0, 0.0, 0.027)))
    spring = {"lower": -TRAVEL, "upper": 0.0, "damping": 2.0, "stiffness": 250.0, "rest": 0.004}
    return Asset(
        name="panel",
        category="button_panel",
        bodies=(body("base", box((0.08, 0.06, 0.02), (0, 0, 0.01)), mass=0.1), button),
        joints=(
            Joint(name="mount", kind=JointKind.FIXED, parent="", child="base"),
            Joint(name="button_0", kind=JointKind.PRISMATIC, parent="base", child="button_0", **spring),
        ),
        affordances={"button_0": ("button_0", Pose(position=(0.0, 0.0, 0.012), quaternion=DOWN))},
        content_hash="panel",
    )


@pytest.fixture(scope="module")
def sampler(reach_dir):
    return SceneSampler(ROBOT, [block(0.042), mark(), panel()], ReachTable.load_or_build(ROBOT, COARSE, cache_dir=reach_dir))


@pytest.fixture(scope="module")
def scene(sampler) -> Scene:
    return sampler.sample(TASK, 1)


def from_mark(scene: Scene, role: str) -> Scene:
    """The same scene, but for the mark on which the block stands at first."""
    block, (x, y, _) = scene.object("block"), scene.object(role).pose.position
    pose = Pose(position=(x, y, block.pose.position[2]), quaternion=block.pose.quaternion)
    return replace(scene, objects=tuple(replace(o, pose=pose) if o.role == "block" else o for o in scene.objects))


def is_hidden(stage: Stage):
    """Whether the button was pressed and every arm is home again: from here on only memory tells."""
    seen = {"pressed": False}

    def now(state) -> bool:
        seen["pressed"] |= pressed(stage.scene, state) > 0.5
        return seen["pressed"] and bool(np.allclose(stage.command, stage.commands[0], atol=1e-3))

    return now


def test_every_mark_is_drawn_as_often_and_words_tell_none(sampler) -> None:
    drawn = [sampler.sample(TASK, seed) for seed in range(80)]
    homes = [home_of(scene) for scene in drawn]
    assert all(8 <= homes.count(role) <= 36 for role in MARKS)
    for words in {scene.instruction for scene in drawn}:
        assert len({home for home, scene in zip(homes, drawn, strict=True) if scene.instruction == words}) == 4


@pytest.mark.parametrize("role", MARKS)
def test_the_expert_puts_the_block_back_more_than_twenty_frames_after_it_left(physics, scene, role: str) -> None:
    case = from_mark(scene, role)
    stage = Stage(physics, case, TASK.grader(case))
    arrived = []
    middle = np.array(case.object("middle").pose.position[:2])

    def watch(state) -> bool:
        there = np.linalg.norm(np.array(state.object_poses["block"].position[:2]) - middle) < 0.01
        if there and not state.touching("robot/", "block/"):
            arrived.append(state.time_s)
        return False

    state = stage.expert(TASK, until=watch)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 21.0
    assert (max(arrived) - min(arrived)) * CONTROL_HZ / CHUNK > 20.0, "so many frames show the block in the middle"
    speed, acceleration = stage.peaks
    limits = HandConfig().limits
    assert speed <= 1.001 * limits.joint_speed and acceleration <= 1.11 * limits.joint_acceleration


def test_whoever_forgets_is_at_chance_for_all_four_look_alike_and_ask_for_different_ends(physics, scene) -> None:
    cases = [from_mark(scene, role) for role in MARKS]
    seen = []
    for case in cases:
        stage = Stage(physics, case, TASK.grader(case))
        stage.expert(TASK, until=is_hidden(stage))
        seen.append((stage.state.object_poses["block"], stage.state.measured.copy()))
    for pose, measured in seen[1:]:
        np.testing.assert_allclose(pose.position, seen[0][0].position, atol=0.002)
        turned = angle_between(pose.quaternion, seen[0][0].quaternion)
        assert min(turned, np.pi - turned) < np.radians(2.0), "a block looks the same after half a turn"
        np.testing.assert_allclose(measured, seen[0][1], atol=2e-3)
    right = np.zeros((4, 4), bool)
    for i, case in enumerate(cases):
        for j, believed in enumerate(cases):
            stage = Stage(physics, case, TASK.grader(case))
            stage.expert(TASK, until=is_hidden(stage))
            stage.expert(TASK, scene=believed)
            stage.hold(0.6)
            right[i, j] = stage.verdict.success
            assert right[i, j] or "it had stood on" in stage.verdict.reason
    assert (right == np.eye(4, dtype=bool)).all()


def test_whoever_tries_every_mark_or_presses_nothing_fails(physics, scene) -> None:
    home = home_of(scene)
    others = [role for role in MARKS if role != home]
    stage = Stage(physics, scene, TASK.grader(scene))
    stage.expert(TASK, until=is_hidden(stage))
    for role in (others[0], home):
        stage.expert(TASK, scene=from_mark(scene, role))
    stage.hold(0.6)
    assert not stage.verdict.success and f"put on {others[0]}" in stage.verdict.reason
    lame = replace(panel(), joints=(panel().joints[0], replace(panel().joints[1], friction=60.0)))
    stuck = replace(scene, objects=tuple(replace(o, asset=lame) if o.role == "button" else o for o in scene.objects))
    stage = Stage(physics, stuck, TASK.grader(stuck))
    stage.expert(TASK)
    assert "no button was pressed" in stage.verdict.reason or "pressed on the panel" in stage.verdict.reason


def test_doing_nothing_fails_and_a_button_comes_out_again_by_its_spring(physics, scene) -> None:
    stage = Stage(physics, scene, TASK.grader(scene))
    stage.hold(1.0)
    assert stage.verdict.reason == "the block was not set down in the middle" and pressed(scene, stage.state) < 0.05
    stage.qpos("button")[:] = -TRAVEL
    stage.hold(0.5)
    assert pressed(scene, stage.state) < 0.05


@pytest.mark.slow
def test_a_missed_block_is_tried_again(physics, scene) -> None:
    task = PutBlockBack(RecoveryConfig(probability=1.0, kinds=MISALIGNED))
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task)
    stage.hold(0.6)
    assert stage.verdict.success, stage.verdict.reason
    assert {Segment.FAILURE, Segment.RECOVERY} <= set(stage.segments)
