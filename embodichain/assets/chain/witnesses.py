"""How other programs read a file: masses, centres of mass, inertias, joint limits and friction, by MuJoCo, pxr and Newton."""

from __future__ import annotations

import importlib.util
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

NEWTON_COMPILES = (
    "Newton plays it too: its first use compiles for minutes, later ones take what Warp kept (--no-play leaves it out)"
)
NEWTON_MISSING = "Newton was not asked: it is not installed (pip install 'embodichain[newton]')"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighed:
    """A body: mass [kg], and where a program says so, centre of mass [m] and inertia about it [kg m^2], along the world's axes."""

    mass: float
    center: NDArray[np.float64] | None = None
    inertia: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Testimony:
    """What one program says of a file: bodies and joint limits [rad or m] by name, the frictions of their colliders in order."""

    bodies: Mapping[str, Weighed]
    limits: Mapping[str, tuple[float, float]]
    friction: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def by_mujoco(world: Simulation, *, whole: bool = False) -> Testimony:
    """What a compiled model says, at its reference position; with `whole`, bodies without joints are part of what carries them."""
    bodies = {
        name: Weighed(mass=mass, center=center, inertia=None if name in world.guessed else inertia)
        for name, (mass, center, inertia) in world.weights(whole=whole).items()
    }
    return Testimony(bodies=bodies, limits=world.limits(), friction=world.frictions(whole=whole))


def by_pxr(file: Path) -> Testimony:
    """What UsdPhysics says of a file; raises AssetError when it cannot be opened."""
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


def newton_installed() -> bool:
    """Whether Newton can be asked."""
    return importlib.util.find_spec("newton") is not None


def by_newton(file: Path) -> Testimony | None:
    """What Newton makes of a USD file; None where it is not installed."""
    if not newton_installed():
        return None
    import newton  # pyright: ignore[reportMissingImports]  # brings Warp, and is there by its own extra

    builder = newton.ModelBuilder()
    builder.add_usd(str(file))
    bodies, friction = {}, {}
    for index, label in enumerate(builder.body_label):
        x, y, z, i, j, k, w = (float(value) for value in builder.body_q[index])
        turn = np.array(matrix_of((w, i, j, k)))
        name = str(label).rpartition("/")[2]
        bodies[name] = Weighed(
            mass=float(builder.body_mass[index]),
            center=turn @ np.array(list(builder.body_com[index]), np.float64) + (x, y, z),
            inertia=turn @ np.array(builder.body_inertia[index], np.float64).reshape(3, 3) @ turn.T,
        )
        collide = int(newton.ShapeFlags.COLLIDE_SHAPES)
        values = {
            round(float(builder.shape_material_mu[shape]), 6)
            for shape in range(builder.shape_count)
            if builder.shape_body[shape] == index and builder.shape_flags[shape] & collide
        }
        friction |= {name: tuple(sorted(values))} if values else {}
    limits = {}
    for index, label in enumerate(builder.joint_label):
        start = builder.joint_qd_start[index]
        kind = newton.JointType(int(builder.joint_type[index]))
        if kind in (newton.JointType.REVOLUTE, newton.JointType.PRISMATIC):
            ends = float(builder.joint_limit_lower[start]), float(builder.joint_limit_upper[start])
            limits |= {str(label).rpartition("/")[2]: ends} if max(map(abs, ends)) < 1e9 else {}
    return Testimony(bodies=bodies, limits=limits, friction=friction)
