"""Handing over: one hand holds an object out in the air, the other takes it from there, and only then the first lets go."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.hand import Hand, Waypoint
from embodichain.motion.handling import Onward, object_pose, pick, put_back, tip_from_object
from embodichain.motion.ik import IkConfig, solve
from embodichain.motion.plan import arms_clearance, joint_path
from embodichain.motion.skills import Skill, follow, go_home, grasp, holds, set_opening, together, wait
from embodichain.types import Pose, Scene, Step, Vec3, WorldState
from embodichain.types.poses import compose, frame, inverse, turned


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverConfig:
    """Where hands meet, in world coordinates: the middles [m] and the slants [rad] below the horizontal tried, best first.

    `before` [m] is how far from the object the receiver stops before it reaches in, and the giver draws back to after it
    has opened its fingers by `wider` [m]; `steepest` and `shallowest` [rad] bound how
    far below the horizontal it may point.
    """

    x: tuple[float, ...] = (0.05, 0.10, 0.0)
    y: tuple[float, ...] = (0.0,)
    z: tuple[float, ...] = (0.20, 0.24, 0.16)
    slants: tuple[float, ...] = (math.radians(45.0), math.radians(55.0), math.radians(35.0))
    before: float = 0.08
    wider: float = 0.012
    steepest: float = math.radians(75.0)
    shallowest: float = math.radians(20.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Meeting:
    """A way to hand over: where the giver holds the object out and the receiver takes it (world_from_tip), the grip; joints."""

    out: Pose
    take: Pose
    grip: Pose
    giver: Floats
    receiver: Floats


_QUICK, _QUICK_DIRECT = IkConfig(seeds=4), IkConfig(seeds=4, symmetric=False)


def meetings(giver: Hand, receiver: Hand, held: Pose, grips: Sequence[Pose], config: HandoverConfig) -> Iterator[Meeting]:
    """Ways to hand over an object that the giver holds (`held`: tip_from_object), taken by one of `grips` (object_from_tip).

    Both hands point at each other slantwise from above; they keep clear of each other, the fingers counted as wide open.
    """
    towards = math.copysign(1.0, float(receiver.chain.positions[0][1] - giver.chain.positions[0][1]))
    for z, x, y, slant in itertools.product(config.z, config.x, config.y, config.slants):
        approach = (0.0, towards * math.cos(slant), -math.sin(slant))
        for closing in ((1.0, 0.0, 0.0), (0.0, math.sin(slant), towards * math.cos(slant))):
            for sense in (1.0, -1.0):
                out = frame((x, y, z), approach, tuple(sense * value for value in closing))
                takes = [(compose(compose(out, held), grip), grip) for grip in grips]
                takes = [(take, grip) for take, grip in takes if _faces(take, -towards, config)]
                if not takes:
                    continue
                try:
                    q_giver = solve(giver.chain, out, giver.joints, _QUICK_DIRECT)
                except MotionError:
                    continue
                for take, grip in takes:
                    try:
                        q_receiver = solve(receiver.chain, take, receiver.chain.home, _QUICK)
                    except MotionError:
                        continue
                    if arms_clearance(giver.chain, q_giver, receiver.chain, q_receiver) >= giver.config.meeting_clearance:
                        yield Meeting(out=out, take=take, grip=grip, giver=q_giver, receiver=q_receiver)


def _faces(tip: Pose, towards: float, config: HandoverConfig) -> bool:
    """Whether a hand at `tip` points down within the slants allowed, and towards the other side."""
    _, along, up = turned(tip.quaternion, (0.0, 0.0, 1.0))
    return math.sin(config.shallowest) <= -up <= math.sin(config.steepest) and along * towards > 0.2


def plan_meeting(
    giver: Hand,
    receiver: Hand,
    start: Floats,
    held: Pose,
    grips: Sequence[Pose],
    onward: Onward,
    config: HandoverConfig | None = None,
    most: int = 6,
) -> Meeting:
    """The first meeting that the giver comes to from its joints `start` and from which the receiver has a way `onward`.

    Raises MotionError when there is none among the first `most` that both arms can hold.
    """
    config = config or HandoverConfig()
    failure = MotionError(f"the {giver.name} and {receiver.name} arms find nowhere to hand the object over; grip it elsewhere")
    for meeting in itertools.islice(meetings(giver, receiver, held, grips, config), most):
        try:
            giver.imagined(joints=start).route([Waypoint(pose=meeting.out, straight=False, exact=True)])
            _coming(receiver.imagined((giver, meeting.giver)), meeting.take, config)
            taken = compose(inverse(meeting.take), compose(meeting.out, held))
            _leaving(giver.imagined((receiver, meeting.receiver), joints=meeting.giver), config)
            onward(receiver.imagined((giver, giver.chain.home)), meeting.receiver, taken)
            return meeting
        except MotionError as error:
            failure = error
    raise failure


def _coming(receiver: Hand, take: Pose, config: HandoverConfig) -> list[Floats]:
    """The receiver's way to before the object and on to where it takes it."""
    before = compose(take, Pose(position=(0.0, 0.0, -config.before)))
    return receiver.legs([Waypoint(pose=before, straight=False, meeting=True), Waypoint(pose=take, meeting=True)])


