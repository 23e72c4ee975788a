"""Layout: moves overlapping objects apart on the table by gradient descent on signed distances between their footprints.

Each object is one convex hull seen from above. The cost of a layout is half the sum of squared clearance deficits over all pairs.
Its gradient with respect to an object's position is minus the deficit times the separating normal, summed over the pairs, so every
pair is relaxed at once. After each step, positions are projected into the ranges that the task gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from embodichain.motion.frames import asset_from_body
from embodichain.scenes.config import LayoutConfig
from embodichain.types import Asset, rotate

Array = NDArray[np.float64]


_PATIENCE = 10
"""Number of iterations without progress after which a descent counts as stuck."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Footprint:
    """A convex polygon seen from above: vertices [m], shape [N, 2], counter-clockwise, with outward edge normals."""

    vertices: Array
    normals: Array

    @classmethod
    def of_points(cls, points: Array) -> Footprint:
        """The convex hull of points on the table [m], shape [N, 2]; raises ValueError when they span no area."""
        if len(points) < 3 or np.ptp(points, axis=0).min() < 1e-6:
            raise ValueError(f"a footprint needs points that span an area, got {len(points)} spanning {np.ptp(points, axis=0)} m")
        vertices = points[ConvexHull(points).vertices]
        edges = np.roll(vertices, -1, axis=0) - vertices
        normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
        return cls(vertices=vertices, normals=normals / np.linalg.norm(normals, axis=1, keepdims=True))

    @classmethod
    def of_asset(cls, asset: Asset) -> Footprint:
        """The asset seen from above, with its joints at zero, at their lower and at their upper limits."""
        joints = asset.movable_joints
        ends = {(), tuple(joint.span[0] for joint in joints), tuple(joint.span[1] for joint in joints)}
        points = []
        for positions in sorted(ends):
            for body in asset.bodies:
                pose = asset_from_body(asset, body.name, positions)
                points.append(rotate(pose.quaternion, body.visual.vertices)[:, :2] + pose.position[:2])
        return cls.of_points(np.concatenate(points))

    def grown(self, margin: float) -> Footprint:
        """The outline of all points within `margin` [m], corners rounded by octagons; the footprint itself when `margin` is 0."""
        if margin == 0.0:
            return self
        angles = np.arange(8) * (np.pi / 4) + np.pi / 8
        ring = margin / np.cos(np.pi / 8) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return Footprint.of_points((self.vertices[:, None] + ring).reshape(-1, 2))

    def turned(self, yaw: float) -> Footprint:
        """The same polygon turned about its origin by `yaw` [rad]."""
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, s], [-s, c]])
        return Footprint(vertices=self.vertices @ turn, normals=self.normals @ turn)


def signed_distance(first: Footprint, second: Footprint, offset: Array) -> tuple[float, Array]:
    """Gap between two footprints when the second is at `offset` [m] from the first; negative when they overlap.

    By separating axes: the largest gap over the edge normals of both. It is exact under overlap and wherever a corner faces an
    edge, and a lower bound where two corners face each other. Also returns the unit normal, from the first to the second, that
    attains it.
    """
    moved = second.vertices + offset
    along_first = (first.normals @ moved.T).min(axis=1) - np.einsum("ij,ij->i", first.normals, first.vertices)
    along_second = (second.normals @ first.vertices.T).min(axis=1) - np.einsum("ij,ij->i", second.normals, moved)
    i, j = int(along_first.argmax()), int(along_second.argmax())
    if along_first[i] >= along_second[j]:
        return float(along_first[i]), first.normals[i]
    return float(along_second[j]), -second.normals[j]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Positions of all objects [m], shape [N, 2]; the smallest gap [m]; the pair that has it; the number of steps taken.

    In the pair, numbers from N on are obstacles.
    """

    positions: Array
    gap: float
    tightest: tuple[int, int]
    iterations: int


def separate(
    footprints: Sequence[Footprint],
    positions: Array,
    lower: Array,
    upper: Array,
    config: LayoutConfig | None = None,
    obstacles: Sequence[Footprint] = (),
) -> Layout:
    """Moves objects apart, and away from obstacles, as far as their ranges allow.

    Args:
        footprints: One per object, already turned to its yaw.
        positions: Initial positions of the objects' origins [m], shape [N, 2].
        lower: Lower corner of each origin's range [m], shape [N, 2].
        upper: Upper corner of each origin's range [m], shape [N, 2]; equal to `lower` for an object that must not move.
        config: Clearance and effort.
        obstacles: Footprints that do not move, in world coordinates.

    Returns:
        The layout reached. It is solved when `gap >= clearance - tolerance`: the caller decides what to do when it is not.
    """
    config = config or LayoutConfig()
    positions = np.clip(positions, lower, upper)
    everything = [*footprints, *obstacles]
    radii = [float(np.linalg.norm(footprint.vertices, axis=1).max()) for footprint in everything]
    centers = np.zeros((len(everything), 2))
    costs: list[float] = []
    for iteration in range(config.max_iterations + 1):
        centers[: len(footprints)] = positions
        gradient = np.zeros_like(centers)
        cost, gap, tightest = 0.0, np.inf, (0, 0)
        for i in range(len(footprints)):
            for j in range(i + 1, len(everything)):
                offset = centers[j] - centers[i]
                # Bounding discs decide most pairs; the exact gap matters only near the clearance.
                distance = float(np.hypot(offset[0], offset[1])) - radii[i] - radii[j]
                if distance < config.clearance:
                    distance, normal = signed_distance(everything[i], everything[j], offset)
                    deficit = max(config.clearance - distance, 0.0)
                    gradient[i] += deficit * normal
                    gradient[j] -= deficit * normal
                    cost += deficit * deficit / 2
                if distance < gap:
                    gap, tightest = distance, (i, j)
        costs.append(cost)
        stuck = iteration >= _PATIENCE and cost > 0.999 * costs[-1 - _PATIENCE]
        if gap >= config.clearance - config.tolerance or stuck or iteration == config.max_iterations:
            return Layout(positions=positions, gap=gap, tightest=tightest, iterations=iteration)
        positions = np.clip(positions - config.step * gradient[: len(footprints)], lower, upper)
    raise AssertionError("unreachable: the loop returns on its last iteration")
