"""put_block_back: the block is moved to the middle, a button is pressed, and then the block goes back to its first place.

It stood on one of four marks. Once it lies in the middle and the arms are at home, no observation tells which: a policy must
remember. A policy without memory is right one time in four.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, Waypoint, largest, moved
from embodichain.motion.skills import Skill, choose, follow, go_home, together, wait
from embodichain.motion.transfer import Ending, Transfer, flips, object_pose, transfer
from embodichain.protocols import Expert
from embodichain.recovery.config import UNDISTURBED, Disturbance, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.tasks.custody import Custody, CustodyConfig
from embodichain.tasks.judge import Judge
from embodichain.tasks.needs import Needs
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import ObjectRequest, Pose, Robot, Scene, SceneRequest, WorldState
from embodichain.types.poses import yaw_pose

MARKS = ("mark_0", "mark_1", "mark_2", "mark_3")
MIDDLE = "middle"
TOLERANCE = 0.02
"""Largest distance between the centres of the block and of what it stands on [m]."""
REST_S = 0.5
"""How long the block must stand back on its mark untouched at the end [s]."""
PRESSED = 0.5
"""A button counts as pressed beyond this share of its travel."""
_PHRASES = Phrases(
    streamed=(
        "Move the block to the middle, press the button, then put the block back where it stood.",
        "Put the block on the middle mark, press the button and return the block to its mark.",
        "Block to the middle, press the button, block back to the mark that it came from.",
    ),
    held_out=(
        "Carry the block to the centre, push the button and bring the block back to its first place.",
        "After the block was in the middle and the button was pushed, it shall stand where it stood before.",
    ),
)
_CORNERS = ((-0.14, 0.15), (-0.14, -0.15), (0.03, 0.15), (0.03, -0.15))
"""Corners [m]; each mark lies within `_SPREAD` of one."""
_SPREAD = 0.015
_COLORS = (
    (0.78, 0.16, 0.15, 1.0),
    (0.14, 0.33, 0.76, 1.0),
    (0.16, 0.58, 0.27, 1.0),
    (0.92, 0.77, 0.16, 1.0),
)
_MIDDLE_COLOR = (0.90, 0.90, 0.88, 1.0)


class PutBlockBack:
    """Four marks around a fifth on the table, a button panel beyond, and a block on one of the four; either arm does each part."""

    name = "put_block_back"
    needs = Needs(opening=0.049, finger_length=0.025)

    def __init__(self, recovery: RecoveryConfig | None = None, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """Marks of four colours in random order. The block stands on each of them equally often."""
        order = rng.permutation(len(MARKS))
        home = MARKS[int(rng.integers(len(MARKS)))]
        spread = (-_SPREAD, _SPREAD)
        marks = tuple(
            ObjectRequest(
                role=role,
                category="mark",
                x=(x + spread[0], x + spread[1]),
                y=(y + spread[0], y + spread[1]),
                color=_COLORS[int(order[index])],
                reach=("center",),
                standoff=_STANDOFF,
            )
            for index, (role, (x, y)) in enumerate(zip(MARKS, _CORNERS, strict=True))
        )
        middle = ObjectRequest(
            role=MIDDLE,
            category="mark",
            x=(-0.07, -0.04),
            y=spread,
            color=_MIDDLE_COLOR,
            reach=("center",),
            standoff=_STANDOFF,
        )
        button = ObjectRequest(
            role="button", category="button_panel", x=(0.12, 0.15), y=(-0.03, 0.03), yaw=(0.0, 0.0), reach=("button_0",)
        )
        block = ObjectRequest(role="block", category="block", onto=(home, "top", ""), yaw=(0.0, 0.0), reach=("grasp",))
        request = SceneRequest(instruction=_PHRASES.draw(rng, self._held_out), objects=(*marks, middle, button, block))
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Performs the three parts and goes home after each; restarts from wherever the block is when a part fails."""
        hands, journey = Hand.all_of(robot, state), _Journey(home=home_of(scene))
        yield from retry(
            lambda state, miss: _attempt(hands, scene, state, journey, miss),
            state,
            self._recovery,
            rng,
            hands=hands,
            scene=scene,
        )

    def grader(self, scene: Scene) -> PutBlockBackGrader:
        """A fresh grader for `scene`."""
        return PutBlockBackGrader(scene)


