"""rank_blocks_by_size: set three blocks in a row, by size, in the direction that the instruction names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, largest
from embodichain.motion.outlines import Outline, outline_of, outlines
from embodichain.motion.transfer import Transfer, flips, has_room, object_pose, transfer
from embodichain.protocols import Expert
from embodichain.recovery.config import Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import Fingers, ObjectRequest, Pose, Robot, Scene, SceneRequest, WorldState
from embodichain.types.poses import yaw_pose

ROLES = ("left", "middle", "right")
"""The place of each block in the row as the robot sees the table: its left is +Y."""
LINE_TOLERANCE = 0.02
"""Largest distance of a block's centre from the line through all of them [m]."""
HEADING_TOLERANCE = math.radians(45.0)
"""Largest angle between the row and straight across in front of the robot [rad]."""
LARGEST_GAP, UNEVEN = 0.06, 0.015
"""Widest gap between neighbours [m], and most by which the two gaps may differ [m]."""
SIZE_STEP = 0.0035
"""Least difference [m] in size between two blocks, large enough to be seen."""
REST_S = 0.5
"""How long the blocks must lie in their row untouched at the end [s]."""
_INSTRUCTIONS = Phrases(
    streamed=(
        "Arrange the three blocks in a row from left to right, from the {first} to the {last}.",
        "Line up the blocks by size, the {first} one on the left and the {last} one on the right.",
        "Sort the blocks into a row by size that begins on the left with the {first}.",
        "Put the blocks side by side in order of size, {first} on the left.",
    ),
    held_out=(
        "Rank the blocks by size, {first} on the left, {last} on the right.",
        "Make a row of the three cubes, ordered from the {first} at the left end to the {last} at the right end.",
    ),
)
_COLORS = (
    (0.78, 0.16, 0.15, 1.0),
    (0.14, 0.33, 0.76, 1.0),
    (0.16, 0.58, 0.27, 1.0),
    (0.92, 0.77, 0.16, 1.0),
    (0.48, 0.22, 0.62, 1.0),
)


