"""Flow: judges step by step how each grain gets from one vessel into another. Several graders use it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from embodichain.motion.handling import object_pose
from embodichain.tasks.holding import holders
from embodichain.types import Pose, Scene, WorldState, rotate
from embodichain.types.poses import inverse, turned

Floats = NDArray[np.float64]

SOURCE, FLIGHT, ARRIVED, ASTRAY = range(4)
"""Stages of a grain: in the source vessel, between the mouths, in the target vessel, or lost for good."""
POURED = math.radians(60.0)
"""Least angle [rad] by which a vessel leans while it is poured from."""
JUMP = 0.08
"""Longest distance that a grain can move in one control step [m]: 4 m/s."""
_DEEP = 0.05
"""Depth below a rim [m] at which a grain that passed it may be seen first, at the speed of a fall of 0.2 m."""
_HELD_STEPS = 3
"""Number of control steps for which a hold counts, because contacts are sampled once a step and flicker."""


def _local(scene: Scene, state: WorldState, role: str) -> Floats:
    """Positions of all grains in the frame of a vessel [m], shape [N, 3]."""
    pose: Pose = inverse(object_pose(scene, state, role))
    return rotate(pose.quaternion, state.grain_positions) + pose.position


def within(scene: Scene, state: WorldState, role: str) -> NDArray[np.bool_]:
    """Which grains are inside a vessel, below its rim and within its walls: shape [N]."""
    bounds = scene.object(role).asset.bounds
    points = _local(scene, state, role)
    return (np.hypot(points[:, 0], points[:, 1]) < bounds[1, 0]) & (points[:, 2] > 0.0) & (points[:, 2] < bounds[1, 2])


class Flow:
    """Follows the grains of a scene from one vessel to another.

    A grain may leave only through the mouth of a vessel that leans and that a hand holds in the air, and arrive only through the
    mouth of a vessel that the other hand holds. A grain that jumps, passes a wall, touches down outside, or leaves the second
    vessel again is lost for good.
    """

    def __init__(self, scene: Scene, source: str, target: str) -> None:
        self._scene, self._source, self._target = scene, source, target
        self._stage = np.full(len(scene.grains.positions), SOURCE)
        self._positions = np.array(scene.grains.positions, np.float64).reshape(-1, 3)
        self._heights = {role: float(scene.object(role).asset.bounds[1, 2]) for role in (source, target)}
        self._held: dict[str, dict[str, int]] = {source: {}, target: {}}

    def observe(self, state: WorldState) -> None:
        """Takes in the state after one control step."""
        scene, stage = self._scene, self._stage
        for role, seen in self._held.items():
            for arm in list(seen):
                seen[arm] -= 1
                if not seen[arm]:
                    del seen[arm]
            seen |= dict.fromkeys(holders(state, role), _HELD_STEPS)
        jumped = np.linalg.norm(state.grain_positions - self._positions, axis=1) > JUMP
        in_source, in_target = (within(scene, state, role) for role in (self._source, self._target))
        lean = turned(object_pose(scene, state, self._source).quaternion, (0.0, 0.0, 1.0))[2]
        pouring = lean < math.cos(POURED) and bool(self._held[self._source]) and not state.touching(f"{self._source}/", "table")
        steady = any(arm not in self._held[self._source] for arm in self._held[self._target])
        leaving = (stage == SOURCE) & ~in_source
        by_mouth = _local(scene, state, self._source)[:, 2] > self._heights[self._source] - _DEEP
        arriving = ((stage == FLIGHT) | leaving) & in_target
        from_above = _local(scene, state, self._target)[:, 2] > self._heights[self._target] - _DEEP
        fallen = state.grain_positions[:, 2] < 2.0 * scene.grains.radius
        stage[leaving] = np.where(by_mouth[leaving] & pouring, FLIGHT, ASTRAY)
        lawful = arriving & from_above & steady & (stage == FLIGHT)
        stage[arriving] = np.where(lawful[arriving], ARRIVED, ASTRAY)
        stage[(stage == ARRIVED) & ~in_target] = ASTRAY
        stage[(stage == FLIGHT) & fallen] = ASTRAY
        stage[jumped] = ASTRAY
        self._positions = state.grain_positions

    @property
    def arrived(self) -> int:
        """Number of grains that arrived by the mouths and are still there."""
        return int((self._stage == ARRIVED).sum())

    @property
    def astray(self) -> int:
        """Number of grains that are lost."""
        return int((self._stage == ASTRAY).sum())
