"""The sides on which an object can stand, and how far it may be tilted before it falls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from embodichain.assets.geometry.articulate import body_poses
from embodichain.assets.geometry.shapes import moved
from embodichain.types import Asset, Mesh, Quaternion
from embodichain.types.poses import matrix_of, quaternion_between

_SAME_SIDE = math.radians(8.0)
_LEAST_TILT = math.radians(4.0)


def tipping_angle(asset: Asset) -> float:
    """The smallest tilt [rad] that topples the asset as it stands, with joints at zero; half a turn when it is bolted down."""
    if asset.fixed_base:
        return math.pi
    poses = body_poses(asset.bodies, asset.joints, {})
    points = np.concatenate([moved(hull, poses[body.name]).vertices for body in asset.bodies for hull in body.hulls])
    masses = np.array([body.mass for body in asset.bodies])
    centers = np.array(
        [moved(Mesh(vertices=np.array([body.center_of_mass]), faces=np.zeros((0, 3), np.int32)), poses[body.name]).vertices[0]
         for body in asset.bodies]
    )  # fmt: skip
    center = masses @ centers / masses.sum()
    floor = points[:, 2].min()
    size = float(np.ptp(points, axis=0).max())
    return margin(points[points[:, 2] < floor + 0.005 * size][:, :2], center[:2], float(center[2] - floor))


def supports(mesh: Mesh, center: Sequence[float], most: int = 4) -> tuple[Quaternion, ...]:
    """Rotations that stand a solid with this centre of mass on sides other than its lowest, steadiest first.

    A side of the convex hull can carry the object when the centre of mass is above it (Goldberg et al. 1999).
    """
    hull = ConvexHull(mesh.vertices)
    normals = hull.equations[:, :3]
    found: list[tuple[float, NDArray[np.float64]]] = []
    for normal in normals[np.lexsort(np.round(normals, 6).T)]:
        near = [other for _, other in found if math.acos(min(float(other @ normal), 1.0)) < _SAME_SIDE]
        if near or math.acos(min(-float(normal[2]), 1.0)) < _SAME_SIDE:
            continue
        turned = mesh.vertices @ _down(normal).T
        middle = _down(normal) @ np.asarray(center)
        floor, size = turned[:, 2].min(), float(np.ptp(turned, axis=0).max())
        tilt = margin(turned[turned[:, 2] < floor + 0.005 * size][:, :2], middle[:2], float(middle[2] - floor))
        if tilt > _LEAST_TILT:
            found.append((tilt, normal))
    found.sort(key=lambda entry: -round(entry[0], 6))
    return tuple(quaternion_between(_vec3(normal), (0.0, 0.0, -1.0)) for _, normal in found[:most])


def _down(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation matrix that turns `normal` downwards."""
    return matrix_of(quaternion_between(_vec3(normal), (0.0, 0.0, -1.0)))


def margin(footprint: NDArray[np.float64], center: NDArray[np.float64], height: float) -> float:
    """Angle [rad] by which the centre of mass may tilt before it leaves the footprint; 0 when it is outside."""
    try:
        edges = ConvexHull(footprint).equations
    except (QhullError, ValueError):
        return 0.0  # a point or a line cannot carry anything
    inside = -(edges[:, :2] @ center + edges[:, 2]).max()
    return math.atan2(inside, max(height, 1e-9)) if inside > 0.0 else 0.0


def _vec3(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
