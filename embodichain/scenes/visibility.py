"""Visibility: the share of an object that a fixed camera has in its picture, with no other object in front of it.

A point counts as hidden when the segment from the camera to it passes through a convex piece of another object; the segment is
clipped by the piece's planes (Cyrus and Beck 1978). The robot's arms, which will move, hide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from embodichain.machine_code import compiled
from embodichain.motion.frames import asset_from_body
from embodichain.robots.geometry import bolted_cameras
from embodichain.types import Asset, Pose, Robot, rotate
from embodichain.types.poses import inverse, matrix_of, turned

Floats = NDArray[np.float64]
_SAMPLES = 128
"""Number of points on an object's surface that are tested."""
_KEPT = 512
"""Number of assets, of one size and posture each, whose pieces are cached; bounded, as streams of assets are endless."""
_NEAR = 0.002
"""A piece that begins less than this before a point [m] does not hide it: colliders are a little larger than visuals."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pieces:
    """The convex pieces of an asset in its own frame, and points on its visible surface.

    Planes [K, 4] are (n, d) with n . x + d <= 0 inside; piece i has those from `starts[i]` to `starts[i + 1]`. Spheres [P, 4]
    (center, radius) [m] bound the pieces. Points [N, 3] [m] are spread evenly over the surface; normals [N, 3] are its outward
    normals there.
    """

    planes: Floats
    starts: NDArray[np.int64]
    spheres: Floats
    points: Floats
    normals: Floats

    @classmethod
    def of(cls, asset: Asset, joint_positions: tuple[float, ...]) -> _Pieces:
        planes, spheres, corners_of_faces = [], [], []
        for body in asset.bodies:
            pose = asset_from_body(asset, body.name, joint_positions)
            corners_of_faces.append((rotate(pose.quaternion, body.visual.vertices) + pose.position)[body.visual.faces])
            for hull in body.hulls:
                corners = rotate(pose.quaternion, hull.vertices) + pose.position
                center = (corners.min(axis=0) + corners.max(axis=0)) / 2
                spheres.append((*center, np.linalg.norm(corners - center, axis=1).max()))
                planes.append(ConvexHull(corners).equations)
        points, normals = _spread(np.concatenate(corners_of_faces))
        return cls(
            planes=np.concatenate(planes) if planes else np.empty((0, 4)),
            starts=np.cumsum([0, *map(len, planes)]),
            spheres=np.array(spheres).reshape(-1, 4),
            points=points,
            normals=normals,
        )


def _spread(faces: Floats) -> tuple[Floats, Floats]:
    """Points on triangles [F, 3, 3] in proportion to their areas, and the normals there; deterministic."""
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    ticks = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    chosen = np.minimum(np.searchsorted(np.cumsum(areas), ticks * areas.sum()), len(faces) - 1)
    # The additive recurrence of the plastic number fills the unit square evenly; its upper half is folded into the triangle.
    u, v = (np.arange(1, _SAMPLES + 1) * step % 1.0 for step in (0.7548776662466927, 0.5698402909980532))
    u, v = np.where(u + v > 1.0, 1.0 - u, u), np.where(u + v > 1.0, 1.0 - v, v)
    corners = faces[chosen]
    points = corners[:, 0] + u[:, None] * (corners[:, 1] - corners[:, 0]) + v[:, None] * (corners[:, 2] - corners[:, 0])
    return points, normals[chosen] / areas[chosen, None]


class Views:
    """The cameras of a robot that no joint moves. Pictures are assumed to be square."""

    def __init__(self, robot: Robot) -> None:
        """Raises RobotError when the robot's MJCF does not compile."""
        base = matrix_of(robot.world_from_base.quaternion)
        self._cameras = [
            (base @ eye + robot.world_from_base.position, base @ axes, math.tan(math.radians(fovy) / 2))
            for eye, axes, fovy in bolted_cameras(robot)
        ]
        self._pieces: dict[tuple[str, str, float, tuple[float, ...]], _Pieces] = {}

    def share(
        self,
        asset: Asset,
        pose: Pose,
        joint_positions: tuple[float, ...] = (),
        others: Iterable[tuple[Asset, Pose, tuple[float, ...]]] = (),
    ) -> float:
        """The visible share of an asset at `pose`, 0..1, from the camera that sees most of it; 1 without such cameras.

        The share is that of the surface that faces the camera, weighted by its area in the picture. `others` are the objects that
        may hide it: asset, pose and joint positions of each.
        """
        if not self._cameras:
            return 1.0
        own = self._of(asset, joint_positions)
        points, normals = rotate(pose.quaternion, own.points) + pose.position, rotate(pose.quaternion, own.normals)
        standing = [(self._of(other, joints), inverse(where)) for other, where, joints in others]
        best = 0.0
        for eye, axes, half in self._cameras:
            ways = points - eye
            facing = np.maximum(-np.einsum("ij,ij->i", ways, normals), 0.0) / np.linalg.norm(ways, axis=1) ** 3
            seen = ways @ axes
            depth = -seen[:, 2]
            inside = (depth > 0.0) & (np.abs(seen[:, :2]).max(axis=1) <= half * depth)
            for pieces, own_from_world in standing:
                quaternion, shift = own_from_world.quaternion, np.array(own_from_world.position)
                start = np.array(turned(quaternion, (float(eye[0]), float(eye[1]), float(eye[2])))) + shift
                inside &= ~_hidden(start, rotate(quaternion, points) + shift, pieces.planes, pieces.starts, pieces.spheres)
            best = max(best, float(facing[inside].sum() / max(float(facing.sum()), 1e-12)))
        return best

    def _of(self, asset: Asset, joint_positions: tuple[float, ...]) -> _Pieces:
        key = (asset.name, asset.content_hash, asset.scale, joint_positions)
        if key not in self._pieces:
            if len(self._pieces) >= _KEPT:
                self._pieces.pop(next(iter(self._pieces)))
            self._pieces[key] = _Pieces.of(asset, joint_positions)
        return self._pieces[key]


@compiled()
def _hidden(eye: Any, points: Any, planes: Any, starts: Any, spheres: Any) -> Any:
    """Whether a convex piece lies between `eye` [3] and each of the points [N, 3], all in one frame: shape [N]."""
    hidden = np.zeros(points.shape[0], np.bool_)
    for i in range(points.shape[0]):
        way = points[i] - eye
        length = math.sqrt(way[0] * way[0] + way[1] * way[1] + way[2] * way[2])
        last = 1.0 - _NEAR / length
        for piece in range(spheres.shape[0]):
            along = 0.0
            for k in range(3):
                along += (spheres[piece, k] - eye[k]) * way[k]
            along = min(max(along / (length * length), 0.0), 1.0)
            squared = 0.0
            for k in range(3):
                squared += (eye[k] + along * way[k] - spheres[piece, k]) ** 2
            if squared > spheres[piece, 3] ** 2:
                continue
            enter, leave = 0.0, last
            for row in range(starts[piece], starts[piece + 1]):
                slope, height = 0.0, planes[row, 3]
                for k in range(3):
                    slope += planes[row, k] * way[k]
                    height += planes[row, k] * eye[k]
                if slope < 0.0:
                    enter = max(enter, -height / slope)
                elif slope > 0.0:
                    leave = min(leave, -height / slope)
                elif height > 0.0:
                    leave = -1.0
                if enter >= leave:
                    break
            if enter < leave:
                hidden[i] = True
                break
    return hidden
