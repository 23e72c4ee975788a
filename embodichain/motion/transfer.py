"""Pick and place: picks up an object and sets it down at a goal, with any hand that can."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import world_from_asset
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.outlines import Outline, gap, outline_of, outlines, room_for_fingers
from embodichain.motion.plan import arms_clearance, joint_path
from embodichain.motion.skills import Skill, follow, go_home, grasp, holds, retreat, set_opening, wait
from embodichain.types import Asset, Fingers, Pose, Scene, Step, Vec3, WorldState
from embodichain.types.poses import angle_between, compose, inverse, turn, turned, yaw_of

Ending = Generator[Step, WorldState, tuple[str, WorldState]]
"""A motion that returns its failure ("" for none), and the last state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A pick-and-place job.

    `grips` are grasp poses (object_from_tip) and `goals` final poses (world_from_object), both best first. `support` is a prefix of
    the name of the body on which the object is set down. `around` lists roles that the fingers may come close to, `apart` those of
    them that the object must not touch in the end. `opening` [m] is the opening before the grasp; 0 means fully open.
    """

    role: str
    grips: tuple[Pose, ...]
    goals: tuple[Pose, ...]
    support: str = "table"
    around: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    opening: float = 0.0
    clearance: float = 0.004
    """Smallest distance [m] of open fingers from other objects."""
    lowering: float = 0.03
    """Smallest height above the goal [m] at which the final straight motion begins."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """An object held in the air: the hand, and the path [T, dof] by which it was lifted."""

    hand: Hand
    raised: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Way:
    """A hand with its planned motions: to above the object, down to it, and the height of the lift [m]."""

    hand: Hand
    approach: Floats
    descent: Floats
    height: float
    opening: float


_PREGRASP_HEIGHT = 0.06
_OVER = 0.025
"""Height [m] at which a carried object passes above others on the table."""
_LEAST_LIFT = 0.045
_NEAR, _LOWER_SPEED, _TOUCH_SPEED = 0.003, 0.3, 0.025
"""An object is lowered at `_LOWER_SPEED` [m/s] to `_NEAR` [m] above its goal, then at `_TOUCH_SPEED` until it touches."""
_DIP = 0.008
"""Most that a path in joint space may sink below its end points [m]."""
_MOST_GOALS = 8
_CENTERED = 0.006
"""An object whose origin is this close to the gripper's axis [m] counts as unmoved by a half turn of the gripper."""
_UPRIGHT = math.cos(math.radians(8.0))


def flips(pose: Pose, count: int = 2) -> tuple[Pose, ...]:
    """The pose rotated about its own Z axis in `count` equal parts of a full turn, for symmetric objects and grips."""
    return tuple(compose(pose, Pose(quaternion=turn((0.0, 0.0, 1.0), 2 * math.pi * k / count))) for k in range(count))


def object_pose(scene: Scene, state: WorldState, role: str) -> Pose:
    """Present pose of the object under `role`, world_from_asset."""
    return world_from_asset(scene.object(role).asset, state.object_poses[role])


def together(first: Skill, second: Skill) -> Skill:
    """Runs two skills at the same time, for hands that share one command; a finished hand waits for the other."""
    running = [first, second]
    for skill in running:
        step = next(skill)
    while True:
        state = yield step
        for skill in tuple(running):
            try:
                step = skill.send(state)
            except StopIteration:
                running.remove(skill)
        if not running:
            return state


def transfer(
    hands: Sequence[Hand],
    scene: Scene,
    state: WorldState,
    task: Transfer,
    miss: Vec3 = (0.0, 0.0, 0.0),
    *,
    using: Sequence[Hand] | None = None,
) -> Ending:
    """One pick and place; ends early with the reason if the object is not held or no goal can be reached.

    `hands` are all hands of the robot, `using` those that may carry (by default all). `miss` [m] displaces the grasp in the tip's
    frame, to provoke a failure. Raises MotionError when no hand can do it, even with all others at home.
    """
    held, state = yield from pick(hands, scene, state, task, miss, using=using)
    if isinstance(held, str):
        return held, state
    try:
        return (yield from deliver(held.hand, scene, state, task))
    except MotionError as error:
        state = yield from set_down(held.hand, state, held.raised[::-1], task.role, "table")
        return f"the {task.role} was put back: {error}", state


