"""Laws of pouring: hands take vessels from the side past others, and a tilting vessel keeps its lip over the mouth below."""

import math
from dataclasses import replace

import numpy as np
import pytest
from motion_parts import ROBOT

from embodichain.errors import MotionError
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.plan import obstacle_clearance, overrun
from embodichain.motion.pour import PourConfig, Standing, Taking, plan_pour, takings
from embodichain.types import WorldState
from embodichain.types.poses import compose, turned, yaw_pose

CONFIG = PourConfig()


def standing(role: str, x: float, y: float, height: float, lip: float) -> Standing:
    return Standing(role=role, pose=yaw_pose(x, y, 0.0, 0.4), radius=0.028, height=height, grip=0.37 * height, lip=lip)


BOTTLE, CUP = standing("bottle", -0.02, 0.18, 0.145, 0.023), standing("cup", 0.02, -0.06, 0.085, 0.027)
RAISE = 0.08
RIM = CUP.height + RAISE


@pytest.fixture(scope="module")
def hands() -> tuple[Hand, ...]:
    still = WorldState(time_s=0.0, measured=ROBOT.home.copy(), object_poses={}, object_velocities={}, object_joints={}, contacts=())
    return Hand.all_of(ROBOT, still)


@pytest.fixture(scope="module")
def taken(hands) -> tuple[Taking, Taking]:
    left, right = hands
    return next(takings(left, BOTTLE, (CUP,))), next(takings(right, CUP, (BOTTLE,)))


def test_a_taking_ends_on_the_axis_from_the_side_and_passes_the_other_vessel(hands, taken) -> None:
    for hand, taking, vessel, other in zip(hands, taken, (BOTTLE, CUP), (CUP, BOTTLE), strict=True):
        tip = hand.chain.pose(taking.descent[-1])
        np.testing.assert_allclose(tip.position, (*vessel.pose.position[:2], vessel.grip), atol=5e-4)
        below = math.degrees(math.asin(-turned(tip.quaternion, (0.0, 0.0, 1.0))[2]))
        assert 10.0 < below < 30.0
        assert abs(turned(tip.quaternion, (0.0, 1.0, 0.0))[2]) < 0.01  # fingers close in the horizontal
        assert overrun(hand.joints, taking.approach, hand.config.limits) <= 1.01
        ends, radius = other.capsule()
        assert obstacle_clearance(hand.chain, taking.path, ends[None], np.array([radius])) > 0.005
        held = compose(tip, taking.held)
        np.testing.assert_allclose(held.position, vessel.pose.position, atol=1e-9)


def test_the_lip_stays_over_the_mouth_while_the_vessel_tilts(hands, taken) -> None:
    left, right = hands
    bottle, cup = taken
    holder = right.imagined(joints=cup.descent[-1])
    pourer = left.imagined((right, cup.descent[-1]))
    grip = pourer.chain.pose(bottle.descent[-1])
    lifted = pourer.route([Waypoint(pose=moved(grip, (0.0, 0.0, 0.1)))], bottle.descent[-1])[-1]
    raised = replace(CUP, pose=moved(CUP.pose, (0.0, 0.0, RAISE)))
    way = plan_pour(pourer, lifted, bottle.held, BOTTLE, raised, holder)
    leans, around = [], 2 * math.pi * np.arange(360) / 360
    rim = np.stack([BOTTLE.lip * np.cos(around), BOTTLE.lip * np.sin(around), np.full(360, BOTTLE.height)], axis=1)
    for joints in way.tilt:
        pose = compose(left.chain.pose(joints), bottle.held)
        points = np.array([compose(pose, yaw_pose(*point, 0.0)).position for point in rim[::6]])
        low = points[points[:, 2].argmin()]
        assert math.dist(low[:2], CUP.pose.position[:2]) < CONFIG.ahead + 0.003
        assert CONFIG.low - 0.001 < low[2] - RIM < CONFIG.high + 0.001
        leans.append(math.acos(turned(pose.quaternion, (0.0, 0.0, 1.0))[2]))
    assert np.diff(leans).min() > -1e-3
    assert leans[0] == pytest.approx(CONFIG.ready, abs=0.02) and leans[-1] == pytest.approx(CONFIG.end, abs=0.01)
    carried = [turned(compose(left.chain.pose(q), bottle.held).quaternion, (0.0, 0.0, 1.0))[2] for q in way.carry]
    assert min(carried) > math.cos(CONFIG.lean) - 0.03


def test_a_cup_out_of_reach_is_refused(hands, taken) -> None:
    left, right = hands
    far = standing("cup", 0.8, -0.5, 0.085, 0.027)
    assert list(takings(right, far, ())) == []
    with pytest.raises(MotionError, match="pour from the bottle into the cup; move it nearer"):
        plan_pour(left, taken[0].descent[-1], taken[0].held, BOTTLE, far, right)
