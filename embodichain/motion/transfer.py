"""Transfer: picks an object up where it is and sets it down where it should be, with whichever hand finds a way."""

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
from embodichain.types import Asset, Pose, Scene, Step, Vec3, WorldState
from embodichain.types.poses import angle_between, compose, inverse, turn, turned, yaw_of

Ending = Generator[Step, WorldState, tuple[str, WorldState]]
"""A motion in progress that returns what went wrong ("" when nothing did), and the last state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What is to be carried where.

    `grips` are object_from_tip poses to hold it by and `goals` world_from_object poses to set it down at, both best first;
    `support` prefixes the body that it is set down on. `around` lists roles that fingers may come near,
    `apart` those of them that the object must be clear of once it is set down. `opening` [m] is how wide
    the fingers open before they close; 0 opens them fully.
    """

    role: str
    grips: tuple[Pose, ...]
    goals: tuple[Pose, ...]
    support: str = "table"
    around: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    opening: float = 0.0
    clearance: float = 0.004
    """Least distance [m] of open fingers from other objects."""
    lowering: float = 0.03
    """How far above the goal [m] the last, straight part begins at least."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """An object in the air: the hand that holds it, and the way [T, dof] on which it was lifted."""

    hand: Hand
    raised: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Way:
    """A hand and its motions: to above the object, down to it, and how high to lift [m]."""

    hand: Hand
    approach: Floats
    descent: Floats
    height: float
    opening: float


_PREGRASP_HEIGHT = 0.06
_OVER = 0.025
"""How far [m] what is carried passes above whatever stands on the table."""
_LEAST_LIFT = 0.045
_NEAR, _LOWER_SPEED, _TOUCH_SPEED = 0.003, 0.3, 0.025
"""An object is lowered at the one speed to so near above its goal [m], then at the other until it touches [m/s]."""
_DIP = 0.008
"""Most that a way which the joints choose may sink below its ends [m]."""
_MOST_GOALS = 8
_CENTERED = 0.006
"""An object whose origin lies so near the gripper's axis [m] does not move when the gripper makes half a turn."""
_UPRIGHT = math.cos(math.radians(8.0))


def flips(pose: Pose, count: int = 2) -> tuple[Pose, ...]:
    """The pose turned about its own Z axis by equal parts of a full turn: `count` ways that look or hold alike."""
    return tuple(compose(pose, Pose(quaternion=turn((0.0, 0.0, 1.0), 2 * math.pi * k / count))) for k in range(count))


def object_pose(scene: Scene, state: WorldState, role: str) -> Pose:
    """world_from_asset of the object under `role` now."""
    return world_from_asset(scene.object(role).asset, state.object_poses[role])


