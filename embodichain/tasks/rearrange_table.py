"""rearrange_table: lay two pieces of cutlery on the sides of the plate that the instruction names, aligned with each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, largest
from embodichain.motion.outlines import gap, outline_of, outlines, room_for_fingers
from embodichain.motion.transfer import Transfer, has_room, object_pose, transfer
from embodichain.protocols import Expert
from embodichain.recovery.config import Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import FINGERS, Fingers, ObjectRequest, Pose, Robot, Scene, SceneRequest, WorldState
from embodichain.types.poses import compose, wrap, yaw_of, yaw_pose

PIECES = ("fork", "knife", "spoon")
SIDES = ("left", "right")
"""Roles of the two pieces: the side of the plate where each belongs, as the robot sees it; its left is +Y."""
LARGEST_GAP, FURTHEST_ALONG = 0.09, 0.045
"""Widest gap between a piece and the plate's edge, and largest offset of its centre before or behind the plate's [m]."""
YAW_TOLERANCE = math.radians(15.0)
"""Largest angle [rad] between a piece and the direction away from the robot, with its head at either end."""
PLATE_SHIFT = 0.015
"""Largest distance by which the plate may be moved [m]."""
REST_S = 0.5
"""How long everything must lie still and untouched at the end [s]."""
_ROOM = 0.02
"""Room kept free around each piece at the start [m], for a finger beside its handle."""
INSTRUCTIONS = Phrases(
    streamed=(
        "Lay the table: {left} to the left of the plate, {right} to the right.",
        "Put the {left} on the left side of the plate and the {right} on its right side.",
        "Place the {right} right of the plate and the {left} left of it, lined up.",
        "Arrange the {left} and the {right} beside the plate, the {left} on the left.",
    ),
    held_out=(
        "Set a place with the {left} left and the {right} right of the plate.",
        "The {right} belongs to the right of the plate, the {left} to its left: tidy up.",
    ),
)


class RearrangeTable:
    """A plate within 0.14 x 0.12 m of the middle, and two of fork, knife and spoon in 0.30 x 0.40 m around it, with any yaw."""

    name = "rearrange_table"
    needs = Needs(opening=0.012, finger_length=0.015)

    def __init__(self, recovery: RecoveryConfig | None = None, *, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """The plate, and the two pieces, whose roles are the sides where they belong."""
        left, right = (PIECES[int(index)] for index in rng.choice(len(PIECES), 2, replace=False))
        instruction = INSTRUCTIONS.draw(rng, self._held_out, left=left, right=right)
        objects = (
            ObjectRequest(role="plate", category="plate", x=(-0.09, 0.05), y=(-0.06, 0.06)),
            ObjectRequest(role="left", category=left, reach=("grasp",), margin=_ROOM),
            ObjectRequest(role="right", category=right, reach=("grasp",), margin=_ROOM),
        )
        request = SceneRequest(instruction=instruction, objects=objects)
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Carries each piece to its side, first the one whose place is free; restarts from the present state when that fails."""
        hands = Hand.all_of(robot, state)
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, miss), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> RearrangeTableGrader:
        """A fresh grader for `scene`."""
        return RearrangeTableGrader(scene)


# -------------------------------------------------------------------------------------------------------------- expert

_GRIP_HEIGHT = 0.0168
"""Least height of a tip [m] whose fingers are those of the built-in platform, which extend a centimetre below it."""
_GRIPS = (0.0, 0.018, -0.018)
"""Offsets along the handle at which it may be held [m]."""
_BESIDE = (0.046, 0.060, 0.074, 0.088)
"""Distances [m] of a piece's centre line from the plate's edge that the expert chooses from."""
_ALONG = (0.0, 0.015, -0.015, 0.03, -0.03)
"""Offsets before or behind the plate's centre [m] that the expert chooses from."""
_ASIDE_X, _ASIDE_Y = (-0.16, -0.08, 0.0, 0.08, 0.14), (0.0, 0.08, -0.08, 0.14, -0.14, 0.2, -0.2)
_HANDLE_HALF = 0.012
_MIDDLE = 0.09
"""Largest distance from the middle of the table that both hands reach, to either side [m]."""
_APART, _ELSEWHERE = 0.015, 0.06
"""Least distance of a piece put out of the way from everything else, and from its previous place [m]."""
_MOST_MOVES = 5
"""Each piece to the middle and on to its place, and one move of a piece that was in the way."""


