"""hanging_mug: take the mug by its rim and slip its handle over a branch of the rack, so that the mug hangs there by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats, smallest_gap_along
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, Waypoint, largest, moved
from embodichain.motion.handling import Onward, let_go, object_pose, over, pick, put_back, set_down, tip_from_object
from embodichain.motion.skills import follow, go_home, holds, wait
from embodichain.protocols import Expert
from embodichain.recovery.config import Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import Asset, ObjectRequest, Pose, Robot, Scene, SceneRequest, Step, Vec3, WorldState
from embodichain.types.poses import compose, inverse, turn, turned, yaw_of, yaw_pose

REST_S = 1.0
"""How long the mug must hang still and untouched at the end [s]."""
HOLE = 0.016
"""Largest distance of the branch from the centre of the handle's hole [m]: across the hole; twice that along the handle."""
RACK_SHIFT = 0.03
"""Largest distance by which the rack may be moved [m]."""
RACK_X, RACK_Y = (0.02, 0.14), (-0.10, 0.10)
"""Range of the rack's position [m]; its yaw is arbitrary."""
ROOM = 0.04
"""Least free room around the mug [m], for the hand that takes it."""
_PHRASES = Phrases(
    streamed=(
        "Hang the mug on the rack.",
        "Hang the mug by its handle on a branch of the mug tree.",
        "Pick up the mug and hang it on the rack.",
        "Put the mug's handle over one of the rack's branches.",
    ),
    held_out=("Let the mug dangle from the mug tree.", "Store the mug on the stand, hanging by its handle."),
)