def together(first: Skill, second: Skill) -> Skill:
    """Two hands move at once; the one that is done waits. For hands that share one command."""
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
    """One pick and place; ends early, saying why, when the object is not held or has no place to go.

    `hands` are all hands of the robot, `using` those that may carry (all of them by default). `miss` [m] displaces the grasp in
    the tip's frame. Raises MotionError when no hand has a way, even with all others at home.
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
    """The first half of `transfer`: the object held up, in a grasp from which some goal can be reached; or why it is not."""
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
    """The second half of `transfer`: carries what the hand holds to a goal and sets it down; MotionError when there is no way."""
    tip_from_object = compose(inverse(hand.pose), _levelled(object_pose(scene, state, task.role), hand.pose.position))
    carry, lower = _carry(hand, scene, state, task, tip_from_object, task.opening or hand.open)
    state = yield from follow(hand, state, carry)
    if not holds(hand, state, task.role):
        return f"the {task.role} slipped while it was carried", state
    return "", (yield from set_down(hand, state, lower, task.role, task.support))


def set_down(hand: Hand, state: WorldState, path: Floats, role: str, support: str, *, back: float = 0.06) -> Skill:
    """Lowers the object under `role` along `path` until it rests on `support`, lets go, and draws back by `back` [m]."""
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


def has_room(task: Transfer, asset: Asset, world_from_object: Pose, others: Collection[Outline]) -> bool:
    """Whether fingers have room around the object where it is, and at one of its goals, between what others cover."""
    grips = [grip for grip in task.grips if _graspable(task, compose(world_from_object, grip), task.opening or 0.1, others)]
    return any(
        _fits(compose(goal, grip), goal, asset, task.opening or 0.1, task.clearance, others)
        for grip in grips
        for goal in task.goals
    )


def _graspable(task: Transfer, tip: Pose, opening: float, others: Collection[Outline]) -> bool:
    return room_for_fingers(tip, opening, others) >= task.clearance


def _levelled(pose: Pose, about: Vec3) -> Pose:
    """A pose that is upright but for a few degrees, made upright about a point: what tilts in the fingers will straighten."""
    if turned(pose.quaternion, (0.0, 0.0, 1.0))[2] < _UPRIGHT:
        return pose
    upright = Pose(quaternion=turn((0.0, 0.0, 1.0), yaw_of(pose.quaternion)))
    held_at = compose(inverse(pose), Pose(position=about)).position
    return compose(Pose(position=about), compose(upright, inverse(Pose(position=held_at))))


def _approach(hands: Sequence[Hand], way: _Way, state: WorldState) -> Skill:
    """To above the object; hands that are out go home meanwhile, or before when they would meet."""
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
    """A hand that can pick and then place, the one with little travel first."""
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
            opening = task.opening or hand.open
            if _graspable(task, tip, opening, others.values()):
                ways.append((hand.travel(moved(tip, (0.0, 0.0, _PREGRASP_HEIGHT))), hand, grip, opening))
    ways = [way for way in ways if way[0] < math.inf]
    ways.sort(key=lambda way: way[0])
    for _, hand, grip, opening in ways:
        tip = compose(world_from_object, grip)
        goal = _astray(tip, opening, miss, others.values())
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
    """To above a grip, and straight down to it."""
    return hand.legs([Waypoint(pose=moved(tip, (0.0, 0.0, _PREGRASP_HEIGHT)), straight=False), Waypoint(pose=tip)])


def _aloft(state: WorldState, role: str) -> bool:
    """Whether nothing but the robot touches an object: another hand holds it in the air."""
    name = f"{role}/"
    pairs = [(c.first, c.second) for c in state.contacts if c.first.startswith(name) or c.second.startswith(name)]
    return bool(pairs) and all(pair[0].startswith("robot/") or pair[1].startswith("robot/") for pair in pairs)


def _astray(tip: Pose, opening: float, miss: Vec3, obstacles: Collection[Outline]) -> Pose:
    """Where a displaced grasp goes: to the other side, or nowhere else at all, when the fingers would come down on something."""
    x, y, z = miss
    for offset in ((x, y, z), (-x, y, z)):
        goal = compose(tip, Pose(position=offset))
        if room_for_fingers(goal, opening, obstacles) > 0.0:
            return goal
    return tip


def _carry(
    hand: Hand, scene: Scene, state: WorldState, task: Transfer, tip_from_object: Pose, opening: float, start: Floats | None = None
) -> tuple[Floats, Floats]:
    """The way to above a goal and the way down onto it, for the goal that the gripper must turn least for."""
    start = hand.joints if start is None else start
    tip = hand.chain.pose(start)
    obstacles = outlines(scene, state, (task.role, *(role for role in task.around if role not in task.apart))).values()
    asset = scene.object(task.role).asset
    failure = MotionError(f"no goal of the {task.role} leaves room for it and for the fingers around it")
    goals = [(compose(goal, inverse(tip_from_object)), goal) for goal in task.goals]
    goals.sort(key=lambda pair: round(2 * angle_between(pair[0].quaternion, tip.quaternion)))
    # The gripper may come turned by half a turn only where that leaves the object in the same place.
    exact = math.hypot(*tip_from_object.position[:2]) > _CENTERED
    fitting = (pair[0] for pair in goals if _fits(*pair, asset, opening, task.clearance, obstacles))
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


def _fits(at_goal: Pose, goal: Pose, asset: Asset, opening: float, clearance: float, obstacles: Collection[Outline]) -> bool:
    """Whether object and fingers have room at a goal: the fingers let go a centimetre wider than they hold."""
    thing = outline_of(asset, goal)
    if any(gap(thing, other) < clearance / 2 for other in obstacles):
        return False
    along = np.array(compose(at_goal, Pose(position=(0.0, 1.0, 0.0))).position[:2]) - at_goal.position[:2]
    low, high = thing.span(along / max(float(np.linalg.norm(along)), 1e-9))
    return room_for_fingers(at_goal, min(high - low + 0.014, opening), obstacles) >= clearance / 2


def _lowered(hand: Hand, start: Floats, above: Pose, at_goal: Pose, exact: bool) -> tuple[Floats, Floats]:
    """To above the goal as the joints turn easiest, or on a line where that would sink; then straight down."""
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