def pick(
    hands: Sequence[Hand],
    scene: Scene,
    state: WorldState,
    task: Transfer,
    miss: Vec3 = (0.0, 0.0, 0.0),
    *,
    using: Sequence[Hand] | None = None,
) -> Generator[Step, WorldState, tuple[Held | str, WorldState]]:
    """The first half of `transfer`: grasps and lifts the object such that some goal can be reached; or returns the reason."""
    using = hands if using is None else using
    try:
        way = _plan(using, scene, state, task, miss)
    except MotionError:
        out = [hand for hand in hands if not hand.at_home]
        if not out:
            raise
        for hand in out:
            state = yield from go_home(hand, state)
        way = _plan(using, scene, state, task, miss)
    hand = way.hand
    state = yield from _approach(hands, way, state)
    state = yield from follow(hand, state, way.descent)
    state = yield from grasp(hand, state, task.role)
    if not holds(hand, state, task.role):
        state = yield from follow(hand, state, way.descent[::-1], opening=hand.open)
        return f"the fingers closed without the {task.role} between them", state
    raised = hand.shift((0.0, 0.0, way.height))
    state = yield from follow(hand, state, raised)
    if not holds(hand, state, task.role):
        return f"the {task.role} slipped while it was lifted", state
    return Held(hand=hand, raised=raised), state


def deliver(hand: Hand, scene: Scene, state: WorldState, task: Transfer) -> Ending:
    """The second half of `transfer`: carries the held object to a goal and sets it down; raises MotionError if impossible."""
    tip_from_object = compose(inverse(hand.pose), _levelled(object_pose(scene, state, task.role), hand.pose.position))
    carry, lower = _carry(hand, scene, state, task, tip_from_object, min(task.opening or hand.open, hand.open))
    state = yield from follow(hand, state, carry)
    if not holds(hand, state, task.role):
        return f"the {task.role} slipped while it was carried", state
    return "", (yield from set_down(hand, state, lower, task.role, task.support))


def set_down(hand: Hand, state: WorldState, path: Floats, role: str, support: str, *, back: float = 0.06) -> Skill:
    """Lowers the object under `role` along `path` until it rests on `support`, releases it, and retreats by `back` [m]."""
    taken = [hand.joints]
    for joints in path:
        if state.touching(f"{role}/", support):
            velocity = taken[-1] - taken[-2] if len(taken) > 1 else np.zeros(len(joints))
            state = yield from follow(hand, state, hand.stop(velocity))
            break
        state = yield hand.step(joints)
        taken.append(joints)
    state = yield from wait(hand, state, 0.06)
    state = yield from set_opening(hand, state, min(hand.measured_opening(state) + 0.012, hand.open))
    away = turned(hand.pose.quaternion, (0.0, 0.0, -back))
    try:
        return (yield from retreat(hand, state, away))
    except MotionError:
        return (yield from follow(hand, state, hand.retrace(np.array(taken))))


def has_room(task: Transfer, asset: Asset, world_from_object: Pose, others: Collection[Outline], size: Fingers) -> bool:
    """Whether fingers of a size have room around the object at its pose and at one of its goals, between the outlines `others`."""
    grips = [grip for grip in task.grips if _graspable(task, compose(world_from_object, grip), task.opening or 0.1, others, size)]
    return any(
        _fits(compose(goal, grip), goal, asset, task.opening or 0.1, task.clearance, others, size)
        for grip in grips
        for goal in task.goals
    )


def _graspable(task: Transfer, tip: Pose, opening: float, others: Collection[Outline], size: Fingers) -> bool:
    return room_for_fingers(tip, opening, size, others) >= task.clearance


