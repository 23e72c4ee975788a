"""Vectors, quaternions (w, x, y, z) and rigid transforms. Poses are `a_from_b`: they map coordinates in b to those in a."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vec3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """A rigid transform: position [m], unit quaternion (w, x, y, z)."""

    position: Vec3 = (0.0, 0.0, 0.0)
    quaternion: Quaternion = (1.0, 0.0, 0.0, 0.0)


def rotate(quaternion: Quaternion, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points, shape [..., 3], turned by a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    points = np.asarray(points, np.float64)
    a, b, c = points[..., 0], points[..., 1], points[..., 2]
    i, j, k = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    result = np.empty(points.shape)  # computed by component: `np.cross` takes four times as long
    result[..., 0] = a + w * i + (y * k - z * j)
    result[..., 1] = b + w * j + (z * i - x * k)
    result[..., 2] = c + w * k + (x * j - y * i)
    return result


def multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    """The Hamilton product: the rotation that applies `second`, then `first`."""
    w1, x1, y1, z1 = first
    w2, x2, y2, z2 = second
    return (
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
    )


def turned(quaternion: Quaternion, vector: Vec3) -> Vec3:
    """One vector turned by a unit quaternion; faster than `rotate`, because no array is built."""
    w, x, y, z = quaternion
    a, b, c = vector
    cx, cy, cz = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return (a + w * cx + y * cz - z * cy, b + w * cy + z * cx - x * cz, c + w * cz + x * cy - y * cx)


def compose(a_from_b: Pose, b_from_c: Pose) -> Pose:
    """Returns a_from_c."""
    dx, dy, dz = turned(a_from_b.quaternion, b_from_c.position)
    x, y, z = a_from_b.position
    return Pose(position=(x + dx, y + dy, z + dz), quaternion=multiply(a_from_b.quaternion, b_from_c.quaternion))


def inverse(a_from_b: Pose) -> Pose:
    """Returns b_from_a."""
    w, x, y, z = a_from_b.quaternion
    conjugate = (w, -x, -y, -z)
    px, py, pz = turned(conjugate, a_from_b.position)
    return Pose(position=(-px, -py, -pz), quaternion=conjugate)


def turn(axis: Vec3, angle: float) -> Quaternion:
    """The rotation about a unit axis by `angle` [rad]."""
    s = math.sin(angle / 2)
    return (math.cos(angle / 2), s * axis[0], s * axis[1], s * axis[2])


def angle_between(first: Quaternion, second: Quaternion) -> float:
    """The angle [rad] of the rotation that takes one orientation to the other, 0..pi."""
    return 2.0 * math.acos(min(1.0, abs(sum(a * b for a, b in zip(first, second, strict=True)))))


def yaw_pose(x: float, y: float, z: float, yaw: float) -> Pose:
    """An upright pose at (x, y, z) [m], turned about the vertical by `yaw` [rad]."""
    return Pose(position=(x, y, z), quaternion=turn((0.0, 0.0, 1.0), yaw))


def yaw_of(quaternion: Quaternion) -> float:
    """Heading [rad] of the frame's X axis seen from above."""
    w, x, y, z = quaternion
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def wrap(angle: float) -> float:
    """The same angle in -pi..pi [rad]."""
    return math.remainder(angle, 2 * math.pi)


def frame(position: Vec3, approach: Sequence[float], closing: Sequence[float]) -> Pose:
    """The pose at `position` [m] with Z along `approach` and Y along the part of `closing` that is perpendicular to it."""
    z = np.asarray(approach, np.float64) / np.linalg.norm(approach)
    y = np.asarray(closing, np.float64)
    y = y - z * (y @ z)
    y /= np.linalg.norm(y)
    return Pose(position=_vec3(position), quaternion=quaternion_of(np.stack([np.cross(y, z), y, z], axis=1)))


def quaternion_of(matrix: NDArray[np.float64]) -> Quaternion:
    """Unit quaternion of a rotation matrix, shape [3, 3], first component positive (Bar-Itzhack 2000, largest eigenvector)."""
    m = np.asarray(matrix, np.float64)
    k = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2]],
            [m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2]],
            [m[1, 0] - m[0, 1], m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    q = np.linalg.eigh(k)[1][:, -1]
    q[np.abs(q) < 1e-12] = 0.0
    w, x, y, z = (float(value) + 0.0 for value in q * np.sign(q[np.argmax(np.abs(q) > 1e-9)]))
    return (w, x, y, z)


def matrix_of(quaternion: Quaternion) -> NDArray[np.float64]:
    """The rotation matrix of a unit quaternion, shape [3, 3]."""
    return rotate(quaternion, np.eye(3)).T


def quaternion_between(first: Vec3, second: Vec3) -> Quaternion:
    """The shortest rotation that turns one unit vector onto another."""
    a, b = np.asarray(first), np.asarray(second)
    if a @ b < -1 + 1e-12:
        side = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        side /= np.linalg.norm(side)
        return (0.0, float(side[0]), float(side[1]), float(side[2]))
    q = np.array([1 + a @ b, *np.cross(a, b)])
    w, x, y, z = (float(value) for value in q / np.linalg.norm(q))
    return (w, x, y, z)


def _vec3(values: Sequence[float] | NDArray[np.float64]) -> Vec3:
    return (float(values[0]), float(values[1]), float(values[2]))