def _leaving(giver: Hand, config: HandoverConfig) -> tuple[Floats, Floats]:
    """The giver's way back from between the receiver's fingers, and from there home."""
    failure: MotionError | None = None
    for back in (config.before, 0.75 * config.before):
        away = compose(giver.pose, Pose(position=(0.0, 0.0, -back)))
        for straight in (True, False):
            try:
                leaving = giver.route([Waypoint(pose=away, straight=straight, meeting=True)])
                home = joint_path(leaving[-1], giver.chain.home, giver.config.limits)
                giver.check_clearance(home, leaving[-1], meeting=True)
                return leaving, home
            except MotionError as error:
                failure = failure or error
    assert failure is not None
    raise failure


def apart(first: Hand, first_path: Floats, second: Hand, second_path: Floats) -> bool:
    """Whether two hands keep clear of each other when they move along these paths at once."""
    gap = arms_clearance(first.chain, first_path[::3], second.chain, second_path[::3])
    return gap >= first.config.arms_clearance


def hand_over(
    giver: Hand,
    receiver: Hand,
    scene: Scene,
    state: WorldState,
    role: str,
    meeting: Meeting,
    *,
    miss: Vec3 = (0.0, 0.0, 0.0),
    config: HandoverConfig | None = None,
) -> Generator[Step, WorldState, tuple[str, WorldState]]:
    """The giver holds the object out, the receiver comes and grips it, the giver lets go and draws back; what went wrong, if any.

    `miss` [m] displaces the receiver's grip in its tip's frame.
    """
    config = config or HandoverConfig()
    out = giver.route([Waypoint(pose=meeting.out, straight=False, exact=True)])
    approach, _ = _coming(receiver.imagined((giver, meeting.giver)), meeting.take, config)
    if apart(giver, out, receiver, approach):
        state = yield from together(state, follow(giver, state, out), follow(receiver, state, approach, opening=receiver.open))
    else:
        state = yield from follow(giver, state, out)
    state = yield from wait(giver, state, 0.08)
    if not holds(giver, state, role):
        return f"the {role} slipped from the {giver.name} hand on its way", state
    # Where the object is now decides where it is taken: it may have turned between the fingers.
    take = compose(compose(object_pose(scene, state, role), meeting.grip), Pose(position=miss))
    approach, advance = _coming(receiver, take, config)
    state = yield from follow(receiver, state, approach, opening=receiver.open)
    state = yield from follow(receiver, state, advance)
    state = yield from grasp(receiver, state, role)
    if not holds(receiver, state, role):
        state = yield from follow(receiver, state, receiver.retrace(advance), opening=receiver.open)
        return f"the {receiver.name} hand closed without the {role} in it", state
    state = yield from wait(receiver, state, 0.1)
    state = yield from set_opening(giver, state, min(giver.measured_opening(state) + config.wider, giver.open))
    state = yield from follow(giver, state, _leaving(giver, config)[0])
    if not holds(receiver, state, role):
        return f"the {role} slipped from the {receiver.name} hand when the {giver.name} one let go", state
    return "", state


def relieve(giver: Hand, receiver: Hand, state: WorldState, way: Floats) -> Skill:
    """The receiver goes its way while the giver goes home; first the one, then the other, where they would meet."""
    home = joint_path(giver.joints, giver.chain.home, giver.config.limits)
    if apart(giver, home, receiver, way):
        return (yield from together(state, follow(receiver, state, way), go_home(giver, state)))
    state = yield from go_home(giver, state)
    return (yield from follow(receiver, state, way))


def pick_and_pass(
    giver: Hand,
    receiver: Hand,
    scene: Scene,
    state: WorldState,
    role: str,
    grips: tuple[Sequence[Pose], Sequence[Pose]],
    onward: Callable[[Hand, Floats, Pose], tuple[Floats, Pose]],
    *,
    lift: float,
    astray: Sequence[Vec3] = (),
    config: HandoverConfig | None = None,
) -> Generator[Step, WorldState, tuple[str, Pose, WorldState]]:
    """The giver picks the object up, the receiver takes it over and brings it `onward`, while the giver goes home.

    `grips` are those of the giver and of the receiver (object_from_tip); `onward` plans the receiver's way and names its goal.
    Returns what went wrong ("" when nothing did), the goal, and the state. Raises MotionError when there is no way to begin.
    """

    def meet(hand: Hand, start: Floats, held: Pose) -> Meeting:
        return plan_meeting(hand, receiver, start, held, grips[1], onward, config)

    if not receiver.at_home:
        state = yield from go_home(receiver, state)
    problem, _, state = yield from pick([giver], scene, state, role, grips[0], meet, lift=lift, astray=astray)
    if problem:
        return problem, Pose(), state
    try:
        meeting = meet(giver, giver.joints, tip_from_object(giver, scene, state, role))
    except MotionError as error:
        state = yield from put_back(giver, scene, state, role)
        return f"the {role} was put back: {error}", Pose(), state
    problem, state = yield from hand_over(giver, receiver, scene, state, role, meeting, config=config)
    if problem:
        return problem, Pose(), state
    later = receiver.imagined((giver, giver.chain.home))
    way, goal = onward(later, receiver.joints, tip_from_object(receiver, scene, state, role))
    state = yield from relieve(giver, receiver, state, way)
    return ("" if holds(receiver, state, role) else f"the {role} slipped from the {receiver.name} hand"), goal, state
