"""place_mouse_pad: its expert succeeds, and its grader sees every drop, throw, push and misplacement."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from staging import Stage

from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.skills import follow
from embodichain.tasks.place_mouse_pad import COLORS, YAW_TOLERANCE, PlaceMousePad, misalignment
from embodichain.types import Pose, Scene, WorldState
from embodichain.types.poses import multiply, turn

TASK = PlaceMousePad()


@pytest.fixture
def scene(sampler) -> Scene:
    return sampler.sample(TASK, 2)


@pytest.fixture
def stage(physics, scene) -> Stage:
    return Stage(physics, scene, TASK.grader(scene))


def mouse(state: WorldState) -> np.ndarray:
    return np.array(state.object_poses["mouse"].position)


def over_pad(height: float) -> Callable[[WorldState], bool]:
    """The mouse is carried at some height above the middle of the named pad."""

    def test(state: WorldState) -> bool:
        away = mouse(state)[:2] - state.object_poses["pad_target"].position[:2]
        return bool(np.linalg.norm(away) < 0.03 and mouse(state)[2] > height)

    return test


def open_hands(stage: Stage) -> None:
    for hand in Hand.all_of(stage.physics.robot, stage.state):
        stage.command = hand.step(opening=hand.open).command
        if not hand.at_home:
            stage.step(stage.command)
            return


@pytest.mark.parametrize("seed", range(5))
def test_the_expert_places_the_mouse(physics, sampler, seed: int) -> None:
    scene = sampler.sample(TASK, seed)
    stage = Stage(physics, scene, TASK.grader(scene))
    state = stage.expert(TASK)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 12.0
    assert misalignment(state.object_poses["mouse"], state.object_poses["pad_target"]) < YAW_TOLERANCE / 2


def test_the_instruction_names_the_colour_of_the_target(sampler) -> None:
    for seed in range(20):
        scene = sampler.sample(TASK, seed)
        named = [color for color in COLORS if color in scene.instruction]
        assert len(named) == 1 and scene.object("pad_target").color == COLORS[named[0]]
        assert scene.object("pad_other").color != COLORS[named[0]]


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(1.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def test_a_dropped_mouse_fails_though_it_ends_on_the_pad(stage: Stage) -> None:
    stage.expert(TASK, until=over_pad(0.05))
    open_hands(stage)
    state = stage.hold(1.5)
    assert state.touching("mouse/", "pad_target/") and not state.touching("mouse/", "robot/")
    assert not stage.verdict.success and "dropped" in stage.verdict.reason


def test_a_thrown_mouse_fails(stage: Stage) -> None:
    stage.expert(TASK, until=lambda state: mouse(state)[2] > 0.06)
    open_hands(stage)
    stage.hold(0.04)
    away = np.array(stage.state.object_poses["pad_target"].position) - mouse(stage.state)
    stage.qvel("mouse")[:3] = (away[0] / 0.25, away[1] / 0.25, 1.0)
    stage.hold(1.5)
    assert not stage.verdict.success and ("thrown" in stage.verdict.reason or "dropped" in stage.verdict.reason)


def test_a_mouse_that_is_simply_on_the_pad_fails(stage: Stage) -> None:
    stage.hold(0.2)
    x, y, _ = stage.state.object_poses["pad_target"].position
    stage.qpos("mouse")[:3] = (x, y, 0.004)
    stage.qpos("mouse")[3:] = stage.state.object_poses["pad_target"].quaternion
    stage.hold(1.0)
    assert not stage.verdict.success


def test_a_mouse_pushed_over_the_table_fails(stage: Stage) -> None:
    """A closed hand shoves the mouse towards the pad; that the expert places it properly afterwards comes too late."""
    x, y, _ = stage.scene.object("mouse").pose.position
    yaw_down = multiply(stage.scene.object("mouse").pose.quaternion, (0.0, 0.0, 1.0, 0.0))
    heading = np.array(stage.state.object_poses["pad_target"].position[:2]) - (x, y)
    heading /= np.linalg.norm(heading)
    behind = Pose(position=(x - 0.085 * heading[0], y - 0.085 * heading[1], 0.02), quaternion=yaw_down)
    hands = Hand.all_of(stage.physics.robot, stage.state)
    hand = min(hands, key=lambda hand: hand.travel(behind))
    raised = moved(behind, (0.0, 0.0, 0.08))
    shove = moved(behind, (0.08 * heading[0], 0.08 * heading[1], 0.0))
    path = hand.route([Waypoint(pose=raised, straight=False), Waypoint(pose=behind), Waypoint(pose=shove)])
    motion = follow(hand, stage.state, np.concatenate([path, hand.route([Waypoint(pose=behind)], path[-1])]), opening=0.0)
    step = next(motion)
    try:
        while True:
            step = motion.send(stage.step(step.command))
    except StopIteration:
        pass
    assert math.dist(mouse(stage.state)[:2], (x, y)) > 0.03
    stage.expert(TASK)
    assert not stage.verdict.success and ("pushed" in stage.verdict.reason or "slid" in stage.verdict.reason)


def test_the_wrong_pad_fails(stage: Stage) -> None:
    roles = {"pad_target": "pad_other", "pad_other": "pad_target"}
    swapped = replace(stage.scene, objects=tuple(replace(o, role=roles.get(o.role, o.role)) for o in stage.scene.objects))
    other = Stage(stage.physics, swapped, TASK.grader(swapped))
    grader = TASK.grader(stage.scene)
    renamed = Renaming(grader, roles)
    other.grader = renamed
    other.expert(TASK)
    verdict = grader.verdict()
    assert not verdict.success and "wrong pad" in verdict.reason


class Renaming:
    """Shows a grader the same events with two roles exchanged."""

    def __init__(self, grader, roles: dict[str, str]) -> None:
        self.grader, self.roles = grader, roles

    def rename(self, name: str) -> str:
        role, slash, body = name.partition("/")
        return self.roles.get(role, role) + slash + body

    def observe(self, state: WorldState) -> None:
        contacts = tuple(replace(c, first=self.rename(c.first), second=self.rename(c.second)) for c in state.contacts)
        poses = {self.roles.get(role, role): pose for role, pose in state.object_poses.items()}
        self.grader.observe(replace(state, contacts=contacts, object_poses=poses))

    def verdict(self):
        return self.grader.verdict()


def test_a_mouse_askew_on_the_pad_fails(stage: Stage) -> None:
    state = stage.expert(TASK)
    assert stage.verdict.success
    pose = state.object_poses["mouse"]
    stage.qpos("mouse")[3:] = multiply(turn((0.0, 0.0, 1.0), math.radians(25.0)), pose.quaternion)
    stage.hold(1.0)
    assert not stage.verdict.success and "turned" in stage.verdict.reason


def test_a_mouse_still_held_fails(stage: Stage) -> None:
    stage.expert(TASK, until=lambda state: state.touching("mouse/", "pad_target/") and state.touching("mouse/", "robot/"))
    stage.hold(1.0)
    assert not stage.verdict.success and "untouched" in stage.verdict.reason


def test_a_mouse_taken_away_after_success_fails(stage: Stage) -> None:
    stage.expert(TASK)
    assert stage.verdict.success
    stage.qvel("mouse")[:3] = (0.0, 0.0, 2.0)
    stage.hold(1.0)
    assert not stage.verdict.success


def test_half_a_turn_is_as_good_and_a_quarter_is_worst() -> None:
    pad = Pose()
    for degrees, error in ((0, 0), (14, 14), (90, 90), (170, 10), (180, 0), (-100, 80)):
        placed = Pose(quaternion=turn((0.0, 0.0, 1.0), math.radians(degrees)))
        assert math.isclose(math.degrees(misalignment(placed, pad)), error, abs_tol=1e-6)
