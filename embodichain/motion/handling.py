"""Picks an object up by a grip from which the next motion is possible, carries it over its goal and sets it down.

`pick` is given a function that plans the next motion from each grip, and skips grips without one. The object's pose in the hand is
measured again before it is lowered, because it may have turned between the fingers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Generator, Sequence

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import world_from_asset
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.outlines import Outline, bottom_of, outlines, room_for_fingers
from embodichain.motion.skills import Skill, choose, follow, grasp, holds, set_opening, wait
from embodichain.types import Asset, Pose, Scene, Step, Vec3, WorldState
from embodichain.types.poses import angle_between, compose, frame, inverse, turn, turned, yaw_of, yaw_pose

Onward = Callable[[Hand, Floats, Pose], object]
"""Plans the motion after a grip from the hand, its joints [rad] once lifted, and tip_from_object; may raise MotionError."""

_BEFORE = (0.06, 0.035)
"""Lengths [m] of the straight final approach to a grip; the first possible one is used."""
_AROUND = 0.10
"""Additional height of a detour if the direct approach is blocked [m]."""
_CLEARANCE = 0.004
"""Smallest distance [m] of open fingers from other objects."""
_NEAR, _LOWER_SPEED, _TOUCH_SPEED = 0.003, 0.25, 0.025
"""An object is lowered at `_LOWER_SPEED` [m/s] to `_NEAR` [m] above its goal, then at `_TOUCH_SPEED` until it touches."""
_DIP = 0.002
"""Tolerance by which a path may pass below its floor [m]."""
_VIAS = ("joints", "line", "turn first")


def object_pose(scene: Scene, state: WorldState, role: str) -> Pose:
    """Present pose of the object under `role`, world_from_asset."""
    return world_from_asset(scene.object(role).asset, state.object_poses[role])


def tip_from_object(hand: Hand, scene: Scene, state: WorldState, role: str) -> Pose:
    """Present pose of the object in the hand, tip_from_object."""
    return compose(inverse(hand.measured_pose(state)), object_pose(scene, state, role))


def turns(pose: Pose, count: int) -> tuple[Pose, ...]:
    """The pose rotated about its own Z axis in `count` equal parts of a full turn, for symmetric objects and grips."""
    return tuple(compose(pose, Pose(quaternion=turn((0.0, 0.0, 1.0), 2 * math.pi * k / count))) for k in range(count))


def tallest(scene: Scene, state: WorldState, leaving_out: Sequence[str] = ()) -> float:
    """Height [m] of the tallest object on the table."""
    return max((outline.top for outline in outlines(scene, state, leaving_out).values()), default=0.0)


def box_grips(asset: Asset) -> tuple[Pose, ...]:
    """Grips of a box (object_from_tip): at the middle of two opposite faces, from any side."""
    lower, upper = asset.bounds
    x, y, z = (float(value) for value in (lower + upper) / 2)
    axes = np.eye(3)
    return tuple(
        frame((x, y, z), (sense * axes[along]).tolist(), axes[across].tolist())
        for along, across in itertools.permutations(range(3), 2)
        for sense in (1.0, -1.0)
    )


def from_above(world_from_object: Pose, grips: Sequence[Pose]) -> list[Pose]:
    """The grips (object_from_tip) for which the hand points straight down when the object is at this pose."""
    return [grip for grip in grips if turned(compose(world_from_object, grip).quaternion, (0.0, 0.0, 1.0))[2] < -0.99]


def landings(asset: Asset, held: Pose, center: Vec3, count: int = 12) -> list[Pose]:
    """Poses of an object lying at `center` [m] (world_from_object), in `count` rotations.

    It lies on the side that is down when the hand that holds it (`held`: tip_from_object) points straight down.
    """
    found = []
    for tip in turns(Pose(position=center, quaternion=turn((1.0, 0.0, 0.0), math.pi)), count):
        placed = compose(tip, held)
        found.append(moved(placed, (0.0, 0.0, center[2] - bottom_of(asset, placed))))
    return found


def pick(
    hands: Sequence[Hand],
    scene: Scene,
    state: WorldState,
    role: str,
    grips: Sequence[Pose],
    onward: Onward,
    *,
    lift: float,
    opening: float = 0.0,
    astray: Sequence[Vec3] = (),
) -> Generator[Step, WorldState, tuple[str, Hand, WorldState]]:
    """Grips the object under `role` and lifts it by `lift` [m]; returns the failure ("" for none), the hand, the state.

    `grips` are object_from_tip. Of those with room for fingers `opening` [m] apart (0 means fully open) and a path `onward`, the
    one with the least travel of a hand is used. `astray` displaces the grip in the tip's frame by the first of these vectors [m]
    that is possible, to provoke a failure. Raises MotionError when there is no such grip, even with all hands at home.
    """
    chosen, state = yield from choose(
        hands, state, lambda hands, state: _grip(hands, scene, state, role, grips, onward, lift, opening, astray)
    )
    hand, approach, descent = chosen
    state = yield from follow(hand, state, approach, opening=_opening(hand, opening))
    state = yield from follow(hand, state, descent)
    state = yield from grasp(hand, state, role)
    if not holds(hand, state, role):
        state = yield from follow(hand, state, hand.retrace(descent), opening=_opening(hand, opening))
        return f"the fingers closed without the {role} between them", hand, state
    state = yield from follow(hand, state, hand.shift((0.0, 0.0, lift)))
    return ("" if holds(hand, state, role) else f"the {role} slipped while it was lifted"), hand, state


def _grip(
    hands: Sequence[Hand],
    scene: Scene,
    state: WorldState,
    role: str,
    grips: Sequence[Pose],
    onward: Onward,
    lift: float,
    opening: float,
    astray: Sequence[Vec3],
) -> tuple[Hand, Floats, Floats]:
    """Chooses a hand, its path to before the grip, and the path to the grip, displaced if requested and possible."""
    world_from_object = object_pose(scene, state, role)
    others = outlines(scene, state, (role,)).values()
    ways: list[tuple[float, Hand, Pose]] = []
    failure: MotionError | None = None
    cramped = MotionError(f"no grip of the {role} leaves room for the fingers; move what stands beside it")
    for grip in grips:
        tip = compose(world_from_object, grip)
        for hand in hands:
            if room_for_fingers(tip, _opening(hand, opening), hand.fingers, others) >= _CLEARANCE:
                ways.append((hand.travel(tip), hand, grip))
    for travel, hand, grip in sorted(ways, key=lambda way: way[0]):
        if travel == math.inf:
            failure = failure or MotionError(f"no arm reaches a grip of the {role}; move it nearer")
            break
        tip = compose(world_from_object, grip)
        try:
            approach, descent = _approach(hand, tip)
            lifted = hand.route([Waypoint(pose=moved(tip, (0.0, 0.0, lift)))], descent[-1])
            onward(hand, lifted[-1], compose(inverse(hand.chain.pose(descent[-1])), world_from_object))
            for offset in astray:
                missed = _missing(hand, compose(tip, Pose(position=offset)), opening, others)
                if missed is not None:
                    return hand, *missed
            return hand, approach, descent
        except MotionError as error:
            failure = failure or error
    raise failure or cramped


def _opening(hand: Hand, opening: float) -> float:
    """The opening asked for [m], if the gripper opens as far; 0 asks for all of it."""
    return min(opening or hand.open, hand.open)


def _back(tip: Pose, distance: float) -> Pose:
    return compose(tip, Pose(position=(0.0, 0.0, -distance)))


def _missing(hand: Hand, tip: Pose, opening: float, others: Collection[Outline]) -> tuple[Floats, Floats] | None:
    """The paths to before a displaced grip and to it; None if the fingers would hit something or the arm cannot reach it."""
    if room_for_fingers(tip, _opening(hand, opening), hand.fingers, others) <= 0.0:
        return None
    try:
        return _approach(hand, tip)
    except MotionError:
        return None


def _approach(hand: Hand, tip: Pose) -> tuple[Floats, Floats]:
    """The path to before a grip, with a detour from above if something is in the way, and the path to it."""
    failure: MotionError | None = None
    for distance, higher in itertools.product(_BEFORE, (False, True)):
        before = _back(tip, distance)
        above = [Waypoint(pose=moved(before, (0.0, 0.0, _AROUND)), straight=False)] if higher else []
        try:
            *legs, descent = hand.legs([*above, Waypoint(pose=before, straight=higher), Waypoint(pose=tip)])
            return np.concatenate(legs), descent
        except MotionError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def over(
    hand: Hand,
    start: Floats,
    held: Pose,
    asset: Asset,
    goals: Sequence[Pose],
    heights: Sequence[float],
    *,
    floor: float = 0.0,
    most: int = 8,
) -> tuple[Floats, Pose]:
    """Plans the path of an object in the hand (`held`: tip_from_object) from `start` to above a goal; returns both.

    It chooses the goal with the least rotation of the gripper, at the first of `heights` [m] above it from which the object can be
    lowered. No part of the object passes below `floor` [m]. Raises MotionError when there is no path.
    """
    tip = hand.chain.pose(start)
    ways = [(compose(goal, inverse(held)), goal) for goal in goals]
    ways.sort(key=lambda way: angle_between(way[0].quaternion, tip.quaternion))
    failure = MotionError("there is no goal to carry to")
    for at_goal, goal in ways[:most]:
        if not hand.attains(at_goal, exact=True):
            failure = MotionError(f"the {hand.name} arm does not reach {at_goal.position} with what it holds; move the goal")
            continue
        for height, via in itertools.product(heights, _VIAS):
            above = moved(at_goal, (0.0, 0.0, height))
            turned_first = Pose(position=tip.position, quaternion=above.quaternion)
            ways_there = {
                "joints": [Waypoint(pose=above, straight=False, exact=True)],
                "line": [Waypoint(pose=above, exact=True)],
                "turn first": [
                    Waypoint(pose=moved(turned_first, (0.0, 0.0, 0.02)), exact=True),
                    Waypoint(pose=above, exact=True),
                ],
            }
            try:
                *legs, _ = hand.legs([*ways_there[via], Waypoint(pose=at_goal, exact=True)], start)
            except MotionError as error:
                failure = error
                continue
            carried = np.concatenate(legs)
            ends = (compose(tip, held), compose(above, held))
            allowed = min(floor, *(bottom_of(asset, end) for end in ends))
            lowest = min(bottom_of(asset, compose(hand.chain.pose(joints), held)) for joints in carried[::5])
            if lowest >= allowed - _DIP:
                return carried, goal
            failure = MotionError(
                f"the way to above {goal.position} comes {1e3 * (allowed - lowest):.0f} mm too low; use a via pose"
            )
    raise failure


def set_down(
    hand: Hand, scene: Scene, state: WorldState, role: str, goal: Pose, support: str, *, press: float = 0.0, wider: float = 0.012
) -> Skill:
    """Lowers the object from above `goal` (world_from_object) until it presses on `support` with `press` [N], and releases it.

    The fingers open by `wider` [m] and retreat.
    """
    at_goal = compose(goal, inverse(tip_from_object(hand, scene, state, role)))
    near, touch = moved(at_goal, (0.0, 0.0, _NEAR)), moved(at_goal, (0.0, 0.0, -_NEAR))
    way = hand.route([Waypoint(pose=near, speed=_LOWER_SPEED), Waypoint(pose=touch, speed=_TOUCH_SPEED)])
    taken = [hand.joints]
    for joints in way:
        if state.force_between(f"{role}/", support) > press:
            velocity = taken[-1] - taken[-2] if len(taken) > 1 else np.zeros(len(joints))
            state = yield from follow(hand, state, hand.stop(velocity))
            break
        state = yield hand.step(joints)
        taken.append(joints)
    state = yield from wait(hand, state, 0.06)
    return (yield from let_go(hand, state, wider=wider, taken=np.array(taken)))


def put_back(hand: Hand, scene: Scene, state: WorldState, role: str) -> Skill:
    """Sets the object down on the table below the hand: upright or, if the arm cannot do that, in its present orientation."""
    pose = object_pose(scene, state, role)
    x, y, _ = pose.position
    lowered = moved(pose, (0.0, 0.0, -bottom_of(scene.object(role).asset, pose)))
    try:
        return (yield from set_down(hand, scene, state, role, yaw_pose(x, y, 0.0, yaw_of(pose.quaternion)), "table"))
    except MotionError:
        return (yield from set_down(hand, scene, state, role, lowered, "table"))


def let_go(hand: Hand, state: WorldState, *, wider: float = 0.012, back: float = 0.06, taken: Floats | None = None) -> Skill:
    """Opens the fingers by `wider` [m] and retreats by `back` [m] against the approach, or back along `taken`."""
    state = yield from set_opening(hand, state, min(hand.measured_opening(state) + wider, hand.open))
    return (yield from follow(hand, state, _away(hand, back, taken)))


def _away(hand: Hand, back: float, taken: Floats | None) -> Floats:
    """A retreat against the approach by `back` [m], straight or in joint space, else back along `taken`, else a shorter one."""
    target = _back(hand.pose, back)
    for straight in (True, False):
        try:
            return hand.route([Waypoint(pose=target, straight=straight, exact=True)])
        except MotionError:
            continue
    if taken is not None:
        return hand.retrace(taken)
    return hand.shift(turned(hand.pose.quaternion, (0.0, 0.0, -back)))