def _levelled(pose: Pose, about: Vec3) -> Pose:
    """Makes a nearly upright pose upright, about a point, because an object tilted in the fingers straightens when set down."""
    if turned(pose.quaternion, (0.0, 0.0, 1.0))[2] < _UPRIGHT:
        return pose
    upright = Pose(quaternion=turn((0.0, 0.0, 1.0), yaw_of(pose.quaternion)))
    held_at = compose(inverse(pose), Pose(position=about)).position
    return compose(Pose(position=about), compose(upright, inverse(Pose(position=held_at))))


def _approach(hands: Sequence[Hand], way: _Way, state: WorldState) -> Skill:
    """Moves to above the object while other hands go home, or after that if they would collide."""
    hand = way.hand
    coming = follow(hand, state, way.approach, opening=way.opening)
    for other in hands:
        if other is hand or other.at_home:
            continue
        home = joint_path(other.joints, other.chain.home, other.config.limits)
        if arms_clearance(hand.chain, way.approach[::3], other.chain, home[::3]) < hand.config.arms_clearance:
            state = yield from go_home(other, state)
            continue
        coming = together(coming, go_home(other, state))
    return (yield from coming)


def _plan(hands: Sequence[Hand], scene: Scene, state: WorldState, task: Transfer, miss: Vec3) -> _Way:
    """Plans with a hand that can both pick and place, trying hands with little travel first."""
    world_from_object = object_pose(scene, state, task.role)
    others = outlines(scene, state, (task.role, *task.around))
    all_things = outlines(scene, state)
    standing = (thing for role, thing in all_things.items() if role != task.role and not _aloft(state, role))
    top = max((thing.top for thing in standing), default=0.0)
    height = max(top + _OVER - all_things[task.role].bottom, _LEAST_LIFT)
    heights = (height, height + 0.03)
    ways: list[tuple[float, Hand, Pose, float]] = []
    failure = MotionError(f"no grasp of the {task.role} leaves room for the fingers; move what stands beside it")
    for grip in task.grips:
        tip = compose(world_from_object, grip)
        for hand in hands:
            opening = min(task.opening or hand.open, hand.open)
            if _graspable(task, tip, opening, others.values(), hand.fingers):
                ways.append((hand.travel(moved(tip, (0.0, 0.0, _PREGRASP_HEIGHT))), hand, grip, opening))
    ways = [way for way in ways if way[0] < math.inf]
    ways.sort(key=lambda way: way[0])
    for _, hand, grip, opening in ways:
        tip = compose(world_from_object, grip)
        goal = _astray(tip, opening, miss, others.values(), hand.fingers)
        try:
            approach, descent = _down_to(hand, tip)
        except MotionError as error:
            failure = error
            continue
        tip_from_object = compose(inverse(hand.chain.pose(descent[-1])), world_from_object)
        for height in heights:
            try:
                held = hand.route([Waypoint(pose=moved(tip, (0.0, 0.0, height)))], descent[-1])[-1]
                _carry(hand, scene, state, task, tip_from_object, opening, held)
                if goal != tip:
                    approach, descent = _down_to(hand, goal)
                return _Way(hand=hand, approach=approach, descent=descent, height=height, opening=opening)
            except MotionError as error:
                failure = error
    raise failure


def _down_to(hand: Hand, tip: Pose) -> list[Floats]:
    """The paths to above a grip, and straight down to it."""
    return hand.legs([Waypoint(pose=moved(tip, (0.0, 0.0, _PREGRASP_HEIGHT)), straight=False), Waypoint(pose=tip)])


def _aloft(state: WorldState, role: str) -> bool:
    """Whether only the robot touches an object, that is, a hand holds it in the air."""
    name = f"{role}/"
    pairs = [(c.first, c.second) for c in state.contacts if c.first.startswith(name) or c.second.startswith(name)]
    return bool(pairs) and all(pair[0].startswith("robot/") or pair[1].startswith("robot/") for pair in pairs)


