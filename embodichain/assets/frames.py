"""Rigid transforms of parts, joints and affordances: quaternions (w, x, y, z), poses a_from_b."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embodichain.types import Pose, Quaternion, Vec3, rotate


def compose(a_from_b: Pose, b_from_c: Pose) -> Pose:
    """The pose a_from_c."""
    position = rotate(a_from_b.quaternion, np.asarray(b_from_c.position, np.float64)) + np.asarray(a_from_b.position)
    return Pose(position=_vec3(position), quaternion=multiply(a_from_b.quaternion, b_from_c.quaternion))


def inverse(a_from_b: Pose) -> Pose:
    """The pose b_from_a."""
    w, x, y, z = a_from_b.quaternion
    turn = (w, -x, -y, -z)
    return Pose(position=_vec3(-rotate(turn, np.asarray(a_from_b.position, np.float64))), quaternion=turn)


def multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    """The Hamilton product: the rotation by `second`, then by `first`."""
    w, x, y, z = first
    a, b, c, d = second
    return (
        w * a - x * b - y * c - z * d,
        w * b + x * a + y * d - z * c,
        w * c - x * d + y * a + z * b,
        w * d + x * c - y * b + z * a,
    )


def frame(position: Vec3, approach: Sequence[float], closing: Sequence[float]) -> Pose:
    """The pose whose Z axis is `approach` and whose Y axis is `closing` made perpendicular to it."""
    z = np.asarray(approach, np.float64) / np.linalg.norm(approach)
    y = np.asarray(closing, np.float64)
    y = y - z * (y @ z)
    y /= np.linalg.norm(y)
    return Pose(position=_vec3(position), quaternion=quaternion_of(np.stack([np.cross(y, z), y, z], axis=1)))


def quaternion_of(matrix: NDArray[np.float64]) -> Quaternion:
    """Unit quaternion of a rotation matrix, shape [3, 3], leading component positive (Bar-Itzhack 2000, largest eigenvector)."""
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


def axis_rotation(axis: Vec3, angle: float) -> Quaternion:
    """The rotation by `angle` [rad] about a unit axis."""
    x, y, z = (float(value) for value in np.asarray(axis) * np.sin(angle / 2))
    return (float(np.cos(angle / 2)), x, y, z)


def _vec3(values: Sequence[float] | NDArray[np.float64]) -> Vec3:
    return (float(values[0]), float(values[1]), float(values[2]))
