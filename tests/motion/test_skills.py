"""Laws of hands and skills: goals are met, limits are kept, the other arm stays still, and holding is told from missing."""

import numpy as np
import pytest
from motion_parts import Drive, above

from embodichain.errors import MotionError
from embodichain.motion.hand import HandConfig, Waypoint, moved
from embodichain.motion.plan import joint_path, obstacle_clearance
from embodichain.motion.skills import choose, go_home, grasp, holds, lift, push, reach, retreat, set_opening, wait
from embodichain.types import CONTROL_HZ, Pose
from embodichain.types.poses import angle_between, compose, multiply, turn


def apart(a: Pose, b: Pose) -> float:
    return float(np.linalg.norm(np.subtract(a.position, b.position)))


def test_reach_arrives_and_leaves_the_other_arm_alone(drive: Drive) -> None:
    drive(reach(drive.left, drive.state, above(0.15)))
    state = drive(wait(drive.left, drive.state, 0.3))
    assert apart(drive.left.pose, above(0.15)) < 1e-3
    assert apart(drive.left.measured_pose(state), above(0.15)) < 3e-3
    commands = np.array(drive.commands)
    np.testing.assert_array_equal(commands[:, 7:], np.tile(commands[0, 7:], (len(commands), 1)))
    assert np.abs(state.measured[7:] - commands[0, 7:]).max() < 5e-3


def test_everything_keeps_the_joint_limits(drive: Drive) -> None:
    hand, limits = drive.left, HandConfig().limits
    drive(reach(hand, drive.state, above(0.15)))
    drive(lift(hand, drive.state, 0.05))
    drive(retreat(hand, drive.state, (0.05, -0.05, -0.04)))
    start = hand.pose
    drive(push(hand, drive.state, lambda s: moved(start, (0.0, 0.06 * s, 0.03 * np.sin(np.pi * s))), 0.2))
    drive(go_home(hand, drive.state))
    joints = np.array(drive.commands)[:, :6]
    velocity = np.diff(joints, axis=0) * CONTROL_HZ
    acceleration = np.diff(velocity, axis=0, prepend=0.0, append=0.0) * CONTROL_HZ
    assert np.abs(velocity).max() <= limits.joint_speed * 1.001
    assert np.abs(acceleration).max() <= limits.joint_acceleration * 1.11
    chain = hand.chain
    assert (joints >= chain.lower - 1e-9).all() and (joints <= chain.upper + 1e-9).all()
    assert hand.at_home


def test_a_straight_leg_is_straight(drive: Drive) -> None:
    drive(reach(drive.left, drive.state, above(0.15)))
    start, goal = drive.left.pose, above(0.08, 0.1, 0.05)
    path = drive.left.route([Waypoint(pose=goal)])
    line = np.subtract(goal.position, start.position)
    for joints in path:
        along = np.subtract(drive.left.chain.pose(joints).position, start.position)
        assert np.linalg.norm(along - line * (along @ line) / (line @ line)) < 6e-3
    assert apart(drive.left.chain.pose(path[-1]), goal) < 1e-3


def test_a_sweep_follows_its_curve(drive: Drive) -> None:
    drive(reach(drive.left, drive.state, above(0.15)))
    start = drive.left.pose

    def curve(s: float) -> Pose:
        turned = multiply(start.quaternion, turn((0.0, 0.0, 1.0), 0.5 * s))
        return Pose(position=moved(start, (0.05 * np.sin(2 * s), 0.05 * (1 - np.cos(2 * s)), 0.0)).position, quaternion=turned)

    path = drive.left.sweep(curve, 0.2, drive.left.joints)
    end = drive.left.chain.pose(path[-1])
    assert apart(end, curve(1.0)) < 1e-3 and angle_between(end.quaternion, curve(1.0).quaternion) < 1e-2
    ideal = np.array([curve(s).position for s in np.linspace(0, 1, 400)])
    for joints in path:
        assert np.linalg.norm(ideal - drive.left.chain.pose(joints).position, axis=1).min() < 2e-3


def test_a_grasp_holds_through_a_lift_and_a_miss_is_noticed(drive: Drive) -> None:
    hand = drive.left
    drive(reach(hand, drive.state, above(0.08)))
    drive(push(hand, drive.state, lambda s: above(0.08 - 0.06 * s), 0.2))
    assert holds(hand, drive(grasp(hand, drive.state, "block")), "block")
    state = drive(lift(hand, drive.state, 0.1))
    assert holds(hand, state, "block") and state.object_poses["block"].position[2] > 0.09
    state = drive(set_opening(hand, state, hand.open))
    assert not holds(hand, state, "block")
    state = drive(grasp(hand, state, "block"))
    assert not holds(hand, state, "block") and hand.opening == 0.0


def test_unreachable_and_digging_ways_are_refused(drive: Drive) -> None:
    with pytest.raises(MotionError, match="cannot reach"):
        drive.left.route([Waypoint(pose=above(0.1, 2.0, 0.0), straight=False)])
    with pytest.raises(MotionError):
        drive.left.route([Waypoint(pose=above(0.10), straight=False), Waypoint(pose=above(-0.05))])
    assert drive.left.travel(above(0.1, 2.0, 0.0)) == np.inf > drive.left.travel(above(0.1))


def test_arms_do_not_pass_through_each_other(drive: Drive) -> None:
    drive(reach(drive.left, drive.state, above(0.1, 0.05, 0.0)))
    with pytest.raises(MotionError, match=r"from the left arm|cannot"):
        drive.right.route([Waypoint(pose=above(0.1, 0.05, 0.0), straight=False)])


def test_choosing_another_hand_brings_the_first_one_home(drive: Drive) -> None:
    drive(reach(drive.left, drive.state, above(0.1, 0.05, 0.0)))

    def plan(hands, state):
        if drive.right not in hands:
            raise MotionError("only the right hand will do")
        return "plan"

    chosen = []

    def skill():
        plan_found, state = yield from choose(drive.hands, drive.state, plan)
        chosen.append(plan_found)
        return state

    drive(skill())
    assert chosen == ["plan"] and drive.left.at_home


def test_an_arm_goes_home_round_the_obstacles_it_knows(drive: Drive) -> None:
    hand = drive.left
    drive(reach(hand, drive.state, above(0.14, 0.05, -0.1)))
    direct = joint_path(hand.joints, hand.chain.home, hand.config.limits)
    elbow = hand.chain.pose(direct[len(direct) // 2]).position
    post = np.array([[[elbow[0], elbow[1], 0.0], elbow]]), np.array([0.010])
    assert obstacle_clearance(hand.chain, direct, *post) < 0.0
    taken = len(drive.commands)
    hand.obstacles = post
    drive(go_home(hand, drive.state))
    path = np.array(drive.commands)[taken:, :6]
    assert hand.at_home and obstacle_clearance(hand.chain, path, *post) >= hand.config.obstacle_clearance - 2e-3


def test_an_arm_that_finds_no_way_round_still_goes_home(drive: Drive) -> None:
    hand = drive.left
    drive(reach(hand, drive.state, above(0.14, 0.05, -0.1)))
    x, y, z = hand.chain.pose(hand.chain.home).position
    hand.obstacles = np.array([[[x, y, 0.0], [x, y, z]]]), np.array([0.010])
    drive(go_home(hand, drive.state))
    assert hand.at_home


def test_a_half_turn_of_the_gripper_is_as_good(drive: Drive) -> None:
    turned = compose(above(0.15), Pose(quaternion=turn((0.0, 0.0, 1.0), np.pi)))
    drive(reach(drive.left, drive.state, turned))
    assert apart(drive.left.pose, turned) < 1e-3
