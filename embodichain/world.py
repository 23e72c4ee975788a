"""A world: the parts that all workers share, prepared once, and the seeds of its scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from embodichain import physics as physics_room
from embodichain import robots, tasks
from embodichain.config import WorldConfig
from embodichain.errors import RobotError
from embodichain.physics.painters import PAINTERS
from embodichain.protocols import AssetPool, BatchPhysics, Physics, Task
from embodichain.scenes.reach import ReachTable
from embodichain.tasks.needs import lacking
from embodichain.types import Asset, Robot, TrajectorySpec

__all__ = ["Progress", "Split", "World", "check_names", "scene_seed"]

Progress = Callable[[str, int, int], None]
"""Called with (name of the phase, done, total)."""


class Split(StrEnum):
    """The family of scenes that a seed belongs to. Held-out scenes share no seed with streamed ones."""

    STREAM = "stream"
    HELD_OUT = "held_out"


def scene_seed(run_seed: int, split: Split, number: int) -> int:
    """The 63-bit seed of scene `number`: the same in every worker, different between splits."""
    sequence = np.random.SeedSequence((run_seed, list(Split).index(split), number))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """The prepared parts that all workers share: built once, read only."""

    config: WorldConfig
    robot: Robot
    assets: tuple[Asset, ...]
    reach: ReachTable | None
    """None when no task places anything."""
    pool: AssetPool | None = None
    """The pool for the tasks' requests, when assets are made while a run goes on; `assets` are then only for distractors."""

    @property
    def trajectory_spec(self) -> TrajectorySpec:
        """The schema of this world's trajectories as they are played, with pixels."""
        return self.config.trajectory_spec(self.robot)

    @property
    def stream_spec(self) -> TrajectorySpec:
        """The schema of the ring's trajectories."""
        return self.config.stream_spec(self.robot)

    def make_physics(self) -> Physics:
        """A new physics of the configured kind."""
        return self._make_physics(self.config.physics)

    def make_beside(self, physics: Physics | None = None) -> Physics:
        """A physics for settling scenes, and for drawing pictures of a batch that is stepped elsewhere; see `physics.beside`.

        That is `physics`, when it is given and names no other as its `beside`.
        """
        if physics is not None and not hasattr(physics, "beside"):
            return physics
        return self._make_physics(physics_room.beside(self.config.physics))

    def _make_physics(self, name: str) -> Physics:
        config = self.config
        return physics_room.make(name, painter=config.painter, robot=self.robot, width=config.width, height=config.height)

    def make_batch(self, num_worlds: int) -> BatchPhysics:
        """A new batch of worlds of the configured physics; raises ConfigError when that has no batch."""
        config = self.config
        return physics_room.make_batch(
            config.physics,
            num_worlds=num_worlds,
            painter=config.painter,
            robot=self.robot,
            width=config.width,
            height=config.height,
        )

    def make_tasks(self) -> tuple[Task, ...]:
        """The configured tasks, in order."""
        return tuple(tasks.make(name, recovery=self.config.recovery) for name in self.config.tasks)


def check_names(config: WorldConfig) -> tuple[Robot, tuple[Task, ...]]:
    """Looks up robot, tasks, physics and painter; raises ConfigError or RobotError before anything long has begun.

    A robot that lacks what a task needs is such a RobotError.
    """
    physics_room.PHYSICS.get(config.physics)  # imported, because only that shows what is behind a path
    PAINTERS.check(config.painter)
    robot = robots.get(config.robot)
    chosen = tuple(tasks.make(name, recovery=config.recovery) for name in config.tasks)
    for task in chosen:
        if lacks := lacking(robot, task):
            raise RobotError(
                f"robot {robot.name!r} cannot do task {task.name!r}: {'; '.join(lacks)} (`embodichain robot check` says all)"
            )
    return robot, chosen
