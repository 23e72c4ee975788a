"""Levers: how a hand tips a lever over, and how that is judged. The tasks with a switch share this.

The side of a lever is +1 when it is on, tipped towards the switch's +X, and -1 when it is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import affordance, world_from_asset
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.skills import Skill, choose, follow, lift, wait
from embodichain.recovery.config import Disturbance, Miss
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.types import CHUNK, CONTROL_HZ, Pose, Scene, WorldState
from embodichain.types.poses import multiply, turn, turned

START = 0.45
"""Angle of the lever at the start [rad], on either side."""
THRESHOLD = 0.25
"""The lever is tipped over when its angle on the wanted side exceeds this [rad]."""
REST_S = 0.5
"""How long the lever must stay there after the robot has let go [s]."""

# -------------------------------------------------------------------------------------------------------------- expert

_KNOB_RADIUS = 0.0105
_KNOB_HALF_WIDTH = 0.014
_ABOVE = 0.05
_NEAR = 0.12
"""A hand nearer than this [m] to the start of the push, low enough and behind the lever, moves there in a straight line."""
_OVER_KNOB = 0.035
"""Height of the tip above the start of the push [m] at which closed fingers pass over the knob."""
_PUSH_SPEED = 0.18
_GAP = 0.022
"""Distance [m] between fingers and lever before the push. A policy may err by as much and still not land on the knob."""
_YAWS = tuple(math.radians(degrees) for degrees in (90.0, 45.0, -45.0, 67.5, -67.5, 25.0, -25.0))
"""Yaws of the gripper at which the smooth back or edge of a finger presses. Its rubber pad would stick to the lever and jerk it."""
_NEARLY_HOME = tuple(math.radians(degrees) for degrees in (0.0, 20.0, -20.0, 40.0, -40.0))
_DONE_OPENING = 0.02
"""Opening of the gripper [m] after the push."""
_END = 0.38
"""Angle to which the push takes the lever [rad]: midway between its threshold and its stop at 0.5, 8 mm at the knob from either."""


def tip_over(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance, side: float) -> Attempting:
    """One approach, push and retreat, after which the lever should be on `side`. Closed fingers press on the lever alone."""
    if state.object_joints["switch"][0] * side > THRESHOLD:
        return Attempt(state=state)
    begun_s = state.time_s
    (hand, approach, press), state = yield from choose(hands, state, lambda hands, state: _plan(hands, scene, state, miss, side))
    state = yield from follow(hand, state, approach, opening=0.0)
    if miss.miss is Miss.ASTRAY:
        sound_steps = round((state.time_s - begun_s) * state.control_hz)
        state = yield from _stray(hand, state, _forward(scene, state, side), miss)
        return Attempt(state=state, failure="the hand went astray", sound_steps=sound_steps)
    before = state.object_joints["switch"][0]
    state = yield from follow(hand, state, press)
    state = yield from wait(hand, state, 0.06)
    angle = state.object_joints["switch"][0]
    if angle * side <= THRESHOLD:
        state = yield from lift(hand, state, 0.08)
        return Attempt(state=state, failure=f"the lever went from {before:.2f} to {angle:.2f} rad, not over {THRESHOLD * side:.2f}")
    back_off = turned(scene.object("switch").pose.quaternion, (-0.03 * side, 0.0, 0.06))
    # The fingers open on the way back, so that a hand that has finished does not look like one about to begin.
    state = yield from follow(hand, state, hand.shift(back_off), opening=_DONE_OPENING)
    state = yield from wait(hand, state, 0.3)
    angle = state.object_joints["switch"][0]
    return Attempt(state=state, failure="" if angle * side > THRESHOLD else f"the lever went back to {angle:.2f} rad")


def _stray(hand: Hand, state: WorldState, forward: Floats, miss: Disturbance) -> Skill:
    """Moves the hand away from behind the lever, above the knob or backwards, until the next frame is taken.

    It stays where it is when it cannot get there.
    """
    offset = np.array(miss.stray)
    onward = offset @ forward
    try:
        if onward > 0.0 and offset[2] < _OVER_KNOB:
            offset -= 2.0 * onward * forward
        over = [Waypoint(pose=moved(hand.pose, (0.0, 0.0, offset[2])))] if offset @ forward > 0.0 else []
        state = yield from follow(hand, state, hand.route([*over, Waypoint(pose=moved(hand.pose, offset.tolist()))]))
    except MotionError:
        pass
    steps = round(state.time_s * state.control_hz)
    return (yield from wait(hand, state, (-steps % CHUNK) / state.control_hz))


def _plan(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance, side: float) -> tuple[Hand, Floats, Floats]:
    """The hand whose home is nearer to the switch, if it can, its path to behind the lever, and the push.

    The first yaw of the gripper that works is taken, beginning with the yaw at home: a hand that always has the same orientation is
    easier to learn from than the fastest motion.
    """
    x, y, _ = state.object_poses["switch"].position
    nearest = sorted(hands, key=lambda hand: math.dist(hand.chain.pose(hand.chain.home).position[:2], (x, y)))
    failure: MotionError | None = None
    for hand, yaw in _choices(nearest, scene, state):
        curve = _push_curve(hand, scene, state, yaw, miss, side)
        ready = curve(0.0)
        try:
            approach = _approach(hand, ready, _forward(scene, state, side))
            return hand, approach, hand.sweep(curve, _PUSH_SPEED, approach[-1])
        except MotionError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _approach(hand: Hand, ready: Pose, forward: Floats) -> Floats:
    """A path to the pose behind the lever: straight where nothing is between, else from above."""
    offset = np.subtract(hand.pose.position, ready.position)
    if np.linalg.norm(offset) < _NEAR and offset[2] < _ABOVE and offset @ forward < _GAP / 2:
        try:
            return hand.route([Waypoint(pose=ready)])
        except MotionError:
            pass
    return hand.route([Waypoint(pose=moved(ready, (0.0, 0.0, _ABOVE)), straight=False), Waypoint(pose=ready)])


def _forward(scene: Scene, state: WorldState, side: float) -> Floats:
    """The horizontal direction in which the lever is pushed, in the world frame, shape [3]."""
    switch = scene.object("switch")
    return np.array(turned(world_from_asset(switch.asset, state.object_poses["switch"]).quaternion, (side, 0.0, 0.0)))


def _choices(hands: Sequence[Hand], scene: Scene, state: WorldState) -> list[tuple[Hand, float]]:
    """Each hand with each of its yaws, in order."""
    return [(hand, yaw) for hand in hands for yaw in _yaws(hand, scene, state)]


def _yaws(hand: Hand, scene: Scene, state: WorldState) -> list[float]:
    """Yaws of the gripper relative to the lever's axis [rad], best first: as at home, nearly so, then whatever works."""
    switch = scene.object("switch")
    upright = affordance(switch.asset, "lever_tip", world_from_asset(switch.asset, state.object_poses["switch"]), (0.0,))
    x, y, _ = turned(upright.quaternion, (1.0, 0.0, 0.0))
    home_x, home_y, _ = turned(hand.chain.pose(hand.chain.home).quaternion, (1.0, 0.0, 0.0))
    home = math.atan2(y, x) - math.atan2(home_y, home_x)  # the tip's Z points down, so a positive yaw turns X clockwise
    return [*(home + more for more in _NEARLY_HOME), *_YAWS]


