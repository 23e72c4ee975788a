"""Masses of bodies as files state them: rotated, moved, and summed for links that are fixed to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.types import Pose, Vec3, rotate
from embodichain.types.poses import matrix_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inertial:
    """Mass [kg], centre of mass [m], inertia about it along the axes of the same frame [kg m^2], shape [3, 3]; None if unknown."""

    mass: float
    center_of_mass: Vec3 | None = None
    inertia: NDArray[np.float64] | None = None

    def moved(self, pose: Pose) -> Inertial:
        """The same in the frame into which `pose` maps the present one."""
        turn = matrix_of(pose.quaternion)
        center = self.center_of_mass
        if center is not None:
            x, y, z = (float(v) for v in rotate(pose.quaternion, np.asarray(center)) + pose.position)
            center = (x, y, z)
        return Inertial(
            mass=self.mass, center_of_mass=center, inertia=None if self.inertia is None else turn @ self.inertia @ turn.T
        )


def together(parts: Sequence[Inertial]) -> Inertial | None:
    """The combined mass properties of bodies fixed to each other, by the parallel axis theorem; None if there are none."""
    if len(parts) < 2:
        return parts[0] if parts else None
    mass = sum(part.mass for part in parts)
    if mass <= 0.0 or any(part.center_of_mass is None for part in parts):
        return Inertial(mass=mass)
    centers = np.array([part.center_of_mass for part in parts])
    center = np.array([part.mass for part in parts]) @ centers / mass
    x, y, z = (float(value) for value in center)
    if any(part.inertia is None for part in parts if part.mass > 0.0):
        return Inertial(mass=mass, center_of_mass=(x, y, z))
    inertia = np.zeros((3, 3))
    for part, place in zip(parts, centers, strict=True):
        arm = place - center
        if part.inertia is not None:
            inertia += part.inertia + part.mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return Inertial(mass=mass, center_of_mass=(x, y, z), inertia=inertia)
