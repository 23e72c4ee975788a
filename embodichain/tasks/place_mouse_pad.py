"""place_mouse_pad: pick up the mouse and set it down, aligned, on the pad of the colour that the instruction names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import affordance, world_from_asset
from embodichain.motion.hand import Hand, Waypoint, largest, moved
from embodichain.motion.skills import choose, follow, grasp, holds, place, wait
from embodichain.protocols import Expert
from embodichain.recovery.config import Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import Asset, ObjectRequest, Pose, Robot, Scene, SceneRequest, WorldState
from embodichain.types.poses import compose, inverse, turn, wrap, yaw_of

COLORS: dict[str, tuple[float, float, float, float]] = {
    "red": (0.78, 0.16, 0.15, 1.0),
    "blue": (0.14, 0.33, 0.76, 1.0),
    "green": (0.16, 0.58, 0.27, 1.0),
    "yellow": (0.92, 0.77, 0.16, 1.0),
    "purple": (0.48, 0.22, 0.62, 1.0),
}
"""Colours of pads, by the names that instructions use."""
YAW_TOLERANCE = math.radians(15.0)
"""Largest angle [rad] between mouse and pad. A plain pad looks the same after half a turn, so both directions count."""
REST_S = 0.5
"""How long the mouse must lie on the pad untouched at the end [s]."""
_PHRASES = Phrases(
    streamed=(
        "Place the mouse on the {color} pad.",
        "Put the computer mouse on the {color} mouse pad.",
        "Pick up the mouse and set it down on the {color} pad.",
        "Move the mouse onto the {color} pad, lined up with it.",
    ),
    held_out=("The mouse belongs on the {color} pad.", "Lay the mouse straight upon the pad that is {color}."),
)


class PlaceMousePad:
    """A mouse and two pads of different colours in 0.30 x 0.40 m of the table, with any yaw; one arm does everything."""

    name = "place_mouse_pad"
    needs = Needs(opening=0.058, finger_length=0.025)

    def __init__(self, recovery: RecoveryConfig | None = None, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """The mouse, the pad that the instruction names and another one."""
        first, second = (list(COLORS)[int(index)] for index in rng.choice(len(COLORS), 2, replace=False))
        instruction = _PHRASES.draw(rng, self._held_out, color=first)
        objects = (
            ObjectRequest(role="mouse", category="mouse", reach=("grasp",)),
            ObjectRequest(role="pad_target", category="pad", color=COLORS[first], reach=("center",), standoff=_GRIP_HEIGHT),
            ObjectRequest(role="pad_other", category="pad", color=COLORS[second]),
        )
        request = SceneRequest(instruction=instruction, objects=objects, same_arm=True)
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Grasps, lifts, carries, places and lets go; restarts from wherever the mouse is when an attempt fails."""
        hands = Hand.all_of(robot, state)
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, miss), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> PlaceMousePadGrader:
        """A fresh grader for `scene`."""
        return PlaceMousePadGrader(scene)


# -------------------------------------------------------------------------------------------------------------- expert

_PREGRASP_HEIGHT = 0.06
_CARRY_HEIGHTS = (0.08, 0.06, 0.045, 0.03)
"""Heights at which the mouse may be carried [m]; the first that the arm can reach is taken."""
_GRIP_HEIGHT = 0.016
"""Approximate height above its underside at which the mouse is held [m]."""
_NEAR, _LOWER_SPEED, _TOUCH_SPEED = 0.003, 0.2, 0.02
"""The mouse is lowered at `_LOWER_SPEED` to `_NEAR` [m] above the pad, then at `_TOUCH_SPEED` [m/s] until it touches."""
_MOUSE_HALF_LENGTH, _MOUSE_HEIGHT = 0.052, 0.037