def _attempt(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance) -> Attempting:
    """Carries every piece that is not in its place there."""
    size = largest(hands)
    above = _grip_height(size) + size.below
    shift = (0.0, miss.aside(_HANDLE_HALF + 0.022), -miss.above(above)) if miss.by else (0.0, 0.0, 0.0)
    for _ in range(_MOST_MOVES):
        waiting = [side for side in SIDES if misplaced(scene, state, side)]
        if not waiting:
            break
        failure = MotionError("no piece can be laid where it belongs or out of the way; the table is too full")
        for move in _moves(scene, state, waiting, size):
            try:
                problem, state = yield from transfer(hands, scene, state, move, shift)
                break
            except MotionError as error:
                failure = error
        else:
            raise failure
        if problem:
            return Attempt(state=state, failure=problem)
        shift = (0.0, 0.0, 0.0)
    return Attempt(state=state, failure=" and ".join(filter(None, (misplaced(scene, state, side) for side in SIDES))))


def _moves(scene: Scene, state: WorldState, waiting: Sequence[str], size: Fingers) -> Iterator[Transfer]:
    """Candidates for the next transfer, best first: a piece to its place if the other piece stays accessible; else to the middle.

    Both hands reach the middle, so the piece can be carried on from there. Places further out are the last resort.
    """
    for wanted in (_goals, _near_spots, _spots):
        crowding: list[Transfer] = []
        for side in waiting:
            here, present = object_pose(scene, state, side), outlines(scene, state, (side,))
            goals = wanted(scene, state, side)
            others = [other for other in waiting if other != side]
            leaving = tuple(goal for goal in goals if all(_leaves_room(scene, state, side, goal, other, size) for other in others))
            asset = scene.object(side).asset
            if leaving and has_room(move := _transfer(scene, side, leaving, size), asset, here, list(present.values()), size):
                yield move
            elif len(leaving) < len(goals):
                move = _transfer(scene, side, goals, size)
                crowding += [move] if has_room(move, asset, here, list(present.values()), size) else []
        yield from crowding


def _leaves_room(scene: Scene, state: WorldState, side: str, goal: Pose, other: str, size: Fingers) -> bool:
    """Whether fingers still have room around the other piece once this one lies at `goal`."""
    moved = outline_of(scene.object(side).asset, goal)
    standing = [moved, *outlines(scene, state, (side, other)).values()]
    task, here = _transfer(scene, other, (), size), object_pose(scene, state, other)
    return any(room_for_fingers(compose(here, grip), task.opening, size, standing) >= task.clearance for grip in task.grips)


def _near_spots(scene: Scene, state: WorldState, side: str) -> tuple[Pose, ...]:
    """The places that both hands reach."""
    return tuple(spot for spot in _spots(scene, state, side) if abs(spot.position[1]) <= _MIDDLE)


def _spots(scene: Scene, state: WorldState, side: str) -> tuple[Pose, ...]:
    """Poses elsewhere on the table, clear of both places beside the plate and of everything that lies there."""
    asset, here = scene.object(side).asset, object_pose(scene, state, side)
    places = [outline_of(scene.object(which).asset, _goals(scene, state, which)[0]) for which in SIDES]
    present = outlines(scene, state, (side,)).values()
    found = []
    for x, y, yaw in itertools.product(_ASIDE_X, _ASIDE_Y, (0.0, math.pi / 2)):
        spot = yaw_pose(x, y, 0.0, yaw)
        lying = outline_of(asset, spot)
        clear = all(gap(lying, place) > 0.04 for place in places) and all(gap(lying, thing) > _APART for thing in present)
        if clear and math.dist(spot.position, here.position) > _ELSEWHERE:
            found.append(spot)
    return tuple(sorted(found, key=lambda spot: abs(spot.position[1])))


