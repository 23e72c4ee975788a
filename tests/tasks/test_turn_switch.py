"""turn_switch: its expert succeeds, and its grader believes nothing but contact."""

from dataclasses import replace

import numpy as np
import pytest
from staging import Stage

from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, Waypoint
from embodichain.motion.skills import follow
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks.turn_switch import THRESHOLD, TurnSwitch, wanted_side
from embodichain.types import CHUNK, Mishap, Pose, Scene, Segment
from embodichain.types.poses import turned

TASK = TurnSwitch()


@pytest.fixture
def scene(sampler) -> Scene:
    return sampler.sample(TASK, 1)


@pytest.fixture
def stage(physics, scene) -> Stage:
    return Stage(physics, scene, TASK.grader(scene))


def over(stage: Stage):
    side = wanted_side(stage.scene)
    return lambda state: state.object_joints["switch"][0] * side > THRESHOLD + 0.05


@pytest.mark.parametrize("seed", range(6))
def test_the_expert_turns_the_lever_and_lets_go(physics, sampler, seed: int) -> None:
    scene = sampler.sample(TASK, seed)
    stage = Stage(physics, scene, TASK.grader(scene))
    state = stage.expert(TASK)
    assert stage.verdict.success, stage.verdict.reason
    assert state.time_s <= 6.0


@pytest.mark.parametrize("seed", range(4))
def test_a_hand_that_goes_astray_comes_back_the_short_way_when_the_next_frame_is_seen(physics, sampler, seed: int) -> None:
    config = RecoveryConfig(
        probability=1.0, astray=1.0, astray_again=1.0, max_attempts=4, stray_aside=0.07, stray_above=(0.0, 0.08), kinds=MISALIGNED
    )
    task = TurnSwitch(config)
    scene = sampler.sample(task, seed)
    stage = Stage(physics, scene, task.grader(scene))
    stage.expert(task, seed=seed)
    assert stage.verdict.success, stage.verdict.reason
    assert stage.mishaps == [Mishap.ASTRAY] * 3
    labels = np.array([Segment.NOMINAL, *stage.segments])
    begins = np.flatnonzero(labels[1:] != labels[:-1])
    kinds = labels[1:][begins].tolist()
    assert kinds == [Segment.FAILURE, Segment.RECOVERY] * 3, "the way to the lever is no failure, what strays from it is"
    assert not (begins[1::2] % CHUNK).any(), "the way back is seen from its beginning"
    hands = Hand.all_of(physics.robot, physics.reset(scene))
    for away, back, onward in zip(begins[::2], begins[1::2], [*begins[2::2], None], strict=True):
        tips = [np.array([hand.chain.pose(hand.joints_in(c)).position for c in stage.commands[away:onward]]) for hand in hands]
        path = max(tips, key=lambda tip: float(np.ptp(tip, axis=0).sum()))
        behind, astray, way = path[0], path[back - away], path[back - away :]
        assert 0.005 < np.linalg.norm(astray - behind) < 0.13
        near = way[: 1 + int(np.argmin(np.linalg.norm(way - behind, axis=1)))]
        assert np.linalg.norm(near[-1] - behind) < 0.004, "it comes back to where it strayed from"
        if astray[2] - behind[2] < 0.03:
            assert near[:, 2].max() < max(astray[2], behind[2]) + 0.005, "and does not rise for it"


def test_the_knob_is_where_physics_has_it(physics, sampler) -> None:
    for seed in range(4):
        scene = sampler.sample(TASK, seed)
        physics.reset(scene)
        placed = scene.object("switch")
        model, data = physics.world.model, physics.world.data
        lever = model.body("switch/lever").id
        local = np.array(placed.asset.affordances["lever_tip"][1].position)
        expected = data.xpos[lever] + data.xmat[lever].reshape(3, 3) @ local
        knob = affordance(placed.asset, "lever_tip", placed.pose, placed.joint_positions)
        np.testing.assert_allclose(knob.position, expected, atol=1e-9)


def test_instructions_and_starting_side_agree(sampler) -> None:
    words = set()
    for seed in range(30):
        scene = sampler.sample(TASK, seed)
        word = scene.instruction.rstrip(".").replace(" position", "").split()
        assert ("on" in word) == (wanted_side(scene) > 0) and ("off" in word) == (wanted_side(scene) < 0)
        words.add(scene.instruction)
    assert len(words) == 8


def test_a_robot_that_does_nothing_fails(stage: Stage) -> None:
    stage.hold(2.0)
    assert not stage.verdict.success and "never touched" in stage.verdict.reason and stage.verdict.progress == 0.0


def test_a_lever_flicked_by_nobody_fails(stage: Stage) -> None:
    stage.hold(0.2)
    stage.qvel("switch")[:] = 60.0 * wanted_side(stage.scene)
    state = stage.hold(1.5)
    assert over(stage)(state)
    assert not stage.verdict.success and "without the robot touching" in stage.verdict.reason


