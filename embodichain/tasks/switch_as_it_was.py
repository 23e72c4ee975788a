"""switch_as_it_was: a lever is pushed, over or against its stop; after the arms have drawn back for eight seconds it is put back.

A policy must remember its first observations: after the push, nothing shows where the lever was. A policy that forgets, or does
nothing, is right half of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from embodichain.motion.hand import Hand
from embodichain.motion.skills import Skill, follow, together, wait
from embodichain.protocols import Expert
from embodichain.recovery.config import UNDISTURBED
from embodichain.tasks.custody import Custody
from embodichain.tasks.judge import Judge
from embodichain.tasks.lever import REST_S, START, THRESHOLD, LeverWatch, tip_over
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import CHUNK, Nudge, ObjectRequest, Robot, Scene, SceneRequest, WorldState

CHUNKS_APART = 24
"""Number of chunks before the lever may be put back. The last frame that shows its first side is then more than twenty old."""
_PHRASES = Phrases(
    streamed=(
        "Put the switch as it was at the beginning.",
        "Bring the lever back to where it was at first.",
        "Leave the switch as you found it.",
    ),
    held_out=("The switch should stand as it stood when you came.", "Restore the lever to its first position."),
)
_FORCE, _BEGIN_S, _LASTS_S = 2.0, 0.3, 0.6
"""The push on the lever [N], its beginning and its duration [s]. From either side the lever comes to rest against a stop."""
_SETTLED_S = _BEGIN_S + _LASTS_S + 0.3


class SwitchAsItWas:
    """A bolted switch anywhere in 0.30 x 0.40 m of the table, with a yaw within 45 degrees; either arm may put it back."""

    name = "switch_as_it_was"

    def __init__(self, held_out: bool = False) -> None:
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """One switch with its lever on either side, and a push that ends with it on either side: four equally likely cases."""
        was, becomes = (1.0 if rng.random() < 0.5 else -1.0 for _ in range(2))
        switch = ObjectRequest(
            role="switch",
            category="switch",
            yaw=(-math.pi / 4, math.pi / 4),
            joint_positions=(was * START,),
            reach=("lever_tip",),
        )
        push = Nudge(
            role="switch",
            body="lever",
            force=(becomes * _FORCE, 0.0, 0.0),
            begin_s=_BEGIN_S,
            lasts_s=_LASTS_S,
        )
        request = SceneRequest(instruction=_PHRASES.draw(rng, self._held_out), objects=(switch,), nudges=(push,))
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Draws both arms slowly outwards, so that their posture shows the time, and puts the lever back if need be."""
        hands, side = Hand.all_of(robot, state), first_side(scene)
        state = yield from _draw_back(hands, state)
        if state.object_joints["switch"][0] * side > THRESHOLD:
            yield from wait(hands[0], state, REST_S)
            return
        attempt = yield from tip_over(hands, scene, state, UNDISTURBED, side)
        yield from wait(hands[0], attempt.state, REST_S)

    def grader(self, scene: Scene) -> SwitchAsItWasGrader:
        """A fresh grader for `scene`."""
        return SwitchAsItWasGrader(scene)


def first_side(scene: Scene) -> float:
    """+1 when the lever was on at first, -1 when it was off: where it must be at the end."""
    return math.copysign(1.0, scene.object("switch").joint_positions[0])


# -------------------------------------------------------------------------------------------------------------- expert

_OUTWARDS = 0.3
"""Angle by which each arm turns about its first joint [rad] while the time passes."""


def _draw_back(hands: Sequence[Hand], state: WorldState) -> Skill:
    """Turns every arm away from the middle of the table, evenly over the whole time."""
    steps = CHUNKS_APART * CHUNK
    ways = []
    for hand in hands:
        away = max((_turned(hand, sign * _OUTWARDS) for sign in (1.0, -1.0)), key=lambda joints, hand=hand: _aside(hand, joints))
        share = np.linspace(0.0, 1.0, steps + 1)[1:, None]
        ways.append(follow(hand, state, hand.joints + share * (away - hand.joints)))
    return (yield from together(state, *ways))


def _turned(hand: Hand, angle: float) -> np.ndarray:
    joints = hand.joints
    joints[0] += angle
    return joints


def _aside(hand: Hand, joints: np.ndarray) -> float:
    return abs(hand.chain.pose(joints).position[1])


# -------------------------------------------------------------------------------------------------------------- grader


class SwitchAsItWasGrader(Judge):
    """Success: at the end the lever rests where it was at first, brought there by the robot if it had been pushed."""

    done = "the lever is as it was"

    def __init__(self, scene: Scene) -> None:
        self._lever = LeverWatch(scene, first_side(scene))
        super().__init__(scene)

    def _follow(self, state: WorldState) -> None:
        self._lever.observe(state, pushed=state.time_s <= _SETTLED_S)

    def _forgive(self, things: tuple[Custody, ...]) -> None:
        self._lever.pardon()

    def _missing(self, state: WorldState) -> str:
        over_s = CHUNKS_APART * CHUNK / state.control_hz + REST_S
        early = f"after {state.time_s:.1f} s it is too early to tell, {over_s:.1f} s must pass" if state.time_s < over_s else ""
        return self._lever.fault or self._lever.unrest or early

    def _progress(self, state: WorldState) -> float:
        return 0.0