def home_of(scene: Scene) -> str:
    """The role of the mark on which the block stands at first."""
    x, y, _ = scene.object("block").pose.position
    return min(MARKS, key=lambda role: math.dist(scene.object(role).pose.position[:2], (x, y)))


# -------------------------------------------------------------------------------------------------------------- expert

_STANDOFF = 0.02
"""Approximate height above a mark at which the fingers hold the block [m]."""
_ABOVE = 0.05
_DOWN_SPEED = 0.06
_DEPTH = 0.85
"""Depth to which the button is pressed, as a share of its travel."""


@dataclass(slots=True, kw_only=True)
class _Journey:
    """The expert's memory."""

    home: str
    has_pressed: bool = False


def _attempt(hands: Sequence[Hand], scene: Scene, state: WorldState, journey: _Journey, miss: Disturbance) -> Attempting:
    """Does everything that is left to do."""
    if not journey.has_pressed:
        if _aside(scene, state, MIDDLE) > TOLERANCE / 2:
            failure, state = yield from _carry(hands, scene, state, MIDDLE, miss, flips_by=2)
            if failure:
                return Attempt(state=state, failure=failure)
            miss = UNDISTURBED
        state = yield from _all_home(hands, state)
        failure, state = yield from _press(hands, scene, state)
        if failure:
            return Attempt(state=state, failure=failure)
        journey.has_pressed = True
        state = yield from _all_home(hands, state)
    if _aside(scene, state, journey.home) > TOLERANCE / 2:
        failure, state = yield from _carry(hands, scene, state, journey.home, miss, flips_by=4)
        if failure:
            return Attempt(state=state, failure=failure)
    state = yield from wait(hands[0], state, 0.1)
    aside = _aside(scene, state, journey.home)
    return Attempt(state=state, failure="" if aside <= TOLERANCE else f"the block stands {1e3 * aside:.0f} mm beside its mark")


def _carry(hands: Sequence[Hand], scene: Scene, state: WorldState, role: str, miss: Disturbance, *, flips_by: int) -> Ending:
    """Sets the block down on the object with that role, along the table's axes; returns what went wrong and the state.

    In the middle its final pose must not depend on where it came from, because it must not reveal that.
    """
    block = scene.object("block").asset
    opening = float((block.bounds[1, :2] - block.bounds[0, :2]).max()) + 0.016
    grip = affordance(block, "grasp", Pose())
    x, y, z = affordance(scene.object(role).asset, "top", object_pose(scene, state, role)).position
    task = Transfer(
        role="block",
        grips=(grip, flips(grip, 4)[1]),
        goals=flips(yaw_pose(x, y, z, 0.0), flips_by),
        support=f"{role}/",
        around=(*MARKS, MIDDLE),
        opening=opening,
    )
    extent = float(np.linalg.norm(block.bounds[1, :2] - block.bounds[0, :2])) / 2
    size = largest(hands)
    shift = (miss.aside(extent + size.half_width), 0.0, -miss.above(block.bounds[1, 2] / 2 + size.below))
    return (yield from transfer(hands, scene, state, task, shift))


def _press(hands: Sequence[Hand], scene: Scene, state: WorldState) -> Ending:
    """Presses the first button with closed fingers and lets it come out again; returns what went wrong and the state."""
    (hand, approach, down), state = yield from choose(hands, state, lambda hands, state: _way_to_button(hands, scene, state))
    state = yield from follow(hand, state, approach, opening=0.0)
    deepest = 0.0
    for joints in down:
        state = yield hand.step(joints)
        deepest = max(deepest, pressed(scene, state))
    state = yield from follow(hand, state, hand.retrace(np.concatenate([hand.joints[None], down[::-1]])[::-1]))
    return ("" if deepest > PRESSED else f"the button went in by {100 * deepest:.0f}% of its travel only"), state