def _grip_height(size: Fingers) -> float:
    """Least height of a tip [m] with fingers of a size."""
    return _GRIP_HEIGHT + (size.below - FINGERS.below)


def _transfer(scene: Scene, side: str, goals: tuple[Pose, ...], size: Fingers) -> Transfer:
    grip = affordance(scene.object(side).asset, "grasp", Pose())
    up = min(grip.position[2] - _grip_height(size), 0.0)
    grips = tuple(compose(grip, Pose(position=(along, 0.0, up))) for along in _GRIPS)
    return Transfer(role=side, grips=grips, goals=goals, opening=0.026, clearance=0.002)


def _goals(scene: Scene, state: WorldState, side: str) -> tuple[Pose, ...]:
    """Poses beside the plate, nearest first, with the head away from the robot or towards it."""
    plate = object_pose(scene, state, "plate")
    radius = float(scene.object("plate").asset.bounds[1, 1])
    sense = 1.0 if side == "left" else -1.0
    return tuple(
        yaw_pose(plate.position[0] + along, plate.position[1] + sense * (radius + beside), 0.0, yaw)
        for beside, along, yaw in itertools.product(_BESIDE, _ALONG, (0.0, math.pi))
    )


# -------------------------------------------------------------------------------------------------------------- grader

_CUTLERY = CustodyConfig(lift=0.015, push=0.03, rests_on=("table",))


def misplaced(scene: Scene, state: WorldState, side: str) -> str:
    """Describes what is wrong with a piece's place; "" when nothing is."""
    present = outlines(scene, state)
    piece, plate = present[side], present["plate"]
    across = np.array((0.0, 1.0 if side == "left" else -1.0))
    apart = piece.span(across)[0] - plate.span(across)[1]
    if apart < 0.0:
        return f"the piece for the {side} does not lie on the {side} of the plate"
    if apart > LARGEST_GAP:
        return f"the piece on the {side} lies {1e3 * apart:.0f} mm from the plate, {1e3 * LARGEST_GAP:.0f} mm allowed"
    ahead = np.array((1.0, 0.0))
    along = abs(sum(piece.span(ahead)) - sum(plate.span(ahead))) / 2
    if along > FURTHEST_ALONG:
        return f"the piece on the {side} lies {1e3 * along:.0f} mm before or behind the plate's middle"
    turned = abs(wrap(2 * yaw_of(object_pose(scene, state, side).quaternion))) / 2
    if turned > YAW_TOLERANCE:
        return f"the piece on the {side} is turned by {math.degrees(turned):.0f} degrees, not lined up"
    return ""


class RearrangeTableGrader(Judge):
    """Success: both pieces were carried, none was dropped, thrown or pushed, and they rest beside a plate that stayed in place."""

    done = "both pieces lie on their sides of the plate"

    def __init__(self, scene: Scene) -> None:
        self._pieces = [Custody(scene, side, _CUTLERY) for side in SIDES]
        self._plate = Custody(scene, "plate", CustodyConfig(push=PLATE_SHIFT))
        super().__init__(scene, (*self._pieces, self._plate))

    def _missing(self, state: WorldState) -> str:
        if not any(piece.touched for piece in self._pieces):
            return "the robot never touched the cutlery"
        if self._plate.moved > PLATE_SHIFT:
            return f"the plate was moved by {1e3 * self._plate.moved:.0f} mm, {1e3 * PLATE_SHIFT:.0f} mm allowed"
        for side in SIDES:
            if wrong := misplaced(self._scene, state, side):
                return wrong
        if self._plate.tilt > math.radians(5.0) or max(piece.tilt for piece in self._pieces) > math.radians(20.0):
            return "a piece lies on something, or on its side"
        return self._unrest(REST_S, "everything")

    def _progress(self, state: WorldState) -> float:
        return 0.45 * sum(piece.lifted > _CUTLERY.lift for piece in self._pieces)
