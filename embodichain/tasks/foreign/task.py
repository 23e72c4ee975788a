"""A benchmark's task behind our interface: the seed decides the scene, and the benchmark's success is the verdict."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError
from embodichain.physics.foreign.state import EnvironmentState
from embodichain.protocols import Expert
from embodichain.types import Robot, Scene, SceneRequest, Step, Verdict, WorldState


class ForeignTask:
    """Implements `protocols.Task`.

    Args:
        name: As commands take it, "metaworld:reach-v3".
        instruction: The instruction in words; benchmarks have none.
        limit: Number of control steps within which the benchmark's task must be done.
        begin: Makes, for each episode, the function from state to the expert's command.
    """

    def __init__(
        self, name: str, *, instruction: str, limit: int, begin: Callable[[], Callable[[EnvironmentState], NDArray[np.float64]]]
    ) -> None:
        self.name = name
        self._instruction, self._limit, self._begin = instruction, limit, begin

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """A request without objects: the benchmark places them by the scene's seed."""
        return SceneRequest(instruction=self._instruction, objects=())

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Acts until the task is done or its time is up, and then stays where it is, with its gripper as it is."""
        command_of, command = self._begin(), robot.home
        for _ in range(self._limit):
            told = foreign(state, self.name)
            if told.success:
                break
            command = command_of(told)
            state = yield Step(command=command)
        rest = robot.home
        rest[-1] = command[-1]
        yield Step(command=rest)

    def grader(self, scene: Scene) -> ForeignGrader:
        """A fresh grader."""
        return ForeignGrader(self.name, self._limit)


class ForeignGrader:
    """Success as the benchmark's own evaluation counts it: at any moment within its time limit."""

    def __init__(self, name: str, limit: int) -> None:
        self._name, self._limit = name, limit
        self._steps, self._progress = 0, 0.0
        self._done = False

    def observe(self, state: WorldState) -> None:
        """Takes in the state after one control step; nothing counts after the benchmark's own limit."""
        told = foreign(state, self._name)
        self._steps += 1
        if self._steps <= self._limit:
            self._done = self._done or told.success
            self._progress = max(self._progress, told.progress)

    def pardon(self) -> None:
        """Does nothing: the benchmark asks only whether its task was done."""

    def verdict(self) -> Verdict:
        """The verdict; its progress is the best reward so far as a share of the full one."""
        if self._done:
            return Verdict(success=True, reason=f"{self._name} is done", progress=1.0)
        return Verdict(
            success=False, reason=f"{self._name} was not done in {min(self._steps, self._limit)} steps", progress=self._progress
        )


def foreign(state: WorldState, name: str) -> EnvironmentState:
    """The state as a benchmark's; raises ConfigError when the task is played in another physics."""
    if not isinstance(state, EnvironmentState):
        raise ConfigError(f"{name} can only be played in its own benchmark: leave --physics out")
    return state
