"""How other programs (MuJoCo, pxr, Newton) read a file: masses, centres of mass, inertias, joint limits and friction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.physical.simulation import Simulation
from embodichain.assets.reading.naming import numbered
from embodichain.assets.usd.foreign import resolve
from embodichain.types.poses import matrix_of

if TYPE_CHECKING:
    from embodichain.assets.usd.foreign import Foreign


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighed:
    """A body: mass [kg]; where a program states them, centre of mass [m] and inertia about it [kg m^2], along the world's axes."""

    mass: float
    center: NDArray[np.float64] | None = None
    inertia: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Testimony:
    """One program's reading of a file: bodies and joint limits [rad or m] by name, and frictions of colliders in order."""

    bodies: Mapping[str, Weighed]
    limits: Mapping[str, tuple[float, float]]
    friction: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def by_mujoco(world: Simulation, *, whole: bool = False) -> Testimony:
    """The reading of a compiled model in its reference pose; with `whole`, bodies without joints count as part of their parent."""
    bodies = {
        name: Weighed(mass=mass, center=center, inertia=None if name in world.guessed else inertia)
        for name, (mass, center, inertia) in world.weights(whole=whole).items()
    }
    return Testimony(bodies=bodies, limits=world.limits(), friction=world.frictions(whole=whole))


def by_pxr(file: Path) -> Testimony:
    """The reading by UsdPhysics; raises AssetError when the file cannot be opened."""
    found = resolve(file)
    bodies, friction = {}, {}
    names = numbered([body.path for body in found.bodies])
    for body in found.bodies:
        name = names[body.path]
        if body.mass:
            bodies[name] = _weighed(found, body)
        values = {piece.friction[1] for piece in body.pieces if piece.collides and piece.friction[1] is not None}
        friction |= {name: tuple(sorted(values))} if values else {}
    limits, names = {}, numbered([joint.path for joint in found.joints])
    for joint in found.joints:
        scale = math.radians(1.0) if joint.kind == "RevoluteJoint" else found.meters_per_unit
        if joint.kind in ("RevoluteJoint", "PrismaticJoint") and (math.isfinite(joint.lower) or math.isfinite(joint.upper)):
            limits[names[joint.path]] = (joint.lower * scale, joint.upper * scale)
    return Testimony(bodies=bodies, limits=limits, friction=friction)


def _weighed(found: Foreign, body: Any) -> Weighed:
    metre, kilogram = found.meters_per_unit, found.kilograms_per_unit
    linear, place = body.matrix[:3, :3], body.matrix[3, :3]
    center = inertia = None
    if body.center_of_mass is not None:
        center = (np.asarray(body.center_of_mass) @ linear + place) * metre
    if body.diagonal_inertia is not None:
        axes = np.array(matrix_of(body.principal_axes or (1.0, 0.0, 0.0, 0.0)))
        turn = (linear / np.linalg.norm(linear, axis=1, keepdims=True)).T @ axes
        inertia = turn @ np.diag(body.diagonal_inertia) @ turn.T * kilogram * metre**2
    return Weighed(mass=body.mass * kilogram, center=center, inertia=inertia)
