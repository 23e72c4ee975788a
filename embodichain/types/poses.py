"""Vectors, quaternions (w, x, y, z) and rigid transforms. Poses are `a_from_b`: they map coordinates in b to those in a."""

from __future__ import annotations

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
    w, axis = quaternion[0], np.asarray(quaternion[1:])
    cross = 2.0 * np.cross(axis, points)
    return points + w * cross + np.cross(axis, cross)
