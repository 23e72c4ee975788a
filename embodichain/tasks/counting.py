"""counting: the task for the self-verifying physics. Commands are derived from the scene's seed; there are no objects."""

from __future__ import annotations

import numpy as np

from embodichain.errors import IntegrityError
from embodichain.physics import counting
from embodichain.protocols import Expert
from embodichain.types import Robot, Scene, SceneRequest, Step, Verdict, WorldState


class CountingTask:
    """Drives any robot with numbers that `physics.counting.verify` can recompute. Episodes differ in length."""

    name = "counting"

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """An empty table."""
        return SceneRequest(instruction=counting.INSTRUCTION, objects=())

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Yields the scene's commands in order; raises IntegrityError when a state is skipped or repeated."""
        labels = counting.segments(scene.seed)
        for number, command in enumerate(counting.commands(scene.seed, robot)):
            if round(state.time_s * state.control_hz) != number:
                raise IntegrityError(f"counting expert: step {number} of scene {scene.seed} got the state of {state.time_s:.2f} s")
            state = yield Step(command=command, segment=labels[number])

    def grader(self, scene: Scene) -> CountingGrader:
        """A fresh grader for `scene`."""
        return CountingGrader(scene)


class CountingGrader:
    """Checks that it sees every control step once, in order. Fails the scenes that are meant to fail."""

    def __init__(self, scene: Scene) -> None:
        self._seed = scene.seed
        self._observed = 0

    def observe(self, state: WorldState) -> None:
        """Takes in the next state; raises IntegrityError when it is not the next one."""
        self._observed += 1
        if round(state.time_s * state.control_hz) != self._observed:
            raise IntegrityError(f"counting grader: state {self._observed} of scene {self._seed} is that of {state.time_s:.2f} s")

    def pardon(self) -> None:
        """Does nothing, because counting has no failures."""

    def verdict(self) -> Verdict:
        """Success for all but one in sixteen scenes."""
        if self._observed == 0:
            return Verdict(success=False, reason="nothing was counted")
        if not counting.succeeds(self._seed):
            return Verdict(success=False, reason="meant to be rejected")
        return Verdict(success=True, reason=counting.REASON, progress=1.0)