class RankBlocksBySize:
    """Three blocks of different sizes anywhere in 0.30 x 0.40 m of the table, with any yaw; either arm may take each."""

    name = "rank_blocks_by_size"
    needs = Needs(opening=0.049, finger_length=0.025)

    def __init__(self, recovery: RecoveryConfig | None = None, *, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """Three blocks. Roles are places in the row, so the sizes of the assets follow from the instruction."""
        growing = rng.random() < 0.5
        first, last = ("smallest", "largest") if growing else ("largest", "smallest")
        instruction = _INSTRUCTIONS.draw(rng, self._held_out, first=first, last=last)
        colors = [_COLORS[int(index)] for index in rng.choice(len(_COLORS), len(ROLES), replace=False)]
        objects = tuple(
            ObjectRequest(role=role, category="block", color=color, reach=("grasp",))
            for role, color in zip(ROLES, colors, strict=True)
        )
        ascending = ROLES if growing else ROLES[::-1]
        request = SceneRequest(instruction=instruction, objects=objects, ascending=ascending, size_step=SIZE_STEP)
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Leaves one block where it is and sets the others beside it; restarts from the present state when that fails."""
        hands = Hand.all_of(robot, state)
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, miss), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> RankBlocksGrader:
        """A fresh grader for `scene`."""
        return RankBlocksGrader(scene)


# -------------------------------------------------------------------------------------------------------------- expert

_GAP = 0.024
"""Gap [m] between neighbours that the expert aims for."""
_IN_PLACE = 0.006
"""A block this close to its goal [m] is not moved."""
_HEADINGS = tuple(math.radians(degrees) for degrees in (0.0, 12.0, -12.0, 25.0, -25.0, 36.0, -36.0))
_CENTERS_X, _CENTERS_Y = (-0.08, 0.0, 0.06), (-0.08, 0.0, 0.08)
"""Centres of rows [m] that leave no block in place, as a last resort."""
_X, _Y = (-0.17, 0.12), (-0.23, 0.23)
"""Area of the row [m]."""
_MOST_ROWS = 12
"""Number of rows tried before the expert gives up."""

Moves = tuple[tuple[str, Pose], ...]


def _attempt(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance) -> Attempting:
    """Carries every block that is not in its place there."""
    asset = scene.object(ROLES[0]).asset
    extent = float(np.linalg.norm(asset.bounds[1, :2] - asset.bounds[0, :2])) / 2
    size = largest(hands)
    shift = (miss.aside(extent + size.half_width), 0.0, -miss.above(asset.bounds[1, 2] / 2 + size.below))
    failure = MotionError("the blocks have no row to go to: they stand too near the border")
    for moves in itertools.islice(_rows(scene, state, size), _MOST_ROWS):
        try:
            for number, (role, goal) in enumerate(moves):
                task = _transfer(scene, role, goal)
                problem, state = yield from transfer(hands, scene, state, task, shift if number == 0 else (0.0, 0.0, 0.0))
                if problem:
                    return Attempt(state=state, failure=problem)
                failure = None
        except MotionError as error:
            if failure is None:
                return Attempt(state=state, failure=str(error))
            failure = error
            continue
        return Attempt(state=state, failure=misplaced(scene, state))
    assert failure is not None
    raise failure


def _transfer(scene: Scene, role: str, goal: Pose) -> Transfer:
    """The transfer of one block. It can be held by either pair of its sides, and set down after any number of quarter turns."""
    asset = scene.object(role).asset
    opening = float((asset.bounds[1, :2] - asset.bounds[0, :2]).max()) + 0.016
    grip = affordance(asset, "grasp", Pose())
    return Transfer(role=role, grips=(grip, flips(grip, 4)[1]), goals=flips(goal, 4), opening=opening)


def _rows(scene: Scene, state: WorldState, size: Fingers) -> Generator[Moves]:
    """The blocks to move and their goals, in order, for every row that such fingers can make; those with least to carry first."""
    present = outlines(scene, state)
    poses = {role: object_pose(scene, state, role) for role in ROLES}
    rows: list[dict[str, Pose] | None] = []
    for heading in _HEADINGS:
        along = np.array((math.sin(heading), -math.cos(heading)))
        for anchor in ROLES:
            rows.append(_row(scene, poses, anchor, present[anchor], along))
        for x, y in itertools.product(_CENTERS_X, _CENTERS_Y):
            center = yaw_pose(x, y, 0.0, math.atan2(along[1], along[0]))
            middle = outline_of(scene.object("middle").asset, center)
            rows.append(_row(scene, {"middle": center}, "middle", middle, along))
    found: list[tuple[float, tuple[str, ...], dict[str, Pose]]] = []
    for goals in rows:
        if goals is None:
            continue
        distances = {role: math.dist(goals[role].position, poses[role].position) for role in ROLES}
        moving = [role for role in ROLES if distances[role] > _IN_PLACE]
        cost = sum(0.5 + distances[role] for role in moving)
        found += [(cost, order, goals) for order in itertools.permutations(moving)]
    found.sort(key=lambda row: row[0])
    for _, order, goals in found:
        if _feasible(scene, present, order, goals, poses, size):
            yield tuple((role, goals[role]) for role in order)


def _row(scene: Scene, poses: Mapping[str, Pose], anchor: str, outline: Outline, along: Floats) -> dict[str, Pose] | None:
    """Poses of all blocks in a row along a direction from the anchor; None when one leaves the area."""
    goals = {anchor: poses[anchor]}
    yaw = math.atan2(along[1], along[0])
    for neighbours in (ROLES[: ROLES.index(anchor)][::-1], ROLES[ROLES.index(anchor) + 1 :]):
        sense = 1.0 if ROLES.index(neighbours[0] if neighbours else anchor) > ROLES.index(anchor) else -1.0
        center = np.array(poses[anchor].position[:2])
        edge = max(sense * end for end in (outline.vertices - center) @ along)
        for role in neighbours:
            asset = scene.object(role).asset
            half = float(asset.bounds[1, 0] - asset.bounds[0, 0]) / 2
            x, y = (float(v) for v in center + sense * (edge + _GAP + half) * along)
            if not (_X[0] <= x <= _X[1] and _Y[0] <= y <= _Y[1]):
                return None
            goals[role] = yaw_pose(x, y, 0.0, yaw)
            edge += _GAP + 2 * half
    return goals


def _feasible(
    scene: Scene,
    present: Mapping[str, Outline],
    order: Sequence[str],
    goals: Mapping[str, Pose],
    now: Mapping[str, Pose],
    size: Fingers,
) -> bool:
    """Whether every goal is free at its turn, and fingers have room around the block at its place and at its goal."""
    standing = dict(present)
    for role in order:
        asset = scene.object(role).asset
        others = [thing for other, thing in standing.items() if other != role]
        if not has_room(_transfer(scene, role, goals[role]), asset, now[role], others, size):
            return False
        standing[role] = outline_of(asset, goals[role])
    return True


# -------------------------------------------------------------------------------------------------------------- grader


def misplaced(scene: Scene, state: WorldState) -> str:
    """Describes what is wrong with the arrangement; "" when the blocks form a row in order."""
    centers = np.array([object_pose(scene, state, role).position[:2] for role in ROLES])
    _, _, axes = np.linalg.svd(centers - centers.mean(axis=0))
    along = axes[0] if axes[0] @ (centers[2] - centers[0]) > 0 else -axes[0]
    aside = float(np.abs((centers - centers.mean(axis=0)) @ np.array((-along[1], along[0]))).max())
    if aside > LINE_TOLERANCE:
        return f"a block lies {1e3 * aside:.0f} mm beside the line, {1e3 * LINE_TOLERANCE:.0f} mm allowed"
    heading = math.acos(float(np.clip(-along[1], -1.0, 1.0)))
    if heading > HEADING_TOLERANCE:
        return f"the blocks do not run from left to right: the row is turned by {math.degrees(heading):.0f} degrees"
    spans = [outlines(scene, state)[role].span(along) for role in ROLES]
    gaps = [second[0] - first[1] for first, second in itertools.pairwise(spans)]
    if min(gaps) < 0.0:
        return "the blocks are not in order beside each other"
    if max(gaps) > LARGEST_GAP:
        return f"two neighbours are {1e3 * max(gaps):.0f} mm apart, {1e3 * LARGEST_GAP:.0f} mm allowed"
    if max(gaps) - min(gaps) > UNEVEN:
        return f"the gaps of {1e3 * gaps[0]:.0f} and {1e3 * gaps[1]:.0f} mm are uneven"
    return ""


class RankBlocksGrader(Judge):
    """Success: blocks that moved were carried, none was dropped, thrown or pushed, and they rest in a row in the right order."""

    done = "the blocks lie in a row by size"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene, [Custody(scene, role, CustodyConfig(rests_on=("table",))) for role in ROLES])

    def _missing(self, state: WorldState) -> str:
        if not any(block.touched for block in self._things):
            return "the robot never touched a block"
        if placing := misplaced(self._scene, state):
            return placing
        if max(block.tilt for block in self._things) > math.radians(10.0):
            return "a block lies tilted"
        return self._unrest(REST_S, "the blocks")

    def _progress(self, state: WorldState) -> float:
        return min(0.3 * sum(block.lifted > 0.02 for block in self._things), 0.9)
