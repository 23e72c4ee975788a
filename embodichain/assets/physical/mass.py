"""Mass, centre of mass and inertia by exact integration over the solid or over the mid-surface of a shell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.geometry.shapes import inset, signed_volume
from embodichain.errors import AssetError
from embodichain.types import Mesh, Quaternion, Vec3
from embodichain.types.poses import quaternion_of

TRIANGLE = 1e-4
"""Tolerance for the triangle inequality of principal moments, because files keep few digits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MassProperties:
    """Mass [kg], centre of mass [m], inertia about it [kg m^2], shape [3, 3], and its principal moments and axes."""

    mass: float
    center_of_mass: Vec3
    inertia: NDArray[np.float64]
    diagonal_inertia: Vec3
    principal_axes: Quaternion


def solid_properties(mesh: Mesh, density: float) -> MassProperties:
    """Mass properties of the solid inside a closed mesh of uniform density [kg/m^3].

    Each face spans a tetrahedron with the origin, over which the moments are polynomials in its corners:
    integral of x x^T = V/20 (sum_i v_i v_i^T + s s^T) with s the sum of the corners (Tonon 2004).

    Raises:
        AssetError: the mesh encloses no volume.
    """
    corners = mesh.vertices[mesh.faces]
    volumes = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    return _properties(corners, volumes, divisor=4, moment_divisor=20, density=density)


def shell_properties(mesh: Mesh, density: float, thickness: float) -> MassProperties:
    """Mass properties of a wall of `thickness` [m] inside a closed surface, for a density [kg/m^3].

    Integrates over the mid-surface, which is the surface moved inwards by half the wall. Its area times the thickness is the volume
    of the wall up to third order in the thickness (Steiner's formula).

    Raises:
        AssetError: the object is not thicker than the wall.
    """
    middle = Mesh(vertices=inset(mesh, thickness / 2), faces=mesh.faces)
    if not 0.0 < signed_volume(middle) < signed_volume(mesh):
        raise AssetError(
            f"physical: a wall of {thickness * 1e3:.2f} mm does not fit inside the object; give a thinner wall or 0 for solid"
        )
    corners = middle.vertices[middle.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    return _properties(corners, areas * thickness, divisor=3, moment_divisor=12, density=density)


def with_mass(properties: MassProperties, mass: float) -> MassProperties:
    """The same distribution scaled to a mass [kg] that the user stated."""
    factor = mass / properties.mass
    first, second, third = properties.diagonal_inertia
    return MassProperties(
        mass=mass,
        center_of_mass=properties.center_of_mass,
        inertia=properties.inertia * factor,
        diagonal_inertia=(first * factor, second * factor, third * factor),
        principal_axes=properties.principal_axes,
    )


def _properties(
    corners: NDArray[np.float64], weights: NDArray[np.float64], *, divisor: int, moment_divisor: int, density: float
) -> MassProperties:
    total = float(weights.sum())
    if not total > 0.0:
        raise AssetError(f"physical: the mesh encloses {total:.3g} m^3; a solid needs a closed, outward-facing surface")
    sums = corners.sum(axis=1)
    mass = density * total
    center = density * np.einsum("f,fi->i", weights, sums) / divisor / mass
    second = np.einsum("f,fci,fcj->ij", weights, corners, corners) + np.einsum("f,fi,fj->ij", weights, sums, sums)
    second = density * second / moment_divisor - mass * np.outer(center, center)
    inertia = np.trace(second) * np.eye(3) - second
    diagonal, axes = principal(inertia)
    return MassProperties(
        mass=mass,
        center_of_mass=(float(center[0]), float(center[1]), float(center[2])),
        inertia=inertia,
        diagonal_inertia=diagonal,
        principal_axes=axes,
    )


def principal(inertia: NDArray[np.float64]) -> tuple[Vec3, Quaternion]:
    """Principal moments in ascending order and body_from_principal as a proper rotation.

    Raises:
        AssetError: no mass distribution has these moments (not positive, or violating the triangle inequality).
    """
    moments, axes = np.linalg.eigh((inertia + inertia.T) / 2)
    if not moments[0] > 0.0 or moments[0] + moments[1] < moments[2] * (1 - TRIANGLE):
        raise AssetError(f"physical: moments {moments.tolist()} kg m^2 belong to no mass distribution (triangle inequality)")
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), range(3)] < 0, -1.0, 1.0)
    if np.linalg.det(axes) < 0:
        axes[:, 2] = -axes[:, 2]
    return (float(moments[0]), float(moments[1]), float(moments[2])), quaternion_of(axes)
