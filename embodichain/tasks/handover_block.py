"""handover_block: the left arm picks the block, the right arm takes it over in the air and sets it down on the target."""

from __future__ import annotations

import math
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
from embodichain.types.poses import compose

REST_S = 0.5
"""How long the block must lie on the target untouched at the end [s]."""
CENTER_TOLERANCE = 0.05
"""Largest horizontal distance between the centres of block and target [m]."""
_PHRASES = Phrases(
    streamed=(
        "Hand the block from the left arm to the right arm and put it on the {color} pad.",
        "Pick up the block with the left hand, pass it to the right hand and place it on the {color} pad.",
        "Left arm: take the block. Right arm: receive it and set it down on the {color} pad.",
    ),
    held_out=("Give the block to the right gripper in the air, then lay it on the {color} pad.",),
)
_COLORS = {
    "red": (0.78, 0.16, 0.15, 1.0),
    "blue": (0.14, 0.33, 0.76, 1.0),
    "green": (0.16, 0.58, 0.27, 1.0),
    "purple": (0.48, 0.22, 0.62, 1.0),
}


class HandoverBlock:
    """A block that the left arm reaches and a pad that the right arm reaches, in 0.30 x 0.40 m of the table, with any yaw."""

    name = "handover_block"
    needs = Needs(arms=2, opening=0.049, finger_length=0.025)

    def __init__(self, recovery: RecoveryConfig | None = None, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """A block within reach of the left arm, and a pad where the right arm can set something down."""
        color = list(_COLORS)[int(rng.integers(len(_COLORS)))]
        objects = (
            ObjectRequest(role="block", category="block", reach=("grasp",), arms=("left",)),
            ObjectRequest(role="target", category="pad", color=_COLORS[color], reach=("center",), standoff=0.025, arms=("right",)),
        )
        request = SceneRequest(instruction=_PHRASES.draw(rng, self._held_out, color=color), objects=objects)
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Picks, hands over in the air and places; restarts from wherever the block is when an attempt fails."""
        hands = Hand.all_of(robot, state)
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, miss), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> HandoverBlockGrader:
        """A fresh grader for `scene`."""
        return HandoverBlockGrader(scene)


# -------------------------------------------------------------------------------------------------------------- expert

_LIFT = 0.06
_HEIGHTS = (0.05, 0.03)
"""Heights above the target to which the block may be brought [m]; the first that the arm can reach is taken."""


def _attempt(hands: Sequence[Hand], scene: Scene, state: WorldState, miss: Disturbance) -> Attempting:
    """One pick, handover and place."""
    giver, receiver = (next(hand for hand in hands if hand.name == name) for name in ("left", "right"))
    asset = scene.object("block").asset
    pad = affordance(scene.object("target").asset, "center", object_pose(scene, state, "target"))
    grips = box_grips(asset)
    size = asset.bounds[1] - asset.bounds[0]
    astray = miss.offsets(float(np.linalg.norm(size)) / 2 + giver.fingers.half_width, float(size[2]) / 2 + giver.fingers.below)

    def place(hand: Hand, start: Floats, held: Pose) -> tuple[Floats, Pose]:
        return over(hand, start, held, asset, landings(asset, held, pad.position), _HEIGHTS)

    down = from_above(object_pose(scene, state, "block"), grips)
    problem, goal, state = yield from pick_and_pass(
        giver, receiver, scene, state, "block", (down, grips), place, lift=_LIFT, astray=astray
    )
    if problem:
        return Attempt(state=state, failure=problem)
    state = yield from set_down(receiver, scene, state, "block", goal, "target/")
    return Attempt(state=state, failure=misplaced(scene, state))


def misplaced(scene: Scene, state: WorldState) -> str:
    """Describes what is wrong with the block's place; "" when nothing is."""
    if not state.touching("block/", "target/") or state.touching("block/", "table"):
        return "the block does not lie on the pad"
    block, pad = _middle(scene, state, "block"), _middle(scene, state, "target")
    aside = math.dist(block[:2], pad[:2])
    if aside > CENTER_TOLERANCE:
        return f"the block lies {1e3 * aside:.0f} mm from the middle of the pad, {1e3 * CENTER_TOLERANCE:.0f} mm allowed"
    return ""


def _middle(scene: Scene, state: WorldState, role: str) -> tuple[float, float, float]:
    lower, upper = scene.object(role).asset.bounds
    x, y, z = (float(value) for value in (lower + upper) / 2)
    return compose(object_pose(scene, state, role), Pose(position=(x, y, z))).position


# -------------------------------------------------------------------------------------------------------------- grader


class HandoverBlockGrader(Judge):
    """Success: the left hand lifted the block, both held it in the air, then the right alone; it lies on the target."""

    done = "the block was handed over and lies on the pad"

    def __init__(self, scene: Scene) -> None:
        self._block = Custody(scene, "block", CustodyConfig(rests_on=("target",)))
        self._passing = Passing(scene, "block", "left", "right")
        super().__init__(scene, (self._block,))

    def _follow(self, state: WorldState) -> None:
        self._passing.observe(state)

    def _forgive(self, things: tuple[Custody, ...]) -> None:
        if things:
            self._passing.restart()

    def _missing(self, state: WorldState) -> str:
        if not self._block.touched:
            return "the robot never touched the block"
        return self._passing.missing or misplaced(self._scene, state) or self._unrest(REST_S, "the block")

    def _progress(self, state: WorldState) -> float:
        return 0.3 * self._passing.stage if self._block.touched else 0.0
