"""open_pan_and_place: one arm takes the lid off the pan, the other puts the block in; the lid goes back or stays beside the pan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.outlines import gap, outline_of, outlines
from embodichain.motion.press import press
from embodichain.motion.skills import follow, go_home, holds
from embodichain.motion.transfer import Ending, Transfer, deliver, flips, object_pose, pick, transfer
from embodichain.protocols import Expert
from embodichain.recovery.config import UNDISTURBED, Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.holding import touching_arms
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import ObjectRequest, Pose, Robot, Scene, SceneRequest, Vec3, WorldState
from embodichain.types.poses import compose, inverse, turned, yaw_pose

LIDS = ("lid_back", "lid_aside")
"""Roles of the lid, which say whether it must be on the pan again at the end, or lie beside it."""
SEATED, SUNK = 0.006, 0.004
"""Largest horizontal distance of the lid's centre from the pan's, and height above its seat, for the pan to be closed [m]."""
PAN_SHIFT = 0.025
"""Largest distance by which the pan may be moved [m]."""
REST_S = 0.5
"""How long everything must lie still and untouched at the end [s]."""
_BACK = Phrases(
    streamed=(
        "Open the pan, put the block in and put the lid back on.",
        "Lift the lid, place the block in the pan and close it again.",
        "Take the lid off, drop nothing, lay the block inside and cover the pan.",
        "Put the block into the pan and close the lid afterwards.",
    ),
    held_out=(
        "The block goes into the pan; cover it with its lid when you are done.",
        "Uncover the pan, add the block, cover the pan.",
    ),
)
_ASIDE = Phrases(
    streamed=(
        "Open the pan, put the block in and leave the lid beside it.",
        "Lift the lid, set it aside and place the block in the pan.",
        "Take the lid off and lay the block inside; leave the pan open.",
        "Put the block into the pan and the lid next to it.",
    ),
    held_out=("The block goes into the pan; its lid stays on the table.", "Uncover the pan and add the block."),
)


class OpenPanAndPlace:
    """A covered pan within 0.14 x 0.12 m of the middle, with any yaw, and a block in 0.30 x 0.40 m around it."""

    name = "open_pan_and_place"
    needs = Needs(arms=2, opening=0.049, finger_length=0.025)

    def __init__(self, recovery: RecoveryConfig | None = None, *, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """The pan with its lid on, and the block."""
        back = rng.random() < 0.5
        instruction = (_BACK if back else _ASIDE).draw(rng, self._held_out)
        lid = LIDS[0] if back else LIDS[1]
        objects = (
            ObjectRequest(role="pan", category="pan", x=(-0.10, 0.04), y=(-0.06, 0.06), reach=("lid_seat",), standoff=0.06),
            ObjectRequest(role=lid, category="lid", onto=("pan", "lid_seat", "fit")),
            ObjectRequest(role="block", category="block", reach=("grasp",), margin=_ROOM, height=(0.0, _TALLEST)),
        )
        request = SceneRequest(instruction=instruction, objects=objects)
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Takes the lid off, puts the block in, and the lid back if asked; continues from the present state after a failure."""
        hands = Hand.all_of(robot, state)
        pairs = _pairs(hands, scene, state)
        yield from retry(
            lambda state, miss: _attempt(hands, pairs, scene, state, miss), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> OpenPanAndPlaceGrader:
        """A fresh grader for `scene`."""
        return OpenPanAndPlaceGrader(scene)


def lid_role(scene: Scene) -> str:
    """The role of this scene's lid."""
    return next(placed.role for placed in scene.objects if placed.role in LIDS)


# -------------------------------------------------------------------------------------------------------------- expert

_ROOM = 0.012
"""Room kept free around the block at the start [m]."""
_TALLEST = 0.0385
"""Greatest height of a block [m]: it must fit under the lid of the lowest pan."""
_ASIDE_X = (-0.15, -0.08, 0.0, 0.08, 0.14)
_ASIDE_Y = (0.1, -0.1, 0.15, -0.15, 0.2, -0.2, 0.25, -0.25)
"""Positions where the lid may be set aside [m]."""
_HELD_ASIDE = tuple((ahead, across) for across in (0.16, 0.19, 0.22, 0.25) for ahead in (0.0, -0.08, 0.08, -0.14))
"""Offsets at which the lid is held aside [m], ahead and to the side of the arm that holds it."""
_PRESS = 0.006
"""Depth by which the knob of a lid that has caught is pressed [m]."""
_FINGERS = 0.04
"""Room between the lid set aside and the block [m], for a finger."""
_BESIDE = 0.01
"""Room between the lid and the pan [m]."""
_TURNS = 6


def _pairs(hands: Sequence[Hand], scene: Scene, state: WorldState) -> list[tuple[Hand, Hand]]:
    """Pairs of a hand for the lid and a hand for the block, by total travel; raises MotionError for fewer than two hands."""
    if len(hands) < 2:
        raise MotionError("one hand holds the lid while another moves the block, and this robot has one arm: choose a dual-arm")
    block, lid = (scene.object(role).asset for role in ("block", lid_role(scene)))
    knob = affordance(lid, "grasp", object_pose(scene, state, lid_role(scene)))
    side = affordance(block, "grasp", object_pose(scene, state, "block"))

    def cost(pair: tuple[Hand, Hand]) -> float:
        above = [moved(pose, (0.0, 0.0, 0.06)) for pose in (knob, side)]
        return pair[0].travel(above[0]) + pair[1].travel(above[1]) + pair[1].travel(above[0])

    return sorted(itertools.permutations(hands, 2), key=cost)


def _attempt(
    hands: Sequence[Hand], pairs: list[tuple[Hand, Hand]], scene: Scene, state: WorldState, miss: Disturbance
) -> Attempting:
    """Works with the first pair, or with the next ones if it finds no way to begin. A pair that has begun continues."""
    while True:
        try:
            return (yield from _work(hands, *pairs[0], scene, state, miss))
        except MotionError:
            if len(pairs) < 2 or any(not hand.at_home for hand in hands) or ajar(scene, state):
                raise
            del pairs[0]


def _work(
    hands: Sequence[Hand], lid_hand: Hand, block_hand: Hand, scene: Scene, state: WorldState, miss: Disturbance
) -> Attempting:
    """Does what is left to do: lid off, block in, lid back. A lid that goes back is held in the air meanwhile."""
    role, back = lid_role(scene), lid_role(scene) == LIDS[0]
    lid, block = scene.object(role).asset, scene.object("block").asset
    seat = _lid_transfer(scene, state, aside=not back)
    problem = ""
    if outside(scene, state):
        if not ajar(scene, state):
            shift = _shift(lid_hand, miss, float(lid.bounds[1, 0]), float(lid.bounds[1, 2]))
            if back:
                held, state = yield from pick(hands, scene, state, seat, shift, using=(lid_hand,))
                problem = held if isinstance(held, str) else ""
            else:
                problem, state = yield from transfer(hands, scene, state, seat, shift, using=(lid_hand,))
            miss = UNDISTURBED
        if problem:
            return Attempt(state=state, failure=problem)
        if back and _held(lid_hand, state, role):
            state = yield from follow(lid_hand, state, _way_aside(lid_hand, scene, state))
        shift = _shift(block_hand, miss, float(np.linalg.norm(block.bounds[1, :2])), float(block.bounds[1, 2]))
        others = (block_hand,) if _held(lid_hand, state, role) else hands
        problem, state = yield from transfer(others, scene, state, _block_transfer(scene, state), shift, using=(block_hand,))
        if problem:
            return Attempt(state=state, failure=problem)
    if back and ajar(scene, state):
        problem, state = yield from _close(lid_hand, block_hand, scene, state)
    elif not back and not ajar(scene, state):
        problem, state = yield from transfer(hands, scene, state, _lid_transfer(scene, state, aside=True), using=(lid_hand,))
    return Attempt(state=state, failure=problem or _unfinished(scene, state))


def _close(lid_hand: Hand, block_hand: Hand, scene: Scene, state: WorldState) -> Ending:
    """Puts the lid back from the hand or from the table, and presses on its knob if its ring has caught on the rim."""
    role, problem = lid_role(scene), ""
    state = yield from go_home(block_hand, state)
    if _held(lid_hand, state, role):
        problem, state = yield from deliver(lid_hand, scene, state, _lid_transfer(scene, state, aside=False))
    else:
        seat = _lid_transfer(scene, state, aside=False)
        problem, state = yield from transfer((lid_hand, block_hand), scene, state, seat, using=(lid_hand,))
    if not problem and ajar(scene, state):
        knob = affordance(scene.object(role).asset, "grasp", object_pose(scene, state, role))
        x, y, _ = knob.position
        top = Pose(position=(x, y, outlines(scene, state)[role].top), quaternion=lid_hand.pose.quaternion)
        state = yield from press(lid_hand, state, top, _PRESS)
    return problem, state


def _held(hand: Hand, state: WorldState, role: str) -> bool:
    return hand.opening < 0.9 * hand.open and holds(hand, state, role)


def _shift(hand: Hand, miss: Disturbance, half: float, height: float) -> Vec3:
    """Offset of a disturbed grasp of an object of this half width and height [m], in the tip's frame."""
    return (miss.aside(half + hand.fingers.half_width), 0.0, -miss.above(height / 2 + hand.fingers.below))


def _way_aside(hand: Hand, scene: Scene, state: WorldState) -> Floats:
    """A path that takes the lid in the hand, through the air, to where pan and block are free of it."""
    present = outlines(scene, state)
    role = lid_role(scene)
    lid, side = object_pose(scene, state, role), 1.0 if hand.chain.positions[0, 1] > 0 else -1.0
    failure = MotionError("the lid cannot be held where it leaves pan and block free")
    for ahead, across in _HELD_ASIDE:
        offset = (ahead, side * across, 0.01)
        there = outline_of(scene.object(role).asset, moved(lid, offset))
        if min(gap(there, present["block"]) - _FINGERS, gap(there, present["pan"])) < 0.0:
            continue
        try:
            return hand.route([Waypoint(pose=moved(hand.pose, offset), straight=False)])
        except MotionError as error:
            failure = error
    raise failure


def _lid_transfer(scene: Scene, state: WorldState, *, aside: bool) -> Transfer:
    role = lid_role(scene)
    lid, pan = scene.object(role).asset, object_pose(scene, state, "pan")
    grips = flips(affordance(lid, "grasp", Pose()), _TURNS)[: _TURNS // 2]
    if aside:
        spots = sorted(itertools.product(_ASIDE_X, _ASIDE_Y), key=lambda spot: math.dist(spot, pan.position[:2]))
        present = outlines(scene, state)
        goals = tuple(yaw_pose(x, y, 0.0, 0.0) for x, y in spots)
        around = [(present["block"], _FINGERS), (present["pan"], _BESIDE)]
        goals = tuple(goal for goal in goals if all(gap(outline_of(lid, goal), thing) > room for thing, room in around))
        return Transfer(role=role, grips=grips, goals=goals, around=("pan",), apart=("pan",))
    seat = affordance(scene.object("pan").asset, "lid_seat", pan)
    goal = compose(seat, inverse(affordance(lid, "fit", Pose())))
    return Transfer(role=role, grips=grips, goals=flips(goal, _TURNS), support="pan/", around=("pan", "block"))


def _block_transfer(scene: Scene, state: WorldState) -> Transfer:
    block, pan = scene.object("block").asset, scene.object("pan").asset
    grip = affordance(block, "grasp", Pose())
    x, y, z = affordance(pan, "center", object_pose(scene, state, "pan")).position
    goals = tuple(goal for turn in (0.0, 0.5, 1.0) for goal in flips(yaw_pose(x, y, z, turn), 4))
    opening = float((block.bounds[1, :2] - block.bounds[0, :2]).max()) + 0.014
    return Transfer(
        role="block",
        grips=(grip, flips(grip, 4)[1]),
        goals=goals,
        support="pan/",
        around=("pan",),
        opening=opening,
        clearance=0.003,
    )


def _unfinished(scene: Scene, state: WorldState) -> str:
    """Describes what is left to do; "" when nothing is."""
    open_or_not = ajar(scene, state)
    if lid_role(scene) == LIDS[0]:
        return outside(scene, state) or open_or_not
    return outside(scene, state) or ("" if open_or_not else "the lid is still on the pan")


# -------------------------------------------------------------------------------------------------------------- grader

_CARRIED = CustodyConfig(fall=0.012, slide=0.02)


def outside(scene: Scene, state: WorldState) -> str:
    """Why the block does not lie in the pan; "" when it does."""
    pan = scene.object("pan").asset
    pan_pose = object_pose(scene, state, "pan")
    seat = affordance(pan, "lid_seat", pan_pose)
    center = affordance(pan, "center", pan_pose)
    x, y, z = object_pose(scene, state, "block").position
    away = math.dist((x, y), center.position[:2])
    if away > 0.045 or z > (center.position[2] + seat.position[2]) / 2:
        return f"the block is not in the pan, {1e3 * away:.0f} mm from its middle"
    return "" if state.touching("block/", "pan/") else "the block does not rest in the pan"


def ajar(scene: Scene, state: WorldState) -> str:
    """Why the lid does not close the pan; "" when it does."""
    pan, lid = scene.object("pan").asset, scene.object(lid_role(scene)).asset
    seat = affordance(pan, "lid_seat", object_pose(scene, state, "pan"))
    fit = affordance(lid, "fit", object_pose(scene, state, lid_role(scene)))
    aside = math.dist(seat.position[:2], fit.position[:2])
    above = fit.position[2] - seat.position[2]
    tilt = math.acos(min(1.0, -turned(fit.quaternion, (0.0, 0.0, 1.0))[2]))
    if aside > SEATED or above > SUNK or tilt > math.radians(5.0):
        degrees = math.degrees(tilt)
        return f"the lid is {1e3 * aside:.0f} mm beside and {1e3 * above:.0f} mm above its seat, tilted {degrees:.0f} degrees"
    return ""


class OpenPanAndPlaceGrader(Judge):
    """Success: lid and block were carried by different arms, not dropped or thrown, and rest where the instruction asks."""

    done = "the block is in the pan and the lid where it should be"

    def __init__(self, scene: Scene) -> None:
        lid = self._lid = lid_role(scene)
        supports = {lid: "pan" if lid == LIDS[0] else "table", "block": "pan"}
        self._custody = {role: Custody(scene, role, replace(_CARRIED, rests_on=(on,))) for role, on in supports.items()}
        self._pan = Custody(scene, "pan", CustodyConfig(push=PAN_SHIFT))
        self._arms: dict[str, set[str]] = {lid: set(), "block": set()}
        self._opened = False
        super().__init__(scene, (*self._custody.values(), self._pan))

    def _follow(self, state: WorldState) -> None:
        for role, arms in self._arms.items():
            arms |= touching_arms(state, role)
        self._opened |= self._custody[self._lid].lifted > _CARRIED.lift

    def _missing(self, state: WorldState) -> str:
        if not any(self._arms.values()):
            return "the robot never touched lid or block"
        if not self._opened:
            return "the lid was never lifted by two fingers"
        if shared := self._arms[self._lid] & self._arms["block"]:
            return (
                f"the {', '.join(sorted(shared))} arm touched both lid and block: one arm is for the lid, the other for the block"
            )
        if self._pan.moved > PAN_SHIFT:
            return f"the pan was moved by {1e3 * self._pan.moved:.0f} mm, {1e3 * PAN_SHIFT:.0f} mm allowed"
        if wrong := _unfinished(self._scene, state):
            return wrong
        if self._lid == LIDS[1] and (state.touching(f"{self._lid}/", "pan/") or self._custody[self._lid].tilt > 0.1):
            return "the lid leans on the pan"
        return self._unrest(REST_S, "everything")

    def _progress(self, state: WorldState) -> float:
        return 0.3 * self._opened + 0.3 * (self._opened and not outside(self._scene, state))