def _astray(tip: Pose, opening: float, miss: Vec3, obstacles: Collection[Outline], size: Fingers) -> Pose:
    """The displaced grasp; on the opposite side if the fingers would hit something, or else not displaced."""
    x, y, z = miss
    for offset in ((x, y, z), (-x, y, z)):
        goal = compose(tip, Pose(position=offset))
        if room_for_fingers(goal, opening, size, obstacles) > 0.0:
            return goal
    return tip


def _carry(
    hand: Hand, scene: Scene, state: WorldState, task: Transfer, tip_from_object: Pose, opening: float, start: Floats | None = None
) -> tuple[Floats, Floats]:
    """The paths to above a goal and down onto it, for the goal with the least rotation of the gripper."""
    start = hand.joints if start is None else start
    tip = hand.chain.pose(start)
    obstacles = outlines(scene, state, (task.role, *(role for role in task.around if role not in task.apart))).values()
    asset = scene.object(task.role).asset
    failure = MotionError(f"no goal of the {task.role} leaves room for it and for the fingers around it")
    goals = [(compose(goal, inverse(tip_from_object)), goal) for goal in task.goals]
    goals.sort(key=lambda pair: round(2 * angle_between(pair[0].quaternion, tip.quaternion)))
    # The gripper may be rotated by half a turn only if the object's position stays the same.
    exact = math.hypot(*tip_from_object.position[:2]) > _CENTERED
    fitting = (pair[0] for pair in goals if _fits(*pair, asset, opening, task.clearance, obstacles, hand.fingers))
    for at_goal in itertools.islice(fitting, _MOST_GOALS):
        if not hand.attains(moved(at_goal, (0.0, 0.0, -_NEAR)), exact=exact):
            failure = MotionError(f"the {hand.name} arm does not reach {at_goal.position} with the {task.role}; move the goal")
            continue
        height = max(tip.position[2] - at_goal.position[2], task.lowering)
        for over in (height, height + 0.03, max(0.7 * height, task.lowering)):
            above = moved(at_goal, (0.0, 0.0, over))
            try:
                return _lowered(hand, start, above, at_goal, exact)
            except MotionError as error:
                failure = error
    raise failure


def _fits(
    at_goal: Pose, goal: Pose, asset: Asset, opening: float, clearance: float, obstacles: Collection[Outline], size: Fingers
) -> bool:
    """Whether object and fingers have room at a goal; fingers open by a centimetre to release."""
    thing = outline_of(asset, goal)
    if any(gap(thing, other) < clearance / 2 for other in obstacles):
        return False
    along = np.array(compose(at_goal, Pose(position=(0.0, 1.0, 0.0))).position[:2]) - at_goal.position[:2]
    low, high = thing.span(along / max(float(np.linalg.norm(along)), 1e-9))
    return room_for_fingers(at_goal, min(high - low + 0.014, opening), size, obstacles) >= clearance / 2


def _lowered(hand: Hand, start: Floats, above: Pose, at_goal: Pose, exact: bool) -> tuple[Floats, Floats]:
    """The paths to above the goal, in joint space or on a line if the former would sink, and straight down."""
    down = [
        Waypoint(pose=moved(at_goal, (0.0, 0.0, up)), speed=speed, exact=exact)
        for up, speed in ((_NEAR, _LOWER_SPEED), (-_NEAR, _TOUCH_SPEED))
    ]
    floor = min(hand.chain.pose(start).position[2], above.position[2]) - _DIP
    failure: MotionError | None = None
    for straight in (False, True):
        try:
            carry, *lowering = hand.legs([Waypoint(pose=above, straight=straight, exact=exact), *down], start)
        except MotionError as error:
            failure = failure or error
            continue
        if straight or hand.chain.tips(carry[::4])[0][:, 2].min() >= floor:
            return carry, np.concatenate(lowering)
    raise failure or MotionError(f"the {hand.name} arm cannot carry to {above.position} without sinking; use a via pose")
