"""Outlines: what objects and fingers cover seen from above, and how much room is left between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull

from embodichain.motion.frames import asset_from_body, world_from_asset
from embodichain.motion.kinematics import Floats
from embodichain.types import Asset, Pose, Scene, WorldState, rotate

FINGER_HALF_WIDTH, FINGER_THICKNESS = 0.011, 0.016
"""Of one finger [m]: half its extent along the tip's X axis; its extent along the closing axis, outward from the pad."""
FINGER_BELOW, FINGER_ABOVE = 0.010, 0.055
"""How far a finger reaches beyond the tip along the approach, and back from it [m]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """A convex polygon in world X, Y [m], shape [N, 2], counter-clockwise; heights [m] of its lowest and highest point."""

    vertices: Floats
    bottom: float
    top: float

    @classmethod
    def of_points(cls, points: Floats) -> Outline:
        """The convex hull of world points [m], shape [N, 3], seen from above."""
        heights = points[:, 2]
        flat = points[:, :2]
        return cls(vertices=flat[ConvexHull(flat).vertices], bottom=float(heights.min()), top=float(heights.max()))

    def span(self, direction: Floats) -> tuple[float, float]:
        """Where the outline begins and ends along a unit direction in the plane [m]."""
        along = self.vertices @ direction
        return float(along.min()), float(along.max())


@lru_cache(maxsize=256)
def _corners(asset: Asset, joint_positions: tuple[float, ...]) -> Floats:
    """Points of an asset whose hull is the asset's, in its own frame [m], shape [N, 3]."""
    points = []
    for body in asset.bodies:
        pose = asset_from_body(asset, body.name, joint_positions)
        points.append(rotate(pose.quaternion, body.visual.vertices) + pose.position)
    whole = np.concatenate(points)
    return whole[ConvexHull(whole).vertices]


def outline_of(asset: Asset, world_from_asset: Pose, joint_positions: tuple[float, ...] = ()) -> Outline:
    """What an asset covers when it stands at a pose."""
    corners = _corners(asset, joint_positions)
    return Outline.of_points(rotate(world_from_asset.quaternion, corners) + world_from_asset.position)


def outlines(scene: Scene, state: WorldState, leaving_out: Iterable[str] = ()) -> Mapping[str, Outline]:
    """What every object covers now, by role."""
    left_out = set(leaving_out)
    return {
        placed.role: outline_of(
            placed.asset, world_from_asset(placed.asset, state.object_poses[placed.role]), state.object_joints[placed.role]
        )
        for placed in scene.objects
        if placed.role not in left_out
    }


def fingers(world_from_tip: Pose, opening: float) -> tuple[Outline, Outline]:
    """What the two fingers of a hand cover when they are `opening` [m] apart."""
    found = []
    for side in (-1.0, 1.0):
        inner, outer = side * opening / 2, side * (opening / 2 + FINGER_THICKNESS)
        corners = np.array(
            [
                (x, y, z)
                for x in (-FINGER_HALF_WIDTH, FINGER_HALF_WIDTH)
                for y in (inner, outer)
                for z in (-FINGER_ABOVE, FINGER_BELOW)
            ]
        )
        found.append(Outline.of_points(rotate(world_from_tip.quaternion, corners) + world_from_tip.position))
    return found[0], found[1]


def gap(first: Outline, second: Outline) -> float:
    """Distance between two outlines [m], negative when they overlap; exact but where two corners face each other."""
    return max(_separation(first.vertices, second.vertices), _separation(second.vertices, first.vertices))


def _separation(polygon: Floats, others: Floats) -> float:
    edges = np.roll(polygon, -1, axis=0) - polygon
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return float(((normals @ others.T).min(axis=1) - np.einsum("ij,ij->i", normals, polygon)).max())


def room_for_fingers(world_from_tip: Pose, opening: float, obstacles: Iterable[Outline]) -> float:
    """Smallest distance [m] of the fingers at a pose from obstacles as tall as they reach down; 1 when nothing is near."""
    both = fingers(world_from_tip, opening)
    return min((gap(finger, thing) for thing in obstacles for finger in both if finger.bottom < thing.top), default=1.0)
