"""turn_switch: tip the lever of a switch over its threshold to the other side, by pressing on the lever alone, and let go."""

from __future__ import annotations

import math

import numpy as np

from embodichain.motion.hand import Hand
from embodichain.protocols import Expert
from embodichain.recovery.config import RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.tasks.custody import Custody
from embodichain.tasks.judge import Judge
from embodichain.tasks.lever import START, THRESHOLD, LeverWatch, tip_over
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import ObjectRequest, Robot, Scene, SceneRequest, WorldState

_PHRASES = Phrases(
    streamed=(
        "Turn the switch {state}.",
        "Turn {state} the switch.",
        "Flip the lever to {state}.",
        "Push the switch lever over to the {state} position.",
    ),
    held_out=("Switch it {state}.", "Tip the lever of the switch so that it is {state}.", "The switch should be {state}."),
)


class TurnSwitch:
    """A bolted switch anywhere in 0.30 x 0.40 m of the table, with a yaw within 45 degrees; either arm may do it."""

    name = "turn_switch"

    def __init__(self, recovery: RecoveryConfig | None = None, held_out: bool = False) -> None:
        self._recovery = recovery or RecoveryConfig()
        self._held_out = held_out

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """One switch, with its lever on the side opposite to the one that the instruction asks for."""
        wanted = 1.0 if rng.random() < 0.5 else -1.0
        instruction = _PHRASES.draw(rng, self._held_out, state="on" if wanted > 0 else "off")
        switch = ObjectRequest(
            role="switch",
            category="switch",
            yaw=(-math.pi / 4, math.pi / 4),
            joint_positions=(-wanted * START,),
            reach=("lever_tip",),
        )
        request = SceneRequest(instruction=instruction, objects=(switch,))
        return widened(request) if self._held_out else request

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Pushes the lever over with closed fingers, backs off, and tries again if it did not go over."""
        hands, side = Hand.all_of(robot, state), wanted_side(scene)
        yield from retry(
            lambda state, miss: tip_over(hands, scene, state, miss, side), state, self._recovery, rng, hands=hands, scene=scene
        )

    def grader(self, scene: Scene) -> TurnSwitchGrader:
        """A fresh grader for `scene`."""
        return TurnSwitchGrader(scene)


def wanted_side(scene: Scene) -> float:
    """+1 when the lever must be on at the end, -1 when off: the side opposite to its start."""
    return -math.copysign(1.0, scene.object("switch").joint_positions[0])


# -------------------------------------------------------------------------------------------------------------- grader


class TurnSwitchGrader(Judge):
    """Success: the lever was pushed over by contact, never moved by itself, and stays over after the robot has let go."""

    done = "the lever was turned and stays"

    def __init__(self, scene: Scene) -> None:
        self._side = wanted_side(scene)
        self._start = scene.object("switch").joint_positions[0]
        self._lever = LeverWatch(scene, self._side)
        super().__init__(scene)

    def _follow(self, state: WorldState) -> None:
        self._lever.observe(state)

    def _forgive(self, things: tuple[Custody, ...]) -> None:
        self._lever.pardon()

    def _missing(self, state: WorldState) -> str:
        return self._lever.fault or ("" if self._lever.touched else "the robot never touched the lever") or self._lever.unrest

    def _progress(self, state: WorldState) -> float:
        lever = self._lever
        travel = min(max((lever.angle - self._start) * self._side / (THRESHOLD + abs(self._start)), 0.0), 1.0)
        return 0.9 * travel if lever.touched else 0.0
