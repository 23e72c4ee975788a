"""stack_bowls: nest the bowls in one upright stack, each set gently into the one below."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, HandConfig, largest, moved
from embodichain.motion.handling import object_pose, over, pick, put_back, set_down, tallest, tip_from_object, turns
from embodichain.motion.skills import follow, holds
from embodichain.protocols import Expert
from embodichain.recovery.config import Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import Asset, ObjectRequest, Pose, Robot, Scene, SceneRequest, Step, WorldState
from embodichain.types.poses import compose, turn, yaw_of, yaw_pose

REST_S = 0.5
"""How long the stack must stand still and untouched at the end [s]."""
TILT_TOLERANCE = math.radians(12.0)
"""Largest angle [rad] between a bowl's axis and the vertical."""
CENTER_TOLERANCE = 0.012
"""Largest horizontal distance between the axes of a bowl and of the one below [m]."""
NEST_DEPTH = 0.010
"""Least depth of a bowl's foot below the rim of the bowl under it [m]."""
_PHRASES = Phrases(
    streamed=(
        "Stack the bowls.",
        "Put the bowls into one another.",
        "Make one stack of the {number} bowls.",
        "Nest the bowls in a single pile.",
    ),
    held_out=("Pile the {number} bowls up.", "Tidy the bowls into one tower, each inside the next."),
)
_COLORS = (
    (0.80, 0.22, 0.20, 1.0),
    (0.20, 0.42, 0.75, 1.0),
    (0.24, 0.60, 0.34, 1.0),
    (0.93, 0.76, 0.26, 1.0),
    (0.90, 0.88, 0.84, 1.0),
)


class StackBowls:
    """Two or three bowls anywhere in 0.30 x 0.40 m of the table; either arm may take each."""

    name = "stack_bowls"
    needs = Needs(opening=0.01, finger_length=0.02, finger_thickness=0.05)

    def __init__(self, recovery: RecoveryConfig | None = None, held_out: bool = False, numbers: tuple[int, ...] = (2, 3)) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out
        self._numbers = numbers

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """Bowls of different colours; any of them may become the lowest."""
        number = self._numbers[int(rng.integers(len(self._numbers)))]
        colors = [_COLORS[int(index)] for index in rng.choice(len(_COLORS), number, replace=False)]
        objects = tuple(
            ObjectRequest(role=f"bowl{index + 1}", category="bowl", color=color, reach=("grasp",))
            for index, color in enumerate(colors)
        )
        words = {2: "two", 3: "three"}
        request = SceneRequest(
            instruction=_PHRASES.draw(rng, self._held_out, number=words.get(number, str(number))), objects=objects
        )
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Carries every other bowl onto the one that stays; continues from the present state when that fails."""
        hands = Hand.all_of(robot, state, HandConfig(squeeze=_SQUEEZE))
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, miss), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> StackBowlsGrader:
        """A fresh grader for `scene`."""
        return StackBowlsGrader(scene)


def bowls(scene: Scene) -> tuple[str, ...]:
    """Roles of all bowls in the scene."""
    return tuple(placed.role for placed in scene.objects)


# -------------------------------------------------------------------------------------------------------------- expert

_GRIP_DEPTH = 0.010
"""Depth below the rim at which a bowl is held [m]: less than possible, so that the fingers stay clear of the bowl below."""
_RIM_ROOM = 0.001
"""Room [m] for the ends of the fingers between the rim of a bowl in their grip and that of the bowl it stands in."""
_SQUEEZE = 0.012
"""Depth inside a bowl's wall to which the fingers close [m]: 24 N. At 30 N they press with up to 47 N on a bowl that swings."""
_OPENING, _WIDER, _PRESS = 0.030, 0.020, 2.0
_CLEAR, _DROOP = 0.010, 0.018
"""Height at which a bowl passes above the rims of others [m], and the most that one side of it may sink meanwhile."""
_GRIPS, _TURNS = 12, 12
"""Number of grasps around the rim, and number of yaws at which a bowl is set down."""


