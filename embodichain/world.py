"""A world: the parts that all workers share, prepared once, and the seeds of its scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from embodichain import __version__, robots, tasks
from embodichain import physics as physics_room
from embodichain.config import WorldConfig
from embodichain.errors import RobotError
from embodichain.physics.painters import PAINTERS
from embodichain.protocols import AssetPool, BatchPhysics, Physics, Task
from embodichain.scenes.reach import ReachTable
from embodichain.tasks.held_out import out_of_distribution
from embodichain.tasks.needs import lacking
from embodichain.types import Asset, Origin, Robot, TrajectorySpec
from embodichain.types.plain import as_plain, content_hash, differing

__all__ = ["Progress", "Split", "World", "check_names", "config_hash", "revision", "scene_seed"]

Progress = Callable[[str, int, int], None]
"""Called with (name of the phase, done, total)."""


class Split(StrEnum):
    """The family of scenes that a seed belongs to. Held-out scenes share no seed with streamed ones."""

    STREAM = "stream"
    HELD_OUT = "held_out"
    BEYOND = "beyond"
    """Held-out scenes whose tasks are placed more widely, and asked for in words that no stream has (`tasks.held_out`)."""


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

    def origin(self, number: int, split: Split = Split.STREAM) -> Origin:
        """The record of scene `number` of this world, from which it can be made again."""
        return Origin(number=number, split=str(split), **self._identity)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What the origins of all scenes of this world have in common."""
        return {
            "world": differing(self.config, WorldConfig()),
            "world_hash": config_hash(self.config),
            "robot_hash": self.robot.content_hash,
            "revision": revision(),
        }

    def make_tasks(self, split: Split = Split.STREAM) -> tuple[Task, ...]:
        """The configured tasks, in order, as the scenes of a split have them."""
        if split is Split.BEYOND:
            return tuple(out_of_distribution(name) for name in self.config.tasks)
        return tuple(tasks.make(name, recovery=self.config.recovery) for name in self.config.tasks)


@lru_cache(maxsize=1)
def revision() -> str:
    """The engine's version and a hash of its sources and tables, as in "0.1.0+3f29c1a07b5d": other code may make another scene."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".json") and path.is_file()):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"


def config_hash(config: WorldConfig) -> str:
    """Hash of every value of a world's configuration, those with defaults included."""
    return content_hash(as_plain(config))


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