def _push_curve(hand: Hand, scene: Scene, state: WorldState, yaw: float, miss: Disturbance, side: float) -> Callable[[float], Pose]:
    """Tip poses from behind the lever to its final angle, pointing down, at `yaw` [rad] from the lever's axis.

    The fingers follow the knob's arc, and rise as its round side rolls on them: a sliding contact would make the lever bounce.
    """
    switch = scene.object("switch")
    world_from_switch = world_from_asset(switch.asset, state.object_poses["switch"])
    along = _forward(scene, state, side)
    across = np.array(turned(world_from_switch.quaternion, (0.0, 1.0, 0.0)))
    half_x, half_y = hand.fingers.half_width, hand.fingers.thickness  # of the closed fingers
    reach_along = half_x * abs(math.cos(yaw)) + half_y * abs(math.sin(yaw))
    reach_across = half_x * abs(math.sin(yaw)) + half_y * abs(math.cos(yaw))
    aside = miss.aside(_KNOB_HALF_WIDTH + reach_across) * across
    up = np.array([0.0, 0.0, miss.above(_KNOB_RADIUS + hand.fingers.below)])
    upright = affordance(switch.asset, "lever_tip", world_from_switch, (0.0,)).quaternion
    quaternion = multiply(upright, turn((0.0, 0.0, 1.0), yaw))
    first, last = state.object_joints["switch"][0], side * _END

    def pose_at(progress: float) -> Pose:
        angle = first + progress * (last - first)
        knob = np.array(affordance(switch.asset, "lever_tip", world_from_switch, (angle,)).position)
        behind = _KNOB_RADIUS + reach_along + _GAP * (1.0 - progress)
        rolled = np.array([0.0, 0.0, _KNOB_RADIUS * (side * angle)])
        x, y, z = (float(v) for v in knob - behind * along + aside + up + rolled)
        return Pose(position=(x, y, z), quaternion=quaternion)

    return pose_at