def _attempt(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance) -> Attempting:
    """Sets the bowls that are not in the stack yet into it, from the bottom up."""
    failure: MotionError | None = None
    for order in _orders(scene, state, _GRIP_DEPTH + largest(hands).below + _RIM_ROOM):
        try:
            for number in range(1, len(order)):
                below, upper = order[:number], order[number]
                if not unstacked(scene, state, below[-1], upper):
                    continue
                problem, state = yield from _nest(hands, scene, state, below, upper, miss)
                miss = Disturbance()
                if problem:
                    return Attempt(state=state, failure=problem)
                failure = None
        except MotionError as error:
            failure = error
            continue
        return Attempt(state=state, failure=next(iter(_faults(scene, state)), ""))
    assert failure is not None
    raise failure


def _nest(
    hands: Sequence[Hand], scene: Scene, state: WorldState, below: tuple[str, ...], upper: str, miss: Disturbance
) -> Generator[Step, WorldState, tuple[str, WorldState]]:
    """Takes `upper` anywhere around its rim and sets it into the top bowl of the stack, at the easiest yaw."""
    lower, asset, size = scene.object(below[-1]).asset, scene.object(upper).asset, largest(hands)
    base = object_pose(scene, state, below[-1])
    x, y, z = base.position
    goals = turns(yaw_pose(x, y, z + nested_height(lower, asset), yaw_of(base.quaternion)), _TURNS)
    rim_grip = affordance(asset, "grasp", Pose())
    grip = moved(rim_grip, (0.0, 0.0, _height(asset) - _GRIP_DEPTH - rim_grip.position[2]))
    around = [compose(Pose(quaternion=turn((0.0, 0.0, 1.0), 2 * math.pi * k / _GRIPS)), grip) for k in range(_GRIPS)]
    astray = miss.offsets(float(asset.bounds[1, 0]) + size.half_width, _GRIP_DEPTH + size.below)

    rim = z + _height(lower) + _CLEAR
    floor = max(rim, tallest(scene, state, (upper,)))

    def onward(hand: Hand, start: Floats, held: Pose) -> tuple[Floats, Pose]:
        return over(hand, start, held, asset, goals, (rim - goals[0].position[2],), floor=floor)

    problem, hand, state = yield from pick(
        hands, scene, state, upper, around, onward, lift=floor + _DROOP, opening=_OPENING, astray=astray
    )
    if problem:
        return problem, state
    try:
        way, goal = onward(hand, hand.joints, tip_from_object(hand, scene, state, upper))
    except MotionError as error:
        state = yield from put_back(hand, scene, state, upper)
        return f"{upper} was put back: {error}", state
    state = yield from follow(hand, state, way)
    if not holds(hand, state, upper):
        return f"{upper} slipped while it was carried", state
    state = yield from set_down(hand, scene, state, upper, goal, f"{below[-1]}/", press=_PRESS, wider=_WIDER)
    return "", state


def _orders(scene: Scene, state: WorldState, rim_gap: float) -> Iterator[tuple[str, ...]]:
    """Orders of the stack, bottom first; best are partly built ones, then those with room for the fingers, then wide bases.

    Fingers have room where a bowl's rim stands `rim_gap` [m] above the rim of the bowl it stands in.
    """
    ranked = []
    for order in itertools.permutations(bowls(scene)):
        pairs = list(itertools.pairwise([scene.object(role).asset for role in order]))
        room = min(nested_height(lower, upper) + _height(upper) - _height(lower) for lower, upper in pairs)
        made = sum(not unstacked(scene, state, lower, upper) for lower, upper in itertools.pairwise(order))
        widths = sum(max(float(upper.bounds[1, 0] - lower.bounds[1, 0]), 0.0) for lower, upper in pairs)
        ranked.append((-made, room < rim_gap, widths, order))
    ranked.sort(key=lambda entry: entry[:3])
    return (entry[3] for entry in ranked)


def _height(asset: Asset) -> float:
    return float(asset.bounds[1, 2])