class HangingMug:
    """A mug in 0.30 x 0.40 m of the table and a rack in 0.12 x 0.20 m of it, both with any yaw; either arm may do it."""

    name = "hanging_mug"
    needs = Needs(opening=0.01, finger_length=0.03, finger_thickness=0.04)

    def __init__(self, recovery: RecoveryConfig | None = None, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """An upright mug and a rack with its branches free."""
        objects = (
            ObjectRequest(role="rack", category="rack", x=RACK_X, y=RACK_Y),
            ObjectRequest(role="mug", category="mug", reach=("grasp",), margin=ROOM),
        )
        request = SceneRequest(instruction=_PHRASES.draw(rng, self._held_out), objects=objects)
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Grips the rim, threads the branch, lowers and lets go; restarts from wherever the mug is when that fails."""
        hands = Hand.all_of(robot, state)
        spent: set[str] = set()
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, miss, spent), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> HangingMugGrader:
        """A fresh grader for `scene`."""
        return HangingMugGrader(scene)


def branches(rack: Asset) -> tuple[str, ...]:
    """Names of the rack's branches. Each has a tip `branch_*` and a place to hang on, `seat_*`."""
    return tuple(sorted(name.removeprefix("branch_") for name in rack.affordances if name.startswith("branch_")))


# -------------------------------------------------------------------------------------------------------------- expert

_LIFT, _LOW_LIFT = 0.10, 0.05
"""Height to which the mug is lifted [m]: to be hung, and to be set down elsewhere."""
_MIDDLE_X, _MIDDLE_Y = (0.0, 0.05, -0.05, -0.1), (0.0, 0.06, -0.06, 0.12, -0.12)
_FROM_RACK, _ELSEWHERE = 0.17, 0.08
"""Least distance of a mug that is brought to the middle from the rack, and from its previous place [m]."""
_RIM_DEPTH = 0.012
"""Depth below its rim at which the mug is held [m]."""
_OUTSIDE = 0.03
"""Distance beyond the tip of the branch at which slipping the handle over it starts [m]."""
_OPENING = 0.034
_THREAD_SPEED, _LOWER, _LOWER_SPEED, _PRESS = 0.12, 0.016, 0.04, 1.0
"""The handle is slipped over the branch, then lowered by up to `_LOWER` [m] until it presses with `_PRESS` [N]; speeds [m/s]."""
_TILTS = tuple(math.radians(degrees) for degrees in (30.0, 40.0, 50.0, 60.0))
"""Angles by which the mouth of the mug points up when it is slipped on [rad]; no arm can do it with a level gripper."""
_CARRY_SPEED, _CARRY_ACCELERATION = 1.2, 4.0
"""Limits of the joints while the mug is carried [rad/s, rad/s^2]. A mug that is swung turns about the finger inside it, whose pad
then jams in the curve of the wall with up to 220 N.
"""
_RELEASE_S, _WIDER, _SETTLE_S = 0.8, 0.030, 10.0
"""The fingers take `_RELEASE_S` [s] to open by `_WIDER` [m]; then the mug has `_SETTLE_S` [s] to come to rest."""
_SINK = math.radians(5.0)
_BACK = 0.07
"""Distance by which the hand draws back from the hanging mug [m]."""
_MUG_RADIUS, _MUG_CORE, _HANDLE, _ROD = 0.046, (0.040, 0.055), 0.012, 0.006
_AWAY = 0.004
"""Least distance [m] between mug and rack where they should not touch."""


def rim_grips(mug: Asset) -> tuple[Pose, ...]:
    """Grasps of the mug's rim from above (object_from_tip): opposite the handle, and at its sides."""
    grip = affordance(mug, "grasp", Pose())
    x, y, _ = grip.position
    level = Pose(position=(x, y, float(mug.bounds[1, 2]) - _RIM_DEPTH), quaternion=grip.quaternion)
    angles = (0.0, 0.5 * math.pi, -0.5 * math.pi, 0.25 * math.pi, -0.25 * math.pi)
    return tuple(compose(Pose(quaternion=turn((0.0, 0.0, 1.0), angle)), level) for angle in angles)


def _attempt(
    hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance, spent: set[str], brought: bool = False
) -> Attempting:
    """One pick and hang, preferably by a hand that has not had to put the mug back yet (`spent`).

    A mug that no hand can hang from its present place is first brought to the middle, once.
    """
    if not unhung(scene, state):
        return Attempt(state=state)
    mug = scene.object("mug").asset
    ends, radius = _rack_capsules(scene, state)
    for hand in hands:
        hand.obstacles = (ends, radius)
    radius_of_mug = float(-mug.bounds[0, 0])
    astray = miss.offsets(radius_of_mug + largest(hands).half_width, _RIM_DEPTH + largest(hands).below)

    known: dict[tuple[str, bytes, Pose], list[tuple[Pose, Pose]]] = {}

    def onward(hand: Hand, start: Floats, held: Pose, careful: bool = False) -> tuple[Floats, Pose]:
        key = (hand.name, hand.joints.tobytes(), object_pose(scene, state, "rack"))
        if key not in known:  # every grip that is considered asks for them
            known[key] = list(_hangings(hand, scene, state))
        return _plan(hand, start, held, scene, state, known[key], careful)

    def surely(hand: Hand, start: Floats, held: Pose) -> tuple[Floats, Pose]:
        onward(hand, start, _sunk(held))
        return onward(hand, start, held, careful=True)

    for tired in [hand for hand in hands if hand.name in spent and not hand.at_home]:
        state = yield from go_home(tired, state)
    fresh = [hand for hand in hands if hand.name not in spent]
    ways: list[tuple[Sequence[Hand], Onward] | None] = [(fresh, surely), (fresh, onward)] if fresh else []
    if not brought:
        ways.append(None)  # bring it elsewhere: a hand that put it back here would have to do so again
    if spent:
        ways += [(hands, onward)] if fresh else [(hands, surely), (hands, onward)]
    grips, hand, failure = rim_grips(mug), hands[0], MotionError("no arm has a way with the mug; move it nearer")
    for way in ways:
        try:
            if way is None:
                problem, state = yield from _bring(hands, scene, state)
            else:
                some, plan = way
                problem, hand, state = yield from pick(
                    some, scene, state, "mug", grips, plan, lift=_LIFT, opening=_OPENING, astray=astray
                )
            break
        except MotionError as error:
            failure = error
    else:
        raise failure
    if problem:
        return Attempt(state=state, failure=problem)
    if way is None:
        spent.clear()
        return (yield from _attempt(hands, scene, state, miss, spent, brought=True))
    held = tip_from_object(hand, scene, state, "mug")
    try:
        approach, seated = onward(hand, hand.joints, held)
    except MotionError as error:
        spent.add(hand.name)
        state = yield from put_back(hand, scene, state, "mug")
        return Attempt(state=state, failure=f"the mug was put back: {error}")
    state = yield from follow(hand, state, approach)
    if not holds(hand, state, "mug"):
        return Attempt(state=state, failure="the mug slipped while it was carried")
    problem, state = yield from _hang(hand, scene, state, approach, seated, held)
    return Attempt(state=state, failure=problem or unhung(scene, state))


def _bring(hands: Sequence[Hand], scene: Scene, state: WorldState) -> Generator[Step, WorldState, tuple[str, WorldState]]:
    """Sets the mug down nearer to the middle, where hands can reach it in more ways; raises MotionError when no hand can.

    Returns what went wrong ("" when nothing did) and the state. If the held mug cannot be carried on, it is put back.
    """
    mug, here = scene.object("mug").asset, object_pose(scene, state, "mug")
    rack = object_pose(scene, state, "rack").position
    ends, radius = _rack_capsules(scene, state)
    goals = [yaw_pose(x, y, 0.0, yaw_of(here.quaternion)) for x, y in itertools.product(_MIDDLE_X, _MIDDLE_Y)]
    goals = [goal for goal in goals if math.dist(goal.position[:2], rack[:2]) > _FROM_RACK]
    goals = [goal for goal in goals if math.dist(goal.position[:2], here.position[:2]) > _ELSEWHERE]

    def onward(hand: Hand, start: Floats, held: Pose) -> tuple[Floats, Pose]:
        way, goal = over(hand, start, held, mug, goals, (_LOW_LIFT,), floor=_LOW_LIFT / 2, most=len(goals))
        if _mug_gap(hand, way, held, ends, radius) < _AWAY:
            raise MotionError("the mug would touch the rack on its way to the middle; turn the rack")
        if _spare(hand, way, held, hand.surroundings(), (start[None],)) < 0.0:
            raise MotionError("the mug would touch an arm or its base on its way to the middle; move it away from there first")
        return way, goal

    problem, hand, state = yield from pick(hands, scene, state, "mug", rim_grips(mug), onward, lift=_LOW_LIFT, opening=_OPENING)
    if problem:
        return problem, state
    try:
        way, goal = onward(hand, hand.joints, tip_from_object(hand, scene, state, "mug"))
    except MotionError as error:
        state = yield from put_back(hand, scene, state, "mug")
        return f"the mug was put back: {error}", state
    state = yield from follow(hand, state, way)
    state = yield from set_down(hand, scene, state, "mug", goal, "table")
    return "", (yield from go_home(hand, state))


def _sunk(held: Pose) -> Pose:
    """The pose of the mug in the hand when its far side has sunk between the fingers as far as it may."""
    return compose(Pose(quaternion=turn((1.0, 0.0, 0.0), math.copysign(_SINK, held.position[1]))), held)


def _hang(
    hand: Hand, scene: Scene, state: WorldState, came: Floats, seated: Pose, held: Pose
) -> Generator[Step, WorldState, tuple[str, WorldState]]:
    """From before the branch: threads it, lowers the mug until the branch carries it, lets go, and waits until it hangs still."""
    problem, way = "the handle never came to rest on the branch", came
    try:
        thread, lower = _over_branch(hand, seated, (tip_from_object(hand, scene, state, "mug"), held))
    except MotionError as error:
        problem = str(error)
    else:
        state = yield from follow(hand, state, thread)
        taken = [hand.joints]
        for joints in lower:
            if state.force_between("mug/", "rack/") > _PRESS:
                state = yield from follow(hand, state, hand.stop(taken[-1] - taken[-2] if len(taken) > 1 else 0.0 * joints))
                break
            state = yield hand.step(joints)
            taken.append(joints)
        if not holds(hand, state, "mug"):
            return "the mug slipped while its handle was put over the branch", state
        way = np.concatenate([came, thread, np.array(taken)])
    if not (state.touching("mug/", "rack/") and threaded(scene, state)):
        state = yield from follow(hand, state, hand.retrace(way))
        state = yield from put_back(hand, scene, state, "mug")
        return problem, state
    state = yield from wait(hand, state, 0.1)
    # Slowly, so that the mug swings down on the lower finger instead of falling.
    slowly = np.tile(hand.joints, (round(_RELEASE_S * hand.control_hz), 1))
    state = yield from follow(hand, state, slowly, opening=min(hand.measured_opening(state) + _WIDER, hand.open))
    state = yield from let_go(hand, state, wider=0.0, back=_BACK)
    still = 0
    for _ in range(round(_SETTLE_S * hand.control_hz)):
        if still >= REST_S * hand.control_hz:
            break
        state = yield hand.step()
        still = still + 1 if float(np.linalg.norm(state.object_velocities["mug"][:3])) < _SWINGING.still else 0
    return "", state


def _over_branch(hand: Hand, seated: Pose, held: Sequence[Pose]) -> list[Floats]:
    """Paths over the branch and down, for the mug's pose in the hand now; if the arm cannot, for its pose when it was lifted."""
    failure: MotionError | None = None
    for tip_from_mug in held:
        try:
            return hand.legs(_onto(compose(seated, inverse(tip_from_mug))))
        except MotionError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _onto(at_seat: Pose) -> list[Waypoint]:
    """Waypoints of the tip over the branch and down."""
    below = moved(at_seat, (0.0, 0.0, -_LOWER))
    return [Waypoint(pose=at_seat, exact=True, speed=_THREAD_SPEED), Waypoint(pose=below, exact=True, speed=_LOWER_SPEED)]


def _plan(
    hand: Hand,
    start: Floats,
    held: Pose,
    scene: Scene,
    state: WorldState,
    hangings: Sequence[tuple[Pose, Pose]],
    careful: bool = False,
) -> tuple[Floats, Pose]:
    """A branch that the mug in the hand can be hung on: the path to the pose before it, and the mug's pose on it.

    Paths on which the handle keeps clear of everything too are preferred; `careful` demands them.
    """
    failure, second = MotionError("no branch of the rack can be reached; turn the rack or move it nearer"), None
    hand = hand.paced(joint_speed=_CARRY_SPEED, joint_acceleration=_CARRY_ACCELERATION)
    handle = affordance(scene.object("mug").asset, "hang_loop", Pose()).position
    rack, arms = _rack_capsules(scene, state), hand.surroundings()
    for before, seated in hangings:
        try:
            at_seat = compose(seated, inverse(held))
            start_pose = Waypoint(pose=compose(before, inverse(held)), straight=False, exact=True)
            approach, _, lower = hand.legs([start_pose, *_onto(at_seat)], start)
            back = compose(hand.chain.pose(lower[-1]), Pose(position=(0.0, 0.0, -_BACK)))
            hand.route([Waypoint(pose=back, exact=True)], lower[-1])
        except MotionError as error:
            failure = error
            continue
        if _spare(hand, approach, held, rack) < 0.0 or _spare(hand, approach, held, arms, (start[None],)) < 0.0:
            failure = MotionError("the mug would pass too near to the rack or an arm; turn the rack")
            continue
        ends = start[None], approach[-1:]  # at the end the handle is close to a branch on purpose
        if min(_spare(hand, approach, held, parts, ends, handle) for parts in (rack, arms)) >= 0.0:
            return approach, seated
        second = second or (approach, seated)
        failure = MotionError("the mug's handle would pass too near to the rack or an arm; turn the rack")
    if second is None or careful:
        raise failure
    return second


def _hangings(hand: Hand, scene: Scene, state: WorldState) -> Iterator[tuple[Pose, Pose]]:
    """Poses of the mug before a branch and on it (world_from_mug): level mugs first, then nearer branches first."""
    rack, mug = scene.object("rack").asset, scene.object("mug").asset
    loop = affordance(mug, "hang_loop", Pose())
    world_from_rack = object_pose(scene, state, "rack")
    found, grip = [], rim_grips(mug)[0]
    for tilt, name, half, sense in itertools.product(_TILTS, branches(rack), (0.0, math.pi), (1.0, -1.0)):
        seat = affordance(rack, f"seat_{name}", world_from_rack)
        tip = affordance(rack, f"branch_{name}", world_from_rack)
        about = Pose(quaternion=turn((0.0, 0.0, 1.0), sense * tilt))
        seated = compose(compose(compose(seat, Pose(quaternion=turn((1.0, 0.0, 0.0), half))), about), inverse(loop))
        if turned(seated.quaternion, (0.0, 0.0, 1.0))[2] < 0.0:
            continue  # its mouth would point down
        out = np.subtract(tip.position, seat.position)
        out *= 1.0 + _OUTSIDE / float(np.linalg.norm(out))
        found.append((tilt, hand.travel(compose(seated, grip)), moved(seated, out.tolist()), seated))
    found.sort(key=lambda entry: entry[:2])
    return ((before, seated) for _, _, before, seated in found)


def _rack_capsules(scene: Scene, state: WorldState) -> tuple[Floats, Floats]:
    """The rack as capsules in the world frame: post and branches, end points [m] [k, 2, 3] and radii [m] [k]."""
    rack = scene.object("rack").asset
    pose = object_pose(scene, state, "rack")
    top = compose(pose, Pose(position=(0.0, 0.0, float(rack.bounds[1, 2]))))
    ends = [(pose.position, top.position)]
    for name in branches(rack):
        seat, tip = (np.array(affordance(rack, f"{kind}_{name}", pose).position) for kind in ("seat", "branch"))
        foot = np.array(pose.position[:2])
        share = float(np.linalg.norm(seat[:2] - foot)) / float(np.linalg.norm(tip[:2] - seat[:2]))
        ends.append(((seat - share * (tip - seat)).tolist(), tip.tolist()))
    return np.array(ends, np.float64), np.array([0.010] + [_ROD] * (len(ends) - 1))


def _mug_gap(hand: Hand, path: Floats, held: Pose, ends: Floats, radius: Floats, handle: Vec3 | None = None) -> float:
    """Approximate distance between the body of a mug in the hand (`held`: tip_from_mug) and capsules along `path` [T, dof] [m].

    The handle is included if its centre [m] is given.
    """
    low, high = _MUG_CORE
    core, thick = [((0.0, 0.0, low), (0.0, 0.0, high))], [_MUG_RADIUS]
    if handle is not None:
        x, y, z = handle
        core, thick = [*core, ((x, y, z - _HANDLE), (x, y, z + _HANDLE))], [*thick, 2.0 * _HANDLE]
    mugs = [compose(hand.chain.pose(joints), held) for joints in (*path[::4], *path[-1:])]
    placed = [[[compose(mug, Pose(position=end)).position for end in ends_of] for ends_of in core] for mug in mugs]
    pairs = np.stack(np.meshgrid(np.arange(len(core)), np.arange(len(radius)), indexing="ij"), axis=-1).reshape(-1, 2)
    return float(smallest_gap_along(np.array(placed), np.array(thick), ends[None], radius, pairs.astype(np.int64), math.inf))


def _spare(
    hand: Hand, path: Floats, held: Pose, parts: tuple[Floats, Floats], ends: Sequence[Floats] = (), handle: Vec3 | None = None
) -> float:
    """Distance of a mug in the hand from capsules beyond the required one [m]: `_AWAY`, or that at `ends` if it is less."""
    least = min([_AWAY, *(_mug_gap(hand, end, held, *parts, handle) for end in ends)])
    return _mug_gap(hand, path, held, *parts, handle) - least


# -------------------------------------------------------------------------------------------------------------- grader


def unhung(scene: Scene, state: WorldState) -> str:
    """Why the mug does not hang on a branch; "" when a branch passes through its handle and carries it."""
    if not state.touching("mug/", "rack/"):
        return "the mug does not touch the rack"
    if state.touching("mug/", "table"):
        return "the mug stands on the table"
    return "" if threaded(scene, state) else "no branch passes through the mug's handle"


def threaded(scene: Scene, state: WorldState) -> bool:
    """Whether a branch of the rack passes through the hole of the mug's handle."""
    rack, mug = scene.object("rack").asset, scene.object("mug").asset
    loop = affordance(mug, "hang_loop", object_pose(scene, state, "mug"))
    world_from_rack = object_pose(scene, state, "rack")
    for name in branches(rack):
        seat, tip = (affordance(rack, f"{kind}_{name}", world_from_rack) for kind in ("seat", "branch"))
        (a, b, c), (d, e, f) = (compose(inverse(loop), end).position for end in (seat, tip))
        # In the loop's frame the hole lies in the plane z = 0, X across it and Y along the handle; the branch ends at its tip.
        root = tuple(start - 1.5 * (end - start) for start, end in ((a, d), (b, e), (c, f)))
        if root[2] * f >= 0.0:
            continue
        share = root[2] / (root[2] - f)
        x, y = (start + share * (end - start) for start, end in ((root[0], d), (root[1], e)))
        if abs(x) <= HOLE and abs(y) <= 2 * HOLE:
            return True
    return False


_SWINGING = CustodyConfig(fall=0.04, slide=0.12, free_speed=0.8, push=0.05, support="table", rests_on=("rack",))
"""Limits for a mug that swings, after its release with the handle over a branch, until it hangs."""
_TOUCH_WINDOW = 2
"""Number of control steps for which a touch counts, because contacts are sampled once a control step."""


class HangingMugGrader(Judge):
    """Success: two fingers carried the mug, a branch passes through its handle, and it hangs there untouched and still."""

    done = "the mug hangs on the rack"

    def __init__(self, scene: Scene) -> None:
        self._mug = Custody(scene, "mug", _SWINGING)
        self._shift = 0.0
        self._free_steps = 0
        self._let_go = ""
        super().__init__(scene, (self._mug,))

    def _follow(self, state: WorldState) -> None:
        rack, start = object_pose(self._scene, state, "rack"), self._scene.object("rack").pose
        self._shift = max(self._shift, math.dist(rack.position, start.position))
        resting = state.touching("robot/", "mug/") or state.touching("mug/", "table")
        self._free_steps = 0 if resting else self._free_steps + 1
        if self._free_steps > _TOUCH_WINDOW and not (self._let_go or self._mug.excused) and not threaded(self._scene, state):
            self._let_go = "the mug was let go of in the air with no branch through its handle"

    def _forgive(self, things: tuple[Custody, ...]) -> None:
        if things:
            self._let_go = ""

    def _missing(self, state: WorldState) -> str:
        if self._let_go:
            return self._let_go
        if self._shift > RACK_SHIFT:
            return f"the rack was moved by {1e3 * self._shift:.0f} mm, {1e3 * RACK_SHIFT:.0f} mm allowed"
        if not self._mug.touched:
            return "the robot never touched the mug"
        if self._mug.lifted < 0.05:
            return f"two fingers never held the mug 50 mm up, only {1e3 * self._mug.lifted:.0f} mm"
        return unhung(self._scene, state) or self._unrest(REST_S, "the mug", "hung")

    def _progress(self, state: WorldState) -> float:
        lifted = self._mug.lifted >= 0.05
        return 0.3 * sum((self._mug.touched, lifted, lifted and not unhung(self._scene, state)))