def _attempt(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance) -> Attempting:
    """One pick and place."""
    (hand, approach, descent, height), state = yield from choose(
        hands, state, lambda hands, state: _plan(hands, scene, state, miss)
    )
    state = yield from follow(hand, state, approach, opening=hand.open)
    state = yield from follow(hand, state, descent)
    state = yield from grasp(hand, state, "mouse")
    if not holds(hand, state, "mouse"):
        state = yield from follow(hand, state, descent[::-1], opening=hand.open)
        return Attempt(state=state, failure="the fingers closed without the mouse between them")
    raised = hand.shift((0.0, 0.0, height))
    state = yield from follow(hand, state, raised)
    if not holds(hand, state, "mouse"):
        return Attempt(state=state, failure="the mouse slipped while it was lifted")
    tip_from_mouse = compose(inverse(hand.measured_pose(state)), _mouse_pose(scene, state))
    try:
        carry, lower = _shortest_carry(hand, scene, state, tip_from_mouse)
    except MotionError as error:
        state = yield from place(hand, state, raised[::-1], "mouse", "table")
        return Attempt(state=state, failure=f"the mouse was put back: {error}")
    state = yield from follow(hand, state, carry)
    if not holds(hand, state, "mouse"):
        return Attempt(state=state, failure="the mouse slipped while it was carried")
    state = yield from place(hand, state, lower, "mouse", "pad_target/")
    state = yield from wait(hand, state, 0.12)
    return Attempt(state=state, failure=_misplaced(scene, state))


def _plan(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance) -> tuple[Hand, Floats, Floats, float]:
    """A hand that can pick and place with little travel, its paths to above the grasp and down, and the height for carrying."""
    mouse = scene.object("mouse").asset
    world_from_mouse = _mouse_pose(scene, state)
    grip = affordance(mouse, "grasp", world_from_mouse)
    aside = miss.aside(_MOUSE_HALF_LENGTH + largest(hands).half_width)
    above = miss.above(_MOUSE_HEIGHT - grip.position[2] + largest(hands).below)
    goal = compose(grip, Pose(position=(aside, 0.0, -above)))
    before = moved(goal, (0.0, 0.0, _PREGRASP_HEIGHT))
    tip_from_mouse = compose(inverse(grip), world_from_mouse)
    failure: MotionError | None = None
    for hand, height in itertools.product(sorted(hands, key=lambda hand: hand.travel(before)), _CARRY_HEIGHTS):
        raised = moved(grip, (0.0, 0.0, height))
        try:
            approach, descent = hand.legs([Waypoint(pose=before, straight=False), Waypoint(pose=goal)])
            grasped = hand.route([Waypoint(pose=raised, straight=False), Waypoint(pose=grip), Waypoint(pose=raised)])
            _shortest_carry(hand, scene, state, tip_from_mouse, grasped[-1])
            return hand, approach, descent, height
        except MotionError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _shortest_carry(
    hand: Hand, scene: Scene, state: WorldState, tip_from_mouse: Pose, start: Floats | None = None
) -> tuple[Floats, Floats]:
    """The shortest path to above the pad and down onto it, with the mouse in either direction."""
    pad = affordance(scene.object("pad_target").asset, "center", _pose(scene, state, "pad_target"))
    heading = yaw_of(_pose(scene, state, "pad_target").quaternion)
    x, y, z = pad.position
    best: tuple[Floats, Floats] | None = None
    failure: MotionError | None = None
    for flip in (0.0, math.pi):
        world_from_mouse = Pose(position=(x, y, z), quaternion=turn((0.0, 0.0, 1.0), heading + flip))
        goal = compose(world_from_mouse, inverse(tip_from_mouse))
        down = [
            Waypoint(pose=moved(goal, (0.0, 0.0, up)), speed=speed) for up, speed in ((_NEAR, _LOWER_SPEED), (-_NEAR, _TOUCH_SPEED))
        ]
        for straight, height in itertools.product((True, False), _CARRY_HEIGHTS):
            over = Waypoint(pose=moved(goal, (0.0, 0.0, height)), straight=straight)
            try:
                carry, *lowering = hand.legs([over, *down], start)
            except MotionError as error:
                failure = failure or error
                continue
            lower = np.concatenate(lowering)
            if best is None or len(carry) + len(lower) < len(best[0]) + len(best[1]):
                best = (carry, lower)
            break
    if best is None:
        assert failure is not None
        raise failure
    return best


