"""Laws of handling and handing over: grips leave a way onward, ways keep their floor, and what is passed on is never let go of."""

import itertools

import numpy as np
import pytest
from motion_parts import EDGE, SCENE, Drive, above, block

from embodichain.errors import MotionError
from embodichain.motion.hand import Hand, Waypoint
from embodichain.motion.handling import box_grips, from_above, landings, object_pose, over, pick, set_down, tip_from_object
from embodichain.motion.handover import HandoverConfig, meetings, pick_and_pass
from embodichain.motion.outlines import outline_of
from embodichain.motion.plan import arms_clearance, obstacle_clearance
from embodichain.motion.skills import holds, together, wait
from embodichain.types import Pose
from embodichain.types.poses import angle_between, compose, inverse, turned

GOAL = (0.05, 0.02, 0.0)
BLOCK = block()


def ending(drive: Drive, skill):
    """What a skill returns besides the state."""
    found = []

    def run():
        *rest, state = yield from skill
        found.extend(rest)
        return state

    state = drive(run())
    return (*found, state)


def test_box_grips_close_on_every_pair_of_faces_from_every_side() -> None:
    grips = box_grips(BLOCK)
    assert len(grips) == 12
    seen = set()
    for grip in grips:
        approach, closing = (np.round(turned(grip.quaternion, axis)).astype(int) for axis in ((0, 0, 1), (0, 1, 0)))
        assert approach @ closing == 0 and grip.position == pytest.approx((0.0, 0.0, EDGE / 2))
        seen.add((tuple(approach.tolist()), tuple(np.abs(closing).tolist())))
    assert len(seen) == 12
    assert len(from_above(Pose(), grips)) == 2


def test_landings_touch_the_ground_with_the_hand_straight_up() -> None:
    for grip in box_grips(BLOCK):
        for placed in landings(BLOCK, inverse(grip), GOAL, 4):
            assert outline_of(BLOCK, placed).bottom == pytest.approx(GOAL[2], abs=1e-9)
            assert turned(compose(placed, grip).quaternion, (0.0, 0.0, 1.0))[2] == pytest.approx(-1.0)


def test_an_object_is_picked_and_set_down_where_it_should_be(drive: Drive) -> None:
    scene, grips = SCENE, from_above(object_pose(SCENE, drive.state, "block"), box_grips(BLOCK))

    def onward(hand, start, held):
        return over(hand, start, held, BLOCK, landings(BLOCK, held, GOAL), (0.05,), floor=0.03)

    problem, hand, state = ending(drive, pick(drive.hands, scene, drive.state, "block", grips, onward, lift=0.06))
    assert not problem and holds(hand, state, "block")
    way, goal = onward(hand, hand.joints, tip_from_object(hand, scene, state, "block"))

    def carry():
        for joints in way:
            state = yield hand.step(joints)
        return (yield from set_down(hand, scene, state, "block", goal, "table"))

    state = drive(carry())
    assert not holds(hand, state, "block")
    assert np.linalg.norm(np.subtract(state.object_poses["block"].position, GOAL)) < 0.006


def test_a_grip_that_leads_nowhere_is_passed_over_and_none_is_an_error(drive: Drive) -> None:
    grips = from_above(object_pose(SCENE, drive.state, "block"), box_grips(BLOCK))

    def nowhere(hand, start, held):
        raise MotionError("there is nowhere to go")

    with pytest.raises(MotionError, match="nowhere to go"):
        drive(pick(drive.hands, SCENE, drive.state, "block", grips, nowhere, lift=0.06))


def test_an_object_changes_hands_in_the_air(drive: Drive) -> None:
    left, right = drive.hands
    grips = box_grips(BLOCK)
    down = from_above(object_pose(SCENE, drive.state, "block"), grips)

    def onward(hand, start, held):
        return over(hand, start, held, BLOCK, landings(BLOCK, held, (0.05, -0.12, 0.0)), (0.05,))

    problem, _, state = ending(drive, pick_and_pass(left, right, SCENE, drive.state, "block", (down, grips), onward, lift=0.06))
    assert not problem
    assert holds(right, state, "block") and not holds(left, state, "block") and left.at_home
    assert state.object_poses["block"].position[2] > 0.03


def test_meetings_are_where_both_arms_hold_the_same_block_clear_of_each_other(drive: Drive) -> None:
    left, right = drive.hands
    grips = box_grips(BLOCK)
    held = inverse(from_above(Pose(), grips)[0])
    found = list(itertools.islice(meetings(left, right, held, grips, HandoverConfig()), 3))
    assert len(found) == 3
    for meeting in found:
        world_from_block = compose(left.chain.pose(meeting.giver), held)
        take = right.chain.pose(meeting.receiver)
        expected = compose(world_from_block, meeting.grip)
        assert np.linalg.norm(np.subtract(take.position, expected.position)) < 1e-3
        half_turn = min(angle_between(take.quaternion, q) for q in (expected.quaternion, _turned(expected)))
        assert half_turn < 5e-3
        assert arms_clearance(left.chain, meeting.giver, right.chain, meeting.receiver) >= left.config.meeting_clearance


def _turned(pose: Pose):
    return compose(pose, Pose(quaternion=(0.0, 0.0, 0.0, 1.0))).quaternion


def test_an_exact_pose_is_not_met_by_half_a_turn(drive: Drive) -> None:
    for exact in (True, False):
        for straight in (True, False):
            start = drive.left.route([Waypoint(pose=above(0.15), straight=False, exact=True)])[-1]
            other = compose(above(0.12), Pose(quaternion=(0.0, 0.0, 0.0, 1.0)))
            try:
                end = drive.left.chain.pose(drive.left.route([Waypoint(pose=other, straight=straight, exact=exact)], start)[-1])
            except MotionError:
                assert exact  # no arm turns its wrist by half a turn everywhere
                continue
            assert (angle_between(end.quaternion, other.quaternion) < 1e-2) or not exact


def test_obstacles_are_kept_clear_of(drive: Drive) -> None:
    goal = above(0.10)
    post = np.array([[[0.05, 0.1, 0.0], [0.05, 0.1, 0.3]]]), np.array([0.01])
    path = drive.left.route([Waypoint(pose=goal, straight=False)])
    assert obstacle_clearance(drive.left.chain, path, *post) < 0.0
    drive.left.obstacles = post
    with pytest.raises(MotionError, match="obstacle"):
        drive.left.route([Waypoint(pose=goal, straight=False)])


def test_an_imagined_hand_plans_without_moving_the_real_one(drive: Drive) -> None:
    left, right = drive.hands
    before = left.joints.copy()
    away = left.chain.home + 0.1
    twin = right.imagined((left, away), joints=right.chain.home + 0.05)
    np.testing.assert_allclose(twin.joints, right.chain.home + 0.05)
    np.testing.assert_array_equal(left.joints, before)
    assert isinstance(twin, Hand) and twin.name == right.name


def test_hands_that_move_together_end_with_the_slower_one(drive: Drive) -> None:
    left, right = drive.hands
    begun = drive.state.time_s
    state = drive(together(drive.state, wait(left, drive.state, 0.2), wait(right, drive.state, 0.5), wait(left, drive.state, 0.0)))
    assert state.time_s - begun == pytest.approx(0.5, abs=0.03)
