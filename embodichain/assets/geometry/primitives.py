"""Boxes, spheres, cylinders and capsules: converted to triangles that keep their shape, and recognised in solids."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.geometry.shapes import signed_volume
from embodichain.types import Mesh, Pose, Shape, ShapeKind, rotate
from embodichain.types.poses import quaternion_of

FIT = 0.01
"""Tolerance for recognised shapes: deviation of the surface as a share of the diameter, and of the volume as a share of it."""


def recognised(mesh: Mesh) -> Shape | None:
    """The analytic shape of a closed mesh, within `FIT`; None when it is none of them."""
    volume = signed_volume(mesh)
    if volume <= 0.0 or len(mesh.faces) < 12:
        return None
    for shape in _candidates(mesh, volume):
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        tolerance = FIT * float(np.linalg.norm(high - low)) / math.sqrt(3.0)
        middles = mesh.vertices[mesh.faces].mean(axis=1)
        off = np.abs(distances(np.concatenate([mesh.vertices, middles]), shape)).max()
        if off <= tolerance and abs(content(shape) / volume - 1.0) <= FIT:
            return shape
    return None


def content(shape: Shape) -> float:
    """Volume of a shape [m^3]."""
    a, b, c = shape.size
    if shape.kind is ShapeKind.BOX:
        return a * b * c
    ball = 4.0 / 3.0 * math.pi * a**3
    rod = math.pi * a**2 * b
    return {ShapeKind.SPHERE: ball, ShapeKind.CYLINDER: rod, ShapeKind.CAPSULE: ball + rod}[shape.kind]


def distances(points: NDArray[np.float64], shape: Shape) -> NDArray[np.float64]:
    """Signed distances [m] of points, shape [N, 3], to the surface of a shape, negative inside (Quilez's distance functions)."""
    w, x, y, z = shape.pose.quaternion
    local = rotate((w, -x, -y, -z), points - np.asarray(shape.pose.position))
    a, b, c = shape.size
    if shape.kind is ShapeKind.SPHERE:
        return np.linalg.norm(local, axis=1) - a
    if shape.kind is ShapeKind.CAPSULE:
        along = np.clip(local[:, 2], -b / 2, b / 2)
        return np.linalg.norm(local - np.column_stack([np.zeros((len(local), 2)), along]), axis=1) - a
    if shape.kind is ShapeKind.CYLINDER:
        over = np.column_stack([np.linalg.norm(local[:, :2], axis=1) - a, np.abs(local[:, 2]) - b / 2])
    else:
        over = np.abs(local) - np.array([a, b, c]) / 2
    return np.linalg.norm(np.maximum(over, 0.0), axis=1) + np.minimum(over.max(axis=1), 0.0)


def _candidates(mesh: Mesh, volume: float) -> Iterator[Shape]:
    """Shapes with the mesh's volume that it might be, simplest first."""
    corners = mesh.vertices[mesh.faces]
    weights = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    center = weights @ corners.sum(axis=1) / (4 * volume)
    yield Shape(kind=ShapeKind.SPHERE, size=((3 * volume / (4 * math.pi)) ** (1 / 3), 0.0, 0.0), pose=_at(center, np.eye(3)))
    for axes in _frames(mesh, corners, weights, center, volume):
        local = (mesh.vertices - center) @ axes
        low, high = local.min(axis=0), local.max(axis=0)
        x, y, z = (float(value) for value in high - low)
        pose = _at(center + axes @ ((low + high) / 2), axes)
        yield Shape(kind=ShapeKind.BOX, size=(x, y, z), pose=pose)
        radius = math.sqrt(volume / (math.pi * z))
        yield Shape(kind=ShapeKind.CYLINDER, size=(radius, z, 0.0), pose=pose)
        radius = (x + y) / 4
        if z > 2 * radius:
            yield Shape(kind=ShapeKind.CAPSULE, size=(radius, z - 2 * radius, 0.0), pose=pose)


def _frames(
    mesh: Mesh, corners: NDArray[np.float64], weights: NDArray[np.float64], center: NDArray[np.float64], volume: float
) -> Iterator[NDArray[np.float64]]:
    """Right-handed axes as columns, from the faces and from the inertia; the last may be the axis of a solid of revolution."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    normals = normals / np.maximum(areas, 1e-300)[:, None]
    first = normals[areas.argmax()]
    alike = np.abs(normals @ first) > 0.999
    first = (normals * (areas * np.sign(normals @ first) * alike)[:, None]).sum(axis=0)
    first = first / np.linalg.norm(first)
    across = np.where(np.abs(normals @ first) < 0.05, areas, 0.0)
    if across.max() > 0.0:
        second = normals[across.argmax()]
        second = second - first * (first @ second)
        second = second / np.linalg.norm(second)
        yield from _turned(np.column_stack([first, second, np.cross(first, second)]))
    shifted = corners - center
    sums = shifted.sum(axis=1)
    moments = np.einsum("f,fci,fcj->ij", weights, shifted, shifted) + np.einsum("f,fi,fj->ij", weights, sums, sums)
    axes = np.linalg.eigh(moments / (20 * volume))[1]
    axes = axes * np.array([1.0, 1.0, np.linalg.det(axes)])
    yield from _turned(axes)


def _turned(axes: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """The same axes, with each of them last once."""
    for last in (2, 0, 1):
        yield axes[:, [(last + 1) % 3, (last + 2) % 3, last]]


def _at(center: NDArray[np.float64], axes: NDArray[np.float64]) -> Pose:
    x, y, z = (float(value) for value in center)
    return Pose(position=(x, y, z), quaternion=quaternion_of(axes))