def test_a_lever_that_is_simply_elsewhere_fails(stage: Stage) -> None:
    stage.hold(0.2)
    stage.qpos("switch")[:] = 0.45 * wanted_side(stage.scene)
    stage.hold(1.5)
    assert not stage.verdict.success and "without the robot touching" in stage.verdict.reason


def test_a_lever_that_jumps_over_after_an_honest_touch_fails(stage: Stage) -> None:
    stage.expert(TASK, until=lambda state: state.touching("robot/", "switch/lever"))
    stage.hold(0.6)
    first = stage.state.object_joints["switch"][0]
    assert first * wanted_side(stage.scene) < 0
    hand = next(hand for hand in Hand.all_of(stage.physics.robot, stage.state) if not hand.at_home)
    for joints in hand.shift((0.0, 0.0, 0.08)):
        stage.step(hand.step(joints).command)
    stage.hold(0.3)
    stage.qpos("switch")[:] = 0.45 * wanted_side(stage.scene)
    stage.hold(1.0)
    assert not stage.verdict.success and "without the robot touching" in stage.verdict.reason


def test_a_robot_that_does_not_let_go_fails(stage: Stage) -> None:
    stage.expert(TASK, until=lambda state: over(stage)(state) and state.touching("robot/", "switch/lever"))
    hand_off = stage.command.copy()
    for _ in range(60):
        stage.step(hand_off)
    assert over(stage)(stage.state) and stage.state.touching("robot/", "switch/lever")
    assert not stage.verdict.success and "left alone" in stage.verdict.reason


def test_a_lever_left_short_of_its_threshold_fails(stage: Stage) -> None:
    stage.expert(TASK, until=lambda state: abs(state.object_joints["switch"][0]) < 0.1)
    stage.hold(1.0)
    assert not stage.verdict.success and "not over its threshold" in stage.verdict.reason
    assert 0.2 < stage.verdict.progress < 0.9


def test_a_lever_turned_back_again_fails(stage: Stage) -> None:
    stage.expert(TASK)
    assert stage.verdict.success
    placement = stage.scene.object("switch")
    opposite = replace(placement, joint_positions=(-placement.joint_positions[0],))
    stage.expert(TASK, scene=replace(stage.scene, objects=(opposite,)))
    assert not stage.verdict.success and "not over its threshold" in stage.verdict.reason


def press_at(stage: Stage, offset: tuple[float, float, float]) -> None:
    """A closed hand comes down on a point of the switch, as far as it can, and goes up again."""
    placement = stage.scene.object("switch")
    dx, dy, dz = turned(placement.pose.quaternion, offset)
    x, y, _ = placement.pose.position
    above, onto = (Pose(position=(x + dx, y + dy, dz + up), quaternion=(0.0, 1.0, 0.0, 0.0)) for up in (0.08, 0.0))
    hand = min(Hand.all_of(stage.physics.robot, stage.state), key=lambda hand: hand.travel(above))
    path = hand.route([Waypoint(pose=above, straight=False), Waypoint(pose=onto), Waypoint(pose=above)])
    motion = follow(hand, stage.state, path, opening=0.0)
    step = next(motion)
    try:
        while True:
            step = motion.send(stage.step(step.command))
    except StopIteration:
        pass


def test_pressing_on_the_housing_fails(stage: Stage) -> None:
    press_at(stage, (0.042 * wanted_side(stage.scene), 0.0, 0.02))
    stage.expert(TASK)
    assert not stage.verdict.success and "pressed on the housing" in stage.verdict.reason


def test_crushing_the_lever_fails(stage: Stage) -> None:
    press_at(stage, (-0.03 * wanted_side(stage.scene), 0.0, 0.06))
    stage.expert(TASK)
    assert not stage.verdict.success and "pressed on the lever" in stage.verdict.reason


def test_a_switch_that_moves_as_a_whole_fails(physics, scene) -> None:
    grader = TASK.grader(scene)
    stage = Stage(physics, scene, grader)
    stage.expert(TASK)
    assert grader.verdict().success
    pose = stage.state.object_poses["switch"]
    moved = replace(pose, position=(pose.position[0] + 0.01, *pose.position[1:]))
    grader.observe(replace(stage.state, object_poses={"switch": moved}))
    assert not grader.verdict().success and "housing moved" in grader.verdict().reason


def test_the_same_seed_gives_the_same_commands(physics, sampler) -> None:
    runs = []
    for _ in range(2):
        scene = sampler.sample(TASK, 5)
        stage = Stage(physics, scene, TASK.grader(scene))
        stage.expert(TASK)
        runs.append((stage.command, stage.state.object_joints["switch"]))
        other = Stage(physics, sampler.sample(TASK, 6), TASK.grader(scene))
        other.hold(0.1)
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