@lru_cache(maxsize=64)
def nested_height(lower: Asset, upper: Asset) -> float:
    """Height [m] of the foot of `upper` above that of `lower` when it is nested upright in it: where hulls touch first."""
    reach = min(float(asset.bounds[1, 0]) for asset in (lower, upper))
    x, y = np.meshgrid(*[np.linspace(-reach, reach, 33)] * 2)
    columns = np.stack([x.ravel(), y.ravel()], axis=1)[np.hypot(x, y).ravel() < reach]
    return float(np.max(_surface(lower, columns, 1.0) - _surface(upper, columns, -1.0)))


def _surface(asset: Asset, columns: np.ndarray, side: float) -> np.ndarray:
    """Height [m] of the highest (+1) or lowest (-1) point of an asset's hulls over each column [N, 2]; else infinite."""
    heights = np.full(len(columns), -side * np.inf)
    for body in asset.bodies:
        for hull in body.hulls:
            planes = ConvexHull(hull.vertices).equations  # n . p + d <= 0 inside
            level = -(planes[:, 3] + columns @ planes[:, :2].T)
            steep = np.abs(planes[:, 2]) < 1e-9
            bounds = level / np.where(steep, 1.0, planes[:, 2])
            top = np.where(~steep & (planes[:, 2] > 0), bounds, np.inf).min(axis=1)
            bottom = np.where(~steep & (planes[:, 2] < 0), bounds, -np.inf).max(axis=1)
            over = (top >= bottom) & (level[:, steep] >= 0).all(axis=1)
            extreme = top if side > 0 else bottom
            heights[over] = side * np.maximum(side * heights[over], side * extreme[over])
    return heights


# -------------------------------------------------------------------------------------------------------------- grader


def unstacked(scene: Scene, state: WorldState, lower: str, upper: str) -> str:
    """Why one bowl is not nested in another; "" when it is."""
    above, below = object_pose(scene, state, upper), object_pose(scene, state, lower)
    if not state.touching(f"{upper}/", f"{lower}/") or state.touching(f"{upper}/", "table"):
        return f"{upper} does not stand in {lower}"
    aside = math.dist(above.position[:2], below.position[:2])
    if aside > CENTER_TOLERANCE:
        return f"{upper} stands {1e3 * aside:.0f} mm beside the middle of {lower}, {1e3 * CENTER_TOLERANCE:.0f} mm allowed"
    depth = below.position[2] + _height(scene.object(lower).asset) - above.position[2]
    if depth < NEST_DEPTH:
        return f"{upper} stands only {1e3 * depth:.0f} mm deep in {lower}, {1e3 * NEST_DEPTH:.0f} mm needed"
    return ""


def _faults(scene: Scene, state: WorldState) -> list[str]:
    """Describes what is missing for one stack: the faults of the order that comes nearest to it."""
    stacks = (
        [fault for lower, upper in itertools.pairwise(order) if (fault := unstacked(scene, state, lower, upper))]
        for order in itertools.permutations(bowls(scene))
    )
    return min(stacks, key=len)


class StackBowlsGrader(Judge):
    """Success: every bowl that moved was carried, none was dropped, thrown or pushed, and they stand nested and at rest."""

    done = "the bowls stand nested in one stack"

    def __init__(self, scene: Scene) -> None:
        roles = bowls(scene)
        config = CustodyConfig(fall=0.010, push=0.06, rests_on=("table", *roles))
        super().__init__(scene, [Custody(scene, role, config) for role in roles])

    def _missing(self, state: WorldState) -> str:
        if not any(bowl.touched for bowl in self._things):
            return "the robot never touched a bowl"
        if faults := _faults(self._scene, state):
            return faults[0]
        if sum(bowl.lifted > 0.02 for bowl in self._things) < len(self._things) - 1:
            return "two fingers did not hold all but one of the bowls up"
        tilt = max(bowl.tilt for bowl in self._things)
        if tilt > TILT_TOLERANCE:
            return f"a bowl leans by {math.degrees(tilt):.0f} degrees"
        return self._unrest(REST_S, "the bowls", "stood")

    def _progress(self, state: WorldState) -> float:
        others = len(self._things) - 1
        return 0.9 * max(others - len(_faults(self._scene, state)), 0) / max(others, 1)
