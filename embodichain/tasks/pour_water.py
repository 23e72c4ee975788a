"""pour_water: one hand holds the cup, the other empties the bottle into it and sets it down. Grains stand in for the water."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.hand import Hand, HandConfig, Waypoint, moved
from embodichain.motion.handling import put_back, tip_from_object
from embodichain.motion.handover import apart
from embodichain.motion.plan import Limits
from embodichain.motion.pour import PourConfig, Standing, Taking, plan_pour, pour, take, takings
from embodichain.motion.skills import follow, go_home, holds, lift, together, wait
from embodichain.protocols import Expert
from embodichain.recovery.config import UNDISTURBED, Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.flow import Flow, within
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import Filling, ObjectRequest, Range, Robot, Scene, SceneRequest, Step, Vec3, WorldState

SHARE = 0.8
"""Least share of the grains that must be in the cup at the end."""
CUP_TILT = math.radians(15.0)
"""Largest angle by which the cup may ever lean."""
BOTTLE_TILT = math.radians(5.0)
"""Largest angle by which the bottle may lean at the end."""
CUP_SHIFT = 0.03
"""Largest distance by which the cup may be moved [m]."""
REST_S = 0.4
"""How long everything must stand still and untouched at the end [s]."""
STILL = 0.06
"""Speed of a grain [m/s] below which it is at rest."""
_PHRASES = Phrases(
    streamed=(
        "Pour the {drink} from the bottle into the cup.",
        "Hold the cup and fill it with {drink} from the bottle.",
        "Empty the bottle into the cup, then set it down.",
        "Fill the cup with the {drink} in the bottle.",
    ),
    held_out=(
        "The {drink} belongs into the cup: pour it without spilling.",
        "Serve a cup of {drink} out of the bottle.",
    ),
)
_DRINKS = {
    "water": (0.25, 0.55, 0.90, 1.0),
    "juice": (0.95, 0.60, 0.12, 1.0),
    "milk": (0.95, 0.94, 0.90, 1.0),
    "tea": (0.58, 0.32, 0.12, 1.0),
}
_COUNTS = (32, 40)
_RADIUS = 0.0045
_BOTTLE_X, _BOTTLE_Y = (-0.10, 0.08), (0.08, 0.26)
_CUP_X, _CUP_Y = (-0.08, 0.08), (-0.14, 0.02)


class PourWater:
    """A bottle with 32 or 40 grains in 0.18 x 0.18 m on either arm's side, and a cup in 0.16 x 0.16 m beside it, with any yaw."""

    name = "pour_water"
    needs = Needs(arms=2, opening=0.062, finger_length=0.03)

    def __init__(self, recovery: RecoveryConfig | None = None, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """An open, filled bottle within reach of the arm that will pour, and an empty cup."""
        pourer, holder = (("left", "right"), ("right", "left"))[int(rng.integers(2))]
        drink = list(_DRINKS)[int(rng.integers(len(_DRINKS)))]
        count = _COUNTS[int(rng.integers(len(_COUNTS)))]

        def across(limits: Range) -> Range:
            return limits if pourer == "left" else (-limits[1], -limits[0])

        objects = (
            _vessel("bottle", "carafe", pourer, _BOTTLE_X, across(_BOTTLE_Y)),
            _vessel("cup", "cup", holder, _CUP_X, across(_CUP_Y)),
        )
        request = SceneRequest(
            instruction=_PHRASES.draw(rng, self._held_out, drink=drink),
            objects=objects,
            filling=Filling(role="bottle", count=count, radius=_RADIUS, color=_DRINKS[drink]),
        )
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Takes cup and bottle, pours, and sets the bottle back; continues with what is left to do when an attempt fails."""
        hands = Hand.all_of(robot, state, _GENTLE)
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, miss), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> PourWaterGrader:
        """A fresh grader for `scene`."""
        return PourWaterGrader(scene)


def _vessel(role: str, category: str, arm: str, x: Range, y: Range) -> ObjectRequest:
    """An upright vessel whose mouth an arm reaches, with room around it for a hand that comes from the side."""
    return ObjectRequest(role=role, category=category, x=x, y=y, reach=("mouth",), arms=(arm,), margin=_ROOM)


def arms_of(scene: Scene) -> tuple[str, str]:
    """Names of the arm that pours and of the arm that holds the cup. The bottle stands on the side of the one that pours."""
    left = scene.object("bottle").pose.position[1] > scene.object("cup").pose.position[1]
    return ("left", "right") if left else ("right", "left")


# -------------------------------------------------------------------------------------------------------------- expert

_GENTLE = HandConfig(limits=Limits(joint_speed=1.4, joint_acceleration=5.0, linear_speed=0.3, angular_speed=1.5))
"""Vessels are moved slowly: a bottle that swings between the fingers catches one of them with its shoulder, with up to 106 N."""

_ROOM = 0.02
"""Room kept free around each vessel at the start [m]."""
_POUR = PourConfig()
_TRIES = 3
"""Number of ways to hold the cup that are tried."""
_RAISE_CUP, _RAISE_BOTTLE = (0.08, 0.05), (0.10, 0.07)
"""Heights to which cup and bottle may be lifted [m]; the first from which pouring is possible is taken."""


def _attempt(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance) -> Attempting:
    """Does what is left to do: takes both vessels, pours, and sets both down."""
    pourer, holder = (next(hand for hand in hands if hand.name == name) for name in arms_of(scene))
    problem = ""
    if missing(scene, state):
        if not (_in(pourer, state, "bottle") and _in(holder, state, "cup")):
            problem, state = yield from _take(pourer, holder, scene, state, miss)
        if not problem:
            problem, state = yield from _fill(pourer, holder, scene, state)
        if problem:
            return Attempt(state=state, failure=problem)
    held = [(hand, role) for hand, role in ((holder, "cup"), (pourer, "bottle")) if _in(hand, state, role)]
    state = yield from together(state, *(put_back(hand, scene, state, role) for hand, role in held))
    state = yield from wait(pourer, state, REST_S)
    return Attempt(state=state, failure=missing(scene, state))


def _in(hand: Hand, state: WorldState, role: str) -> bool:
    return hand.opening < 0.95 * hand.open and holds(hand, state, role)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """How both vessels are taken, and how far they are lifted [m]; `cup` is None for a cup that is held already."""

    cup: Taking | None
    raise_cup: float
    bottle: Taking
    raise_bottle: float


def _take(
    pourer: Hand, holder: Hand, scene: Scene, state: WorldState, miss: Disturbance
) -> Generator[Step, WorldState, tuple[str, WorldState]]:
    """Each hand takes its vessel, at the same time where they do not collide, and lifts it."""
    try:
        plan = _plan(pourer, holder, scene, state, miss)
    except MotionError:
        out = [hand for hand, role in ((pourer, "bottle"), (holder, "cup")) if not (hand.at_home or _in(hand, state, role))]
        if not out:
            raise
        for hand in out:
            state = yield from go_home(hand, state)
        plan = _plan(pourer, holder, scene, state, miss)
    if plan.cup is None:
        state = yield from take(plan.bottle, pourer, state, "bottle")
    elif apart(holder, plan.cup.path, pourer, plan.bottle.path):
        both = take(plan.cup, holder, state, "cup"), take(plan.bottle, pourer, state, "bottle")
        state = yield from together(state, *both)
    else:
        state = yield from take(plan.cup, holder, state, "cup")
        state = yield from take(plan.bottle, pourer, state, "bottle")
    if not holds(holder, state, "cup"):
        return "the fingers closed without the cup between them", state
    if not holds(pourer, state, "bottle"):
        return "the fingers closed without the bottle between them", state
    lifting = [lift(pourer, state, plan.raise_bottle)]
    if plan.cup is not None:
        lifting.append(lift(holder, state, plan.raise_cup))
    state = yield from together(state, *lifting)
    lost = [role for hand, role in ((pourer, "bottle"), (holder, "cup")) if not holds(hand, state, role)]
    return (f"the {lost[0]} slipped while it was lifted" if lost else ""), state


def _plan(pourer: Hand, holder: Hand, scene: Scene, state: WorldState, miss: Disturbance) -> _Plan:
    """Grasps of cup and bottle from which the bottle can be emptied into the cup."""
    bottle, cup = (Standing.of(scene, state, role) for role in ("bottle", "cup"))
    failure = MotionError(f"the {holder.name} arm has no way to hold the cup; move it nearer")
    if _in(holder, state, "cup"):
        holding: list[tuple[Taking | None, Floats, float]] = [(None, holder.joints, 0.0)]
    else:
        takes = list(takings(holder, cup, (bottle,), most=_TRIES))
        holding = [(taking, taking.descent[-1], height) for height in _RAISE_CUP for taking in takes]
    for held, gripping, raised in holding:
        beside = pourer.imagined((holder, gripping))
        try:
            there = _raised(holder, gripping, raised)
        except MotionError as error:
            failure = error
            continue
        other, later = pourer.imagined((holder, there)), holder.imagined(joints=there)
        up = replace(cup, pose=moved(cup.pose, (0.0, 0.0, raised)))
        for taking, height in itertools.product(takings(beside, bottle, (cup,)), _RAISE_BOTTLE):
            try:
                plan_pour(other, _raised(beside, taking.descent[-1], height), taking.held, bottle, up, later, _POUR)
            except MotionError as error:
                failure = error
                continue
            found = _Plan(cup=held, raise_cup=raised, bottle=taking, raise_bottle=height)
            for missed in takings(beside, bottle, (cup,), _astray(pourer, miss, bottle), most=1) if miss != UNDISTURBED else ():
                return replace(found, bottle=missed)
            return found
    raise failure


def _raised(hand: Hand, joints: Floats, height: float) -> Floats:
    """Joints [rad] after the hand has lifted straight up by `height` [m]."""
    return hand.route([Waypoint(pose=moved(hand.chain.pose(joints), (0.0, 0.0, height)))], joints)[-1] if height else joints


def _astray(hand: Hand, miss: Disturbance, bottle: Standing) -> tuple[Vec3, ...]:
    """Offsets of a disturbed grip [m] in the tip's frame, whose X axis points up: over the bottle, or short of it."""
    over = bottle.height - bottle.grip + hand.fingers.half_width + 0.01 + miss.by
    short = (0.0, 0.0, -(bottle.radius + hand.fingers.below + miss.by))
    return (short,) if miss.miss.value == "above" else ((over, 0.0, 0.0), (-over, 0.0, 0.0), short)


def _fill(pourer: Hand, holder: Hand, scene: Scene, state: WorldState) -> Generator[Step, WorldState, tuple[str, WorldState]]:
    """Brings the bottle over the cup, empties it, and brings it back to above its initial place."""
    bottle, cup = (Standing.of(scene, state, role) for role in ("bottle", "cup"))
    held = tip_from_object(pourer, scene, state, "bottle")
    try:
        way = plan_pour(pourer, pourer.joints, held, bottle, cup, holder, _POUR)
    except MotionError as error:
        state = yield from put_back(pourer, scene, state, "bottle")
        return f"the bottle was put back: {error}", state
    state = yield from follow(pourer, state, way.carry)
    if not holds(pourer, state, "bottle"):
        return "the bottle slipped while it was carried", state
    state = yield from pour(pourer, state, way, _POUR)
    state = yield from follow(pourer, state, pourer.retrace(way.carry))
    if not holds(pourer, state, "bottle"):
        return "the bottle slipped while it was carried back", state
    return "", state


# -------------------------------------------------------------------------------------------------------------- grader


def missing(scene: Scene, state: WorldState) -> str:
    """Describes what is missing in the cup; "" when enough grains are in it."""
    inside = int(within(scene, state, "cup").sum())
    total = len(scene.grains.positions)
    if inside < SHARE * total:
        return f"{inside} of {total} grains are in the cup, {math.ceil(SHARE * total)} needed"
    return ""


class PourWaterGrader(Judge):
    """Success: the grains flowed through the mouths of the bottle, in one hand, and of the cup, in the other, and rest there.

    Neither vessel was dropped, thrown or pushed, the cup never leaned, and both stand untouched at the end.
    """

    def __init__(self, scene: Scene) -> None:
        stands = ("table", "grains")
        self._bottle = Custody(scene, "bottle", CustodyConfig(support="table", push=0.04, fall=0.010, rests_on=stands))
        self._cup = Custody(scene, "cup", CustodyConfig(support="table", push=CUP_SHIFT, rests_on=stands))
        self._flow = Flow(scene, "bottle", "cup")
        self._leaned = 0.0
        super().__init__(scene, (self._bottle, self._cup))

    @property
    def done(self) -> str:
        """The reason given for a success: how much was poured."""
        return f"{self._flow.arrived} of {len(self._scene.grains.positions)} grains were poured into the cup"

    def _follow(self, state: WorldState) -> None:
        self._flow.observe(state)
        self._leaned = max(self._leaned, self._cup.tilt)

    def _forgive(self, things: tuple[Custody, ...]) -> None:
        if self._cup in things:
            self._leaned = self._cup.tilt

    def _missing(self, state: WorldState) -> str:
        total, poured = len(self._scene.grains.positions), self._flow.arrived
        needed = math.ceil(SHARE * total)
        if self._leaned > CUP_TILT:
            return f"the cup leaned by {math.degrees(self._leaned):.0f} degrees, {math.degrees(CUP_TILT):.0f} allowed"
        if not (self._bottle.touched and self._cup.touched):
            return f"the robot never touched the {'cup' if self._bottle.touched else 'bottle'}"
        if wanting := missing(self._scene, state):
            return wanting
        if poured < needed:
            return f"only {poured} of {total} grains flowed from the held bottle into the held cup, {needed} needed"
        if self._bottle.tilt > BOTTLE_TILT:
            return f"the bottle leans by {math.degrees(self._bottle.tilt):.0f} degrees at the end"
        if unrest := self._unrest(REST_S, "bottle and cup", "stood"):
            return unrest
        speed = float(np.abs(state.grain_velocities[within(self._scene, state, "cup")]).max(initial=0.0))
        return f"grains in the cup still move at {speed:.2f} m/s" if speed > STILL else ""

    def _progress(self, state: WorldState) -> float:
        return 0.9 * self._flow.arrived / max(len(self._scene.grains.positions), 1)
