"""Handover: one hand holds an object in the air, the other grips it, and then the first releases it."""

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
    """Where hands meet: candidate midpoints [m] in the world and slants [rad] below the horizontal, best first.

    The receiver stops `before` [m] from the object before it reaches in; the giver retreats by as much after it has opened its
    fingers by `wider` [m]. `steepest` and `shallowest` [rad] bound the receiver's slant below the horizontal.
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
    """A planned handover: the poses of giver and receiver (world_from_tip), the grip, and the joints of both."""

    out: Pose
    take: Pose
    grip: Pose
    giver: Floats
    receiver: Floats


_QUICK, _QUICK_DIRECT = IkConfig(seeds=4), IkConfig(seeds=4, symmetric=False)


def meetings(giver: Hand, receiver: Hand, held: Pose, grips: Sequence[Pose], config: HandoverConfig) -> Iterator[Meeting]:
    """Yields handovers of an object that the giver holds (`held`: tip_from_object) to one of `grips` (object_from_tip).

    Both hands point at each other slanting down, and do not collide even with wide open fingers.
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
    """Whether a hand at `tip` points down within the allowed slants, and towards the other side."""
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
    """The first meeting that the giver can reach from its joints `start`, and from which the receiver has a path `onward`.

    Raises MotionError when there is none among the first `most` that both arms can reach.
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
    """The receiver's paths to before the object and to its grip."""
    before = compose(take, Pose(position=(0.0, 0.0, -config.before)))
    return receiver.legs([Waypoint(pose=before, straight=False, meeting=True), Waypoint(pose=take, meeting=True)])


def _leaving(giver: Hand, config: HandoverConfig) -> tuple[Floats, Floats]:
    """The giver's paths out of the receiver's fingers, and home."""
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
    """Whether two hands do not collide when they move along these paths at the same time."""
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
    """Performs a planned handover; returns the failure ("" for none), and the state.

    `miss` [m] displaces the receiver's grip in its tip's frame, to provoke a failure.
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
    # The grip follows the present pose of the object, which may have turned between the giver's fingers.
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
    """The receiver follows its path while the giver goes home; one after the other if they would collide."""
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
    """The giver picks the object up, the receiver takes it over and carries it `onward`, while the giver goes home.

    `grips` are those of the giver and of the receiver (object_from_tip); `onward` plans the receiver's path and returns its goal.
    Returns the failure ("" for none), the goal, and the state. Raises MotionError when no plan exists at the start.
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