# -------------------------------------------------------------------------------------------------------------- watching

_FREE_TRAVEL = 0.06
"""Largest travel of the lever in the whole episode without contact with the robot [rad]."""
_TOUCH_WINDOW = 5
"""Number of control steps before and after a touch within which the lever's motion counts as caused by the robot. Contacts are
sampled once a control step, and a light lever bounces off the fingers in between. Joint friction stops a lever well within that
time.
"""
_BASE_FORCE = 5.0
"""Largest force of the robot on the housing [N]."""
_LEVER_FORCE = 40.0
"""Largest force of the robot on the lever, which would bend or break [N]."""
_STILL = 0.01
"""Largest motion of the lever in the final rest [rad]."""


class LeverWatch:
    """Watches a switch at every control step: how the robot treats it, and how long its lever rests on the wanted side."""

    def __init__(self, scene: Scene, side: float) -> None:
        placement = scene.object("switch")
        self.angle = placement.joint_positions[0]
        """Angle of the lever [rad]."""
        self.touched = False
        """Whether the robot has ever touched the lever."""
        self._side = side
        joint = placement.asset.movable_joints[0]
        self._lever, self._base = f"switch/{joint.child}", f"switch/{joint.parent}"
        self._pose = placement.pose
        self._free_travel = 0.0
        self._since_touch = _TOUCH_WINDOW + 1
        self._unexplained: list[float] = []
        self._base_force = self._lever_force = 0.0
        self._base_shift = 0.0
        self._resting: list[float] = []
        self._control_hz = CONTROL_HZ

    def observe(self, state: WorldState, *, pushed: bool = False) -> None:
        """Takes in the state after one control step; with `pushed`, something other than the robot may move the lever."""
        self._control_hz = state.control_hz
        angle = state.object_joints["switch"][0]
        touching = state.touching("robot/", self._lever)
        self._since_touch = 0 if touching else self._since_touch + 1
        self.touched |= touching
        if self._since_touch <= _TOUCH_WINDOW or pushed:
            self._unexplained.clear()
        else:
            self._unexplained.append(abs(angle - self.angle))
            if len(self._unexplained) > _TOUCH_WINDOW:
                self._free_travel += self._unexplained.pop(0)
        self.angle = angle
        self._base_force = max(self._base_force, state.force_between("robot/", self._base))
        self._lever_force = max(self._lever_force, state.force_between("robot/", self._lever))
        shift = np.subtract(state.object_poses["switch"].position, self._pose.position)
        self._base_shift = max(self._base_shift, float(np.linalg.norm(shift)))
        if touching or angle * self._side <= THRESHOLD:
            self._resting.clear()
        else:
            self._resting.append(angle)

    def pardon(self) -> None:
        """Ends a labelled failure: a push on the housing is forgiven, up to the force that is allowed on the lever."""
        if self._base_force <= _LEVER_FORCE:
            self._base_force = 0.0

    @property
    def fault(self) -> str:
        """Describes a breach of the limits; "" when there is none."""
        free_travel = self._free_travel + sum(self._unexplained)
        if free_travel > _FREE_TRAVEL:
            return f"the lever moved {free_travel:.2f} rad without the robot touching it"
        if self._base_force > _BASE_FORCE:
            return f"the robot pressed on the housing with {self._base_force:.0f} N, {_BASE_FORCE:.0f} N allowed"
        if self._lever_force > _LEVER_FORCE:
            return f"the robot pressed on the lever with {self._lever_force:.0f} N, {_LEVER_FORCE:.0f} N allowed"
        if self._base_shift > 1e-3:
            return f"the housing moved by {1e3 * self._base_shift:.0f} mm"
        return ""

    @property
    def unrest(self) -> str:
        """Why the lever does not rest on the wanted side, untouched for long enough; "" when it does."""
        last = self._resting[-round(REST_S * self._control_hz) :]
        if self.angle * self._side <= THRESHOLD:
            return f"the lever is at {self.angle:.2f} rad, not over its threshold of {THRESHOLD * self._side:.2f}"
        if len(last) < round(REST_S * self._control_hz):
            return f"the lever was over and left alone for {len(self._resting) / self._control_hz:.2f} s only, {REST_S} s needed"
        if max(last) - min(last) > _STILL:
            return f"the lever still moved by {max(last) - min(last):.2f} rad at the end"
        return ""
