"""Simulates a streamed episode again, from only the world's configuration and the number of its scene."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.episode import Outcome
from embodichain.motion.action import ActionCodec
from embodichain.rollout import ExpertPilot, rollout
from embodichain.stages import SceneStage
from embodichain.types import Scene
from embodichain.world import Split, World

__all__ = ["Resimulated", "fingerprints", "resimulate"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Resimulated:
    """An episode as it was streamed: its scene, its result, and the trajectory's arrays with pixels."""

    scene: Scene
    outcome: Outcome
    trajectory: Mapping[str, NDArray]


def resimulate(world: World, number: int, split: Split = Split.STREAM) -> Resimulated:
    """Plays scene `number` of a split again with its task's expert, bitwise the same, whatever process played it first.

    Raises SceneError or MotionError where the stream refused the scene, with the same reason.
    """
    physics = world.make_physics()
    try:
        task, scene = SceneStage(world, split, physics).step(number)
        out = world.trajectory_spec.allocate()
        pilot = ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))
        outcome = rollout(physics, ActionCodec(world.robot), scene, pilot, task.grader(scene), out, world.trajectory_spec)
    finally:
        physics.close()
    return Resimulated(scene=scene, outcome=outcome, trajectory=out)


_OF_THE_WORKER = ("trajectory_id", "info")
"""Fields that identify the producer of a trajectory, and say nothing about the episode."""


def fingerprints(trajectory: Mapping[str, NDArray]) -> dict[str, str]:
    """SHA-256 of every field of an episode. Episodes are bitwise equal exactly when these are."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
        for name, values in trajectory.items()
        if name not in _OF_THE_WORKER
    }
