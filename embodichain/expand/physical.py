"""Randomises physics: masses, centres of mass, friction, joints, drives and delays, within physically possible values.

Mass is varied through density. The centre of mass is varied by placing ballast inside the hulls, so that mass, centre and inertia
are always those of a possible solid. Stiffness and damping of a servo are varied together, so that its damping ratio stays in a
range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError
from embodichain.types import Asset, Body, Dynamics, Joint, Material, Range, Scene
from embodichain.types.poses import matrix_of, quaternion_of

Floats = NDArray[np.float64]

DENSITIES: Range = (5.0, 22_600.0)
"""Possible densities [kg/m^3], from expanded foam to osmium."""
FRICTIONS: Range = (0.02, 1.6)
"""Possible friction coefficients, from ice on steel to rubber on rubber (Blau 2001)."""
MAX_DELAY_S = 0.1
_STEP_S = 0.002
_ALLOWED: dict[str, Range] = {
    "scale": (0.5, 2.0),
    "density": (0.05, 20.0),
    "ballast": (0.0, 0.5),
    "friction": (0.1, 5.0),
    "joint_damping": (0.05, 20.0),
    "joint_friction": (0.05, 5.0),
    "stiffness": (0.3, 3.0),
    "damping_ratio": (0.5, 2.0),
    "torque": (0.5, 2.0),
    "arm_damping": (0.2, 5.0),
    "grip_friction": (0.3, 1.6),
    "delay_s": (0.0, MAX_DELAY_S),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalConfig:
    """Ranges of factors on the dynamics of a scene, if `enabled`; 1 means the nominal value of the asset or robot.

    For each object of the task: `scale`, its size, drawn before placement. For each object and for grains: `density`. For each
    object: `ballast`, the share of its mass concentrated at one point inside; `friction`; damping and Coulomb friction of its
    joints. For the robot: `stiffness` and `damping_ratio` of its servos, `torque` limits, damping of its joints, friction of its
    fingers, and the delay of its commands [s].
    """

    enabled: bool = False
    scale: Range = (0.95, 1.05)
    density: Range = (0.7, 1.4)
    ballast: Range = (0.0, 0.2)
    friction: Range = (0.75, 1.3)
    joint_damping: Range = (0.6, 1.6)
    joint_friction: Range = (0.7, 1.3)
    stiffness: Range = (0.8, 1.25)
    damping_ratio: Range = (0.9, 1.15)
    torque: Range = (0.9, 1.1)
    arm_damping: Range = (0.7, 1.4)
    grip_friction: Range = (0.8, 1.15)
    delay_s: Range = (0.0, 0.02)

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _ALLOWED.items():
            low, high = getattr(self, name)
            if not (math.isfinite(low) and math.isfinite(high) and lowest <= low <= high <= highest):
                raise ConfigError(
                    f"physical expansion cannot draw {name} from {(low, high)}: it needs low <= high within {lowest}..{highest}, "
                    "beyond which no real object or drive lies"
                )


def vary(scene: Scene, rng: np.random.Generator, config: PhysicalConfig) -> Scene:
    """Varies masses, frictions, joints and drives of a scene, but not geometry and poses (for sizes see `size`).

    The drawn values are added to `Scene.expansion`. Returns the scene itself if the expansion is not enabled.
    """
    if not config.enabled:
        return scene
    drawn: dict[str, float] = {}
    objects = []
    for placement in scene.objects:
        asset, factors = _vary_asset(placement.asset, rng, config)
        if config.scale != (1.0, 1.0):
            factors["scale"] = asset.scale
        drawn |= {f"{placement.role}.{name}": value for name, value in factors.items()}
        objects.append(replace(placement, asset=asset))
    stiffness = _factor(rng, config.stiffness)
    ratio = _factor(rng, config.damping_ratio)
    dynamics = Dynamics(
        stiffness=stiffness,
        servo_damping=ratio * math.sqrt(stiffness),  # ratio = kv / (2 sqrt(kp m))
        torque=_factor(rng, config.torque),
        joint_damping=_factor(rng, config.arm_damping),
        grip_friction=_factor(rng, config.grip_friction),
        delay_s=_STEP_S * round(float(rng.uniform(*config.delay_s)) / _STEP_S),
    )
    drawn |= {f"robot.{name}": getattr(dynamics, name) for name in Dynamics.__slots__}
    grains = scene.grains
    if grains.positions:  # drawn last, so that grains do not change the other draws
        factor = _factor(rng, config.density)
        grains = replace(grains, density=grains.density * factor)
        drawn["grains.density"] = factor
    rounded = {name: float(f"{value:.4g}") for name, value in drawn.items()}
    return replace(scene, objects=tuple(objects), dynamics=dynamics, grains=grains, expansion={**scene.expansion, **rounded})


def _factor(rng: np.random.Generator, limits: Range) -> float:
    """Draws a log-uniform factor, so that halving is as likely as doubling."""
    return math.exp(float(rng.uniform(math.log(limits[0]), math.log(limits[1]))))


def _vary_asset(asset: Asset, rng: np.random.Generator, config: PhysicalConfig) -> tuple[Asset, dict[str, float]]:
    """Varies one asset: density and friction of all its bodies, with ballast in the heaviest; also returns the drawn values."""
    density, friction = _factor(rng, config.density), _factor(rng, config.friction)
    ballast = float(rng.uniform(*config.ballast))
    damping, stiction = _factor(rng, config.joint_damping), _factor(rng, config.joint_friction)
    weights = rng.dirichlet(np.ones(4))
    choice = rng.random(4)
    heaviest = max(range(len(asset.bodies)), key=lambda i: asset.bodies[i].mass)
    bodies = list(asset.bodies)
    shift = 0.0
    for number, body in enumerate(bodies):
        found = _denser(body, density, friction)
        if number == heaviest and ballast > 0.0:
            before = np.array(found.center_of_mass)
            found = with_ballast(found, ballast, _inside(found, choice, weights))
            shift = float(np.linalg.norm(np.array(found.center_of_mass) - before))
        bodies[number] = found
    joints = tuple(_looser(joint, damping, stiction) for joint in asset.joints)
    factors = {"density": bodies[heaviest].material.density / asset.bodies[heaviest].material.density}
    factors["friction"] = bodies[heaviest].material.dynamic_friction / asset.bodies[heaviest].material.dynamic_friction
    factors["com_shift_m"] = shift
    if asset.movable_joints:
        factors |= {"joint_damping": damping, "joint_friction": stiction}
    return replace(asset, bodies=tuple(bodies), joints=joints), factors


def _denser(body: Body, density: float, friction: float) -> Body:
    """Multiplies density and friction of a body, clipped to possible values; mass and inertia follow the density."""
    material = body.material
    wanted = min(max(material.density * density, DENSITIES[0]), DENSITIES[1])
    factor = wanted / material.density
    x, y, z = (factor * moment for moment in body.diagonal_inertia)
    low, high = FRICTIONS

    def changed(surface: Material) -> Material:
        return replace(
            surface,
            density=wanted,
            static_friction=min(max(surface.static_friction * friction, low), high),
            dynamic_friction=min(max(surface.dynamic_friction * friction, low), high),
        )

    surfaces = tuple(changed(surface) for surface in body.surfaces)
    return replace(body, mass=body.mass * factor, diagonal_inertia=(x, y, z), material=changed(material), surfaces=surfaces)


def _looser(joint: Joint, damping: float, friction: float) -> Joint:
    return replace(joint, damping=joint.damping * damping, friction=joint.friction * friction)


def _inside(body: Body, choice: Floats, weights: Floats) -> Floats:
    """A random point inside one of the body's hulls [m]: a convex combination of four of its vertices."""
    hull = body.hulls[int(choice[0] * len(body.hulls))].vertices
    corners = hull[(choice * len(hull)).astype(np.int64) % len(hull)]
    return weights @ corners


def with_ballast(body: Body, share: float, point: Floats) -> Body:
    """Moves `share` of a body's mass to `point` [m] in its frame; the total mass stays the same.

    By the parallel axis theorem: I = (1 - s) I0 + s (1 - s) m (d.d E - d d^T), with d from the old centre of mass to the point.
    """
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"ballast must be 0 <= share < 1 of the mass of {body.name!r}, got {share}")
    center = np.array(body.center_of_mass)
    d = np.asarray(point, np.float64) - center
    axes = matrix_of(body.principal_axes)
    inertia = axes @ np.diag(body.diagonal_inertia) @ axes.T
    inertia = (1.0 - share) * inertia + share * (1.0 - share) * body.mass * (float(d @ d) * np.eye(3) - np.outer(d, d))
    moments, directions = np.linalg.eigh(0.5 * (inertia + inertia.T))
    if np.linalg.det(directions) < 0.0:
        directions[:, 2] = -directions[:, 2]
    x, y, z = (float(v) for v in center + share * d)
    first, second, third = (float(moment) for moment in moments)
    return replace(
        body, center_of_mass=(x, y, z), diagonal_inertia=(first, second, third), principal_axes=quaternion_of(directions)
    )
