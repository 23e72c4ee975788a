"""handover_and_place: one arm takes the object and hands it to the other, which puts it into the basket on its side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embodichain.motion.clearance import Floats
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand
from embodichain.motion.handling import box_grips, from_above, landings, object_pose, over, set_down
from embodichain.motion.handover import pick_and_pass
from embodichain.protocols import Expert
from embodichain.recovery.config import Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.passing import Passing
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import ObjectRequest, Pose, Robot, Scene, SceneRequest, WorldState
from embodichain.types.poses import compose, inverse, turned

REST_S = 0.5
"""How long the object must lie in the basket untouched at the end [s]."""
BASKET_SHIFT = 0.02
"""Largest distance by which the basket may be moved [m]."""
SIDES = ("left", "right")
_OTHER = {"left": "right", "right": "left"}
_PHRASES = Phrases(
    streamed=(
        "Pass the {color} block from the {giver} hand to the {receiver} hand and put it into the basket.",
        "Take the {color} block with the {giver} arm, hand it over and drop it off in the basket.",
        "Hand the {color} block over to the {receiver} arm, which places it in the basket.",
    ),
    held_out=("The {receiver} arm gets the {color} block from the {giver} one in mid-air and lays it in the basket.",),
)
_COLORS = {
    "red": (0.78, 0.16, 0.15, 1.0),
    "blue": (0.14, 0.33, 0.76, 1.0),
    "green": (0.16, 0.58, 0.27, 1.0),
    "yellow": (0.92, 0.77, 0.16, 1.0),
}
_OBJECT_Y, _BASKET_Y = (0.0, 0.20), (-0.28, -0.12)
"""Ranges of object and basket across the table [m] when the left arm gives; mirrored when the right arm does."""


class HandoverAndPlace:
    """A block in 0.30 x 0.20 m on one arm's half of the table, a basket on the other's, both with any yaw."""

    name = "handover_and_place"
    needs = Needs(arms=2, opening=0.049, finger_length=0.025)

    def __init__(self, recovery: RecoveryConfig | None = None, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """A block on the giver's side and a basket on the receiver's; either arm may be the giver."""
        giver = SIDES[int(rng.integers(2))]
        color = list(_COLORS)[int(rng.integers(len(_COLORS)))]

        def across(limits: tuple[float, float]) -> tuple[float, float]:
            return limits if giver == "left" else (-limits[1], -limits[0])

        objects = (
            ObjectRequest(
                role="object", category="block", color=_COLORS[color], y=across(_OBJECT_Y), reach=("grasp",), arms=(giver,)
            ),
            ObjectRequest(
                role="basket", category="basket", y=across(_BASKET_Y), reach=("center",), standoff=0.03, arms=(_OTHER[giver],)
            ),
        )
        instruction = _PHRASES.draw(rng, self._held_out, color=color, giver=giver, receiver=_OTHER[giver])
        request = SceneRequest(instruction=instruction, objects=objects)
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Picks, hands over and places into the basket; restarts from wherever the object is when an attempt fails."""
        hands = Hand.all_of(robot, state)
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, miss), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> HandoverAndPlaceGrader:
        """A fresh grader for `scene`."""
        return HandoverAndPlaceGrader(scene)


def arms_of(scene: Scene) -> tuple[str, str]:
    """Names of the giving and the receiving arm. The basket stands on the receiver's side."""
    receiver = "left" if scene.object("basket").pose.position[1] > 0.0 else "right"
    return _OTHER[receiver], receiver


# -------------------------------------------------------------------------------------------------------------- expert

_LIFT, _CLEAR = 0.06, 0.015
"""Height to which the object is lifted for the handover, and height above the basket's rim at which it passes [m]."""


def _attempt(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance) -> Attempting:
    """One pick, handover and place."""
    giver, receiver = (next(hand for hand in hands if hand.name == name) for name in arms_of(scene))
    asset, basket = scene.object("object").asset, scene.object("basket").asset
    world_from_basket = object_pose(scene, state, "basket")
    floor = affordance(basket, "center", world_from_basket).position
    rim = world_from_basket.position[2] + float(basket.bounds[1, 2])
    grips = box_grips(asset)
    size = asset.bounds[1] - asset.bounds[0]
    astray = miss.offsets(float(np.linalg.norm(size)) / 2 + giver.fingers.half_width, float(size[2]) / 2 + giver.fingers.below)

    def place(hand: Hand, start: Floats, held: Pose) -> tuple[Floats, Pose]:
        return over(hand, start, held, asset, landings(asset, held, floor), (rim + _CLEAR - floor[2],), floor=rim)

    down = from_above(object_pose(scene, state, "object"), grips)
    problem, goal, state = yield from pick_and_pass(
        giver, receiver, scene, state, "object", (down, grips), place, lift=_LIFT, astray=astray
    )
    if problem:
        return Attempt(state=state, failure=problem)
    state = yield from set_down(receiver, scene, state, "object", goal, "basket/")
    return Attempt(state=state, failure=misplaced(scene, state))


def misplaced(scene: Scene, state: WorldState) -> str:
    """Describes what is wrong with the object's place; "" when it lies in the basket."""
    if not state.touching("object/", "basket/") or state.touching("object/", "table"):
        return "the object does not lie in the basket"
    basket = scene.object("basket").asset.bounds
    lower, upper = scene.object("object").asset.bounds
    a, b, c = (float(value) for value in (lower + upper) / 2)
    middle = compose(object_pose(scene, state, "object"), Pose(position=(a, b, c)))
    x, y, z = compose(inverse(object_pose(scene, state, "basket")), middle).position
    inside = basket[0, 0] < x < basket[1, 0] and basket[0, 1] < y < basket[1, 1] and z < basket[1, 2]
    return "" if inside else "the object hangs over the basket's rim"


# -------------------------------------------------------------------------------------------------------------- grader


class HandoverAndPlaceGrader(Judge):
    """Success: both hands held the object in the air, then the receiver alone; it rests in the basket, which stays where it was."""

    done = "the object was handed over and lies in the basket"

    def __init__(self, scene: Scene) -> None:
        self._object = Custody(scene, "object", CustodyConfig(fall=0.015, rests_on=("basket",)))
        self._passing = Passing(scene, "object", *arms_of(scene))
        self._shift = self._tilt = 0.0
        super().__init__(scene, (self._object,))

    def _follow(self, state: WorldState) -> None:
        self._passing.observe(state)
        pose, start = object_pose(self._scene, state, "basket"), self._scene.object("basket").pose
        self._shift = max(self._shift, float(np.linalg.norm(np.subtract(pose.position, start.position))))
        self._tilt = 1.0 - turned(pose.quaternion, (0.0, 0.0, 1.0))[2]

    def _forgive(self, things: tuple[Custody, ...]) -> None:
        if things:
            self._passing.restart()

    def _missing(self, state: WorldState) -> str:
        if self._shift > BASKET_SHIFT or self._tilt > 0.02:
            return f"the basket was moved by {1e3 * self._shift:.0f} mm, {1e3 * BASKET_SHIFT:.0f} mm allowed, or tipped"
        if not self._object.touched:
            return "the robot never touched the object"
        return self._passing.missing or misplaced(self._scene, state) or self._unrest(REST_S, "the object")

    def _progress(self, state: WorldState) -> float:
        return 0.3 * self._passing.stage if self._object.touched else 0.0
