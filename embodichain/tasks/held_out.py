"""Tasks in scenes unlike the streamed ones: placed more widely, or asked for in words that no training episode used."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np

from embodichain import tasks
from embodichain.protocols import Expert, Grader, Task
from embodichain.tasks.variants import widened
from embodichain.types import Range, Robot, Scene, SceneRequest, WorldState


class Varied:
    """A task with other scene requests, but the same expert and grader."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.name = task.name

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """The expert of the original task."""
        return self._task.expert(scene, robot, state, rng)

    def grader(self, scene: Scene) -> Grader:
        """The grader of the original task."""
        return self._task.grader(scene)


class Widened(Varied):
    """A task whose objects lie in ranges 1.5 times as wide; everything else is unchanged."""

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """The task's scene request with widened ranges."""
        return widened(self._task.request(rng))


class Reworded(Varied):
    """A task with unchanged scenes, whose instruction comes from its held-out variant `speaker`."""

    def __init__(self, task: Task, speaker: Task) -> None:
        super().__init__(task)
        self._speaker = speaker

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """The task's scene request with the speaker's instruction; draws as many numbers from `rng` as the task itself."""
        said = self._speaker.request(deepcopy(rng)).instruction
        return replace(self._task.request(rng), instruction=said)


def out_of_distribution(name: str) -> Task:
    """The task called `name` placed more widely and in other words, by its own held-out variant where that has wider ranges."""
    task, plain = tasks.make(name, held_out=True), tasks.make(name)
    return task if _ranges(task) != _ranges(plain) else Widened(task)


def _ranges(task: Task) -> list[tuple[Range, Range]]:
    return [(wanted.x, wanted.y) for wanted in task.request(np.random.default_rng(0)).objects]