def _way_to_button(hands: Sequence[Hand], scene: Scene, state: WorldState) -> tuple[Hand, Floats, Floats]:
    """The hand with least travel, its path to above the button, and the path down onto it."""
    panel = scene.object("button").asset
    top = affordance(panel, "button_0", object_pose(scene, state, "button"))
    travel = -panel.movable_joints[0].lower
    touch = moved(top, (0.0, 0.0, largest(hands).below))
    above, pushed = moved(touch, (0.0, 0.0, _ABOVE)), moved(touch, (0.0, 0.0, -_DEPTH * travel))
    failure: MotionError | None = None
    for hand in sorted(hands, key=lambda hand: hand.travel(above)):
        try:
            approach, down = hand.legs([Waypoint(pose=above, straight=False), Waypoint(pose=pushed, speed=_DOWN_SPEED)])
            return hand, approach, down
        except MotionError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _all_home(hands: Sequence[Hand], state: WorldState) -> Skill:
    """Brings every arm home, because its posture must not reveal where it was."""
    return (yield from together(state, *(go_home(hand, state) for hand in hands if not hand.at_home)))


def _aside(scene: Scene, state: WorldState, role: str) -> float:
    """Horizontal distance of the block's centre from that of the object under `role` [m]."""
    return math.dist(object_pose(scene, state, "block").position[:2], object_pose(scene, state, role).position[:2])


def pressed(scene: Scene, state: WorldState) -> float:
    """Depth of the button that is pressed furthest, as a share of its travel."""
    joints = scene.object("button").asset.movable_joints
    return max(position / joint.lower for position, joint in zip(state.object_joints["button"], joints, strict=True))


# -------------------------------------------------------------------------------------------------------------- grader

_SETTLED_S = 0.1
"""How long the block must be untouched to count as set down [s]."""
_PANEL_FORCE = 30.0
"""Largest force of the robot on the panel [N]; a button needs two and a half."""


class PutBlockBackGrader(Judge):
    """Success: the block was set down in the middle, then a button was pressed, then the block was set on its first mark.

    It must not be set on another mark in between, because trying all of them is not remembering.
    """

    done = "the block is back on the mark where it stood"

    def __init__(self, scene: Scene) -> None:
        self._home = home_of(scene)
        self._block = Custody(scene, "block", CustodyConfig(rests_on=(self._home,)))
        self._stage = 0
        """Stage reached: 0 none, 1 the block lies in the middle, 2 then the button was pressed, 3 then the block is back."""
        self._wrong = ""
        self._force = 0.0
        super().__init__(scene, (self._block,))

    def _follow(self, state: WorldState) -> None:
        self._force = max(self._force, state.force_between("robot/", "button/"))
        place = self._place(state) if self._block.rest_s >= _SETTLED_S else ""
        if self._stage in (0, 1) and self._block.moved > TOLERANCE:
            self._stage = int(place == MIDDLE)
            if self._stage and state.touching("robot/", "button/") and pressed(self._scene, state) > PRESSED:
                self._stage = 2
        elif self._stage >= 2:
            self._stage = 3 if place == self._home else 2
            if place in MARKS and place != self._home:
                self._wrong = f"the block was put on {place}, it had stood on {self._home}"

    def _place(self, state: WorldState) -> str:
        """The role of the mark on which the block stands centred; "" when there is none."""
        for role in (*MARKS, MIDDLE):
            if state.touching("block/", f"{role}/") and _aside(self._scene, state, role) <= TOLERANCE:
                return role
        return ""

    def _missing(self, state: WorldState) -> str:
        if self._wrong:
            return self._wrong
        if self._force > _PANEL_FORCE:
            return f"the robot pressed on the panel with {self._force:.0f} N, {_PANEL_FORCE:.0f} N allowed"
        if self._stage < 3:
            return ("the block was not set down in the middle", "no button was pressed", "the block is not back on its mark")[
                self._stage
            ]
        if self._block.tilt > math.radians(10.0):
            return "the block is tilted"
        return self._unrest(REST_S, "the block", "stood")

    def _progress(self, state: WorldState) -> float:
        return 0.3 * self._stage
