"""Outlines of objects and fingers seen from above, and the room between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull

from embodichain.machine_code import compiled
from embodichain.motion.clearance import Floats
from embodichain.motion.frames import asset_from_body, world_from_asset
from embodichain.types import Asset, Fingers, Pose, Scene, WorldState, rotate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """A convex polygon in world X, Y [m], shape [N, 2], counter-clockwise; heights [m] of its lowest and highest point."""

    vertices: Floats
    bottom: float
    top: float

    @classmethod
    def of_points(cls, points: Floats) -> Outline:
        """The convex hull, seen from above, of world points [m], shape [N, 3]."""
        heights = points[:, 2]
        flat = points[:, :2]
        return cls(vertices=flat[ConvexHull(flat).vertices], bottom=float(heights.min()), top=float(heights.max()))

    def span(self, direction: Floats) -> tuple[float, float]:
        """The interval [m] that the outline covers along a unit direction in the plane."""
        along = self.vertices @ direction
        return float(along.min()), float(along.max())


@lru_cache(maxsize=256)
def _corners(asset: Asset, joint_positions: tuple[float, ...]) -> Floats:
    """The vertices of an asset's convex hull, in its own frame [m], shape [N, 3]."""
    points = []
    for body in asset.bodies:
        pose = asset_from_body(asset, body.name, joint_positions)
        points.append(rotate(pose.quaternion, body.visual.vertices) + pose.position)
    whole = np.concatenate(points)
    return whole[ConvexHull(whole).vertices]


def bottom_of(asset: Asset, world_from_asset: Pose, joint_positions: tuple[float, ...] = ()) -> float:
    """Height [m] of the lowest point of an asset at a pose; cheaper than its outline."""
    a, b, c = _corners(asset, joint_positions).T
    w, x, y, z = world_from_asset.quaternion
    i, j, k = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return float((c + w * k + (x * j - y * i) + world_from_asset.position[2]).min())


@lru_cache(maxsize=128)
def outline_of(asset: Asset, world_from_asset: Pose, joint_positions: tuple[float, ...] = ()) -> Outline:
    """The outline of an asset at a pose."""
    corners = _corners(asset, joint_positions)
    return Outline.of_points(rotate(world_from_asset.quaternion, corners) + world_from_asset.position)


def outlines(scene: Scene, state: WorldState, leaving_out: Iterable[str] = ()) -> Mapping[str, Outline]:
    """The present outline of every object, by role."""
    left_out = set(leaving_out)
    return {
        placed.role: outline_of(
            placed.asset, world_from_asset(placed.asset, state.object_poses[placed.role]), state.object_joints[placed.role]
        )
        for placed in scene.objects
        if placed.role not in left_out
    }


def fingers(world_from_tip: Pose, opening: float, size: Fingers) -> tuple[Outline, Outline]:
    """The outlines of the two fingers of a hand, of that size and `opening` [m] apart."""
    found = []
    for side in (-1.0, 1.0):
        ends = (side * opening / 2, side * (opening / 2 + size.thickness))
        corners = rotate(world_from_tip.quaternion, _corners_of(size) * (1.0, ends[1] - ends[0], 1.0) + (0.0, ends[0], 0.0))
        corners += world_from_tip.position
        heights = corners[:, 2]
        found.append(Outline(vertices=_hull(corners), bottom=float(heights.min()), top=float(heights.max())))
    return found[0], found[1]


@lru_cache(maxsize=16)
def _corners_of(size: Fingers) -> Floats:
    """Corners of a finger as a box, shape [8, 3]: along Y from 0 to 1."""
    half_width = size.half_width
    return np.array(tuple(itertools.product((-half_width, half_width), (0.0, 1.0), (-size.above, size.below))))


_SAME, _STRAIGHT = 1e-9, 1e-13
"""Points closer than `_SAME` [m] are merged; corners whose triangle has less than `_STRAIGHT` [m^2] of double area are dropped."""


@compiled()
def _hull(points: Floats) -> Floats:
    """Corners [N, 2], counter-clockwise, of the convex hull of points [n, 3] seen from above (Andrew's monotone chain)."""
    order = np.argsort(points[:, 0], kind="mergesort")
    kept = np.empty((points.shape[0], 2))
    count = 0
    for index in order:
        x, y = points[index, 0], points[index, 1]
        # Points that are equal but for rounding would make turns of random sign, and with them corners that are none.
        known = False
        for i in range(count):
            known |= abs(kept[i, 0] - x) < _SAME and abs(kept[i, 1] - y) < _SAME
        if not known:
            # Sorted by x, and by y where x is equal: the chain below needs both, and the points are few.
            place = count
            while place > 0 and kept[place - 1, 0] >= x - _SAME and kept[place - 1, 1] > y:
                kept[place] = kept[place - 1]
                place -= 1
            kept[place, 0], kept[place, 1] = x, y
            count += 1
    chain = np.empty((2 * count + 1, 2))
    size = 0
    for sense in range(2):
        base = size
        for step in range(count):
            corner = kept[step if sense == 0 else count - 1 - step]
            while size - base >= 2:
                ax, ay = chain[size - 1, 0] - chain[size - 2, 0], chain[size - 1, 1] - chain[size - 2, 1]
                bx, by = corner[0] - chain[size - 2, 0], corner[1] - chain[size - 2, 1]
                if ax * by - ay * bx > _STRAIGHT:
                    break
                size -= 1
            chain[size] = corner
            size += 1
        size -= 1  # the last point of each half is the first of the other
    return chain[:size].copy()


@compiled()
def _gap(first: Floats, second: Floats) -> float:
    """`gap` between two polygons [N, 2] and [M, 2]."""
    widest = -math.inf
    for turn in range(2):
        polygon, others = (first, second) if turn == 0 else (second, first)
        for i in range(polygon.shape[0]):
            after = polygon[(i + 1) % polygon.shape[0]]
            # Two convex polygons are apart exactly when an edge of one separates them (separating axes), so edge normals suffice.
            x, y = after[1] - polygon[i, 1], polygon[i, 0] - after[0]
            length = math.sqrt(x * x + y * y)
            nearest = math.inf
            for k in range(others.shape[0]):
                nearest = min(nearest, x * (others[k, 0] - polygon[i, 0]) + y * (others[k, 1] - polygon[i, 1]))
            widest = max(widest, nearest / length)
    return widest


def gap(first: Outline, second: Outline) -> float:
    """Distance between two outlines [m], negative if they overlap; a lower bound if two corners face each other, else exact."""
    return float(_gap(first.vertices, second.vertices))


def room_for_fingers(world_from_tip: Pose, opening: float, size: Fingers, obstacles: Iterable[Outline]) -> float:
    """Smallest distance [m] of fingers of a size from obstacles that are high enough to touch them; 1 if there are none."""
    both = fingers(world_from_tip, opening, size)
    return min((gap(finger, thing) for thing in obstacles for finger in both if finger.bottom < thing.top), default=1.0)