def _pose(scene: Scene, state: WorldState, role: str) -> Pose:
    return world_from_asset(scene.object(role).asset, state.object_poses[role])


def _mouse_pose(scene: Scene, state: WorldState) -> Pose:
    return _pose(scene, state, "mouse")


def _misplaced(scene: Scene, state: WorldState) -> str:
    """Describes what is wrong with the mouse's place; "" when nothing is."""
    mouse, pad = _mouse_pose(scene, state), _pose(scene, state, "pad_target")
    if not _inside(scene.object("pad_target").asset, pad, mouse):
        distance = math.dist(mouse.position[:2], pad.position[:2])
        return f"the mouse lies {1e3 * distance:.0f} mm from the centre of the pad, beside it"
    if misalignment(mouse, pad) > YAW_TOLERANCE:
        return f"the mouse is turned {math.degrees(misalignment(mouse, pad)):.0f} degrees from the pad"
    return ""


def _inside(asset: Asset, pad: Pose, mouse: Pose) -> bool:
    """Whether the mouse's centre lies over the pad."""
    lower, upper = asset.bounds
    x, y, _ = compose(inverse(pad), mouse).position
    return bool(lower[0] <= x <= upper[0] and lower[1] <= y <= upper[1])


def misalignment(mouse: Pose, pad: Pose) -> float:
    """Angle [rad] between the mouse and the nearer of the pad's two directions: 0..pi/2."""
    return abs(wrap(2 * (yaw_of(mouse.quaternion) - yaw_of(pad.quaternion)))) / 2


# -------------------------------------------------------------------------------------------------------------- grader

_LIFT = 0.02
"""Least height above its initial place at which two fingers held the mouse [m]."""
_PAD_SHIFT = 0.02
"""Largest distance by which the pad may be moved [m]."""


class PlaceMousePadGrader(Judge):
    """Success: the mouse was lifted by two fingers, carried, set down gently and left at rest on the named pad, aligned."""

    done = "the mouse lies on the named pad, lined up with it"

    def __init__(self, scene: Scene) -> None:
        self._mouse = Custody(scene, "mouse", CustodyConfig(lift=_LIFT, rests_on=("pad_target",)))
        self._pad_start = scene.object("pad_target").pose.position
        self._pad_shift = 0.0
        super().__init__(scene, (self._mouse,))

    def _follow(self, state: WorldState) -> None:
        pad = _pose(self._scene, state, "pad_target")
        self._pad_shift = max(self._pad_shift, math.dist(pad.position[:2], self._pad_start[:2]))

    def _missing(self, state: WorldState) -> str:
        if self._pad_shift > _PAD_SHIFT:
            return f"the pad was moved by {1e3 * self._pad_shift:.0f} mm, {1e3 * _PAD_SHIFT:.0f} mm allowed"
        if not self._mouse.touched:
            return "the robot never touched the mouse"
        if self._mouse.lifted < _LIFT:
            return f"two fingers never held the mouse {1e3 * _LIFT:.0f} mm up, only {1e3 * self._mouse.lifted:.0f} mm"
        return self._off_pad(state) or self._unrest(REST_S, "the mouse")

    def _off_pad(self, state: WorldState) -> str:
        """Why the mouse does not lie on the named pad now; "" when it does."""
        if not state.touching("mouse/", "pad_target/"):
            other = "pad_other/"
            return "the mouse lies on the wrong pad" if state.touching("mouse/", other) else "the mouse is not on the named pad"
        if state.touching("mouse/", "table") or state.touching("mouse/", "pad_other/"):
            return "the mouse only partly lies on the named pad"
        if self._mouse.tilt > math.radians(10.0):
            return "the mouse lies tilted"
        return _misplaced(self._scene, state)

    def _progress(self, state: WorldState) -> float:
        lifted = self._mouse.lifted >= _LIFT
        return 0.3 * sum((self._mouse.touched, lifted, lifted and not self._off_pad(state)))
