"""A referee between a file and its asset: the same quantities as other programs read them from either, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.physical.simulation import Simulation
from embodichain.assets.usd.foreign import resolve
from embodichain.types import Asset

if TYPE_CHECKING:
    from embodichain.assets.usd.foreign import Foreign

TOLERANCE = 1e-3
"""Relative difference up to which two programs agree: MuJoCo's text keeps nine digits, USD single precision."""
_MOVED = 0.02
"""The same for movements, which contacts soften."""
_DROP_M, _SLOPE = 0.05, math.radians(35.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One quantity: as the source's own reader has it, and the asset in pxr and in MuJoCo; None where one cannot say."""

    of: str
    what: str
    source: float | None
    usd: float | None
    mujoco: float | None
    tolerance: float = TOLERANCE

    @property
    def agreed(self) -> bool:
        """Whether all who say something say the same."""
        said = [value for value in (self.source, self.usd, self.mujoco) if value is not None]
        scale = max((abs(value) for value in said), default=0.0)
        return max(said, default=0.0) - min(said, default=0.0) <= self.tolerance * max(scale, 1e-9)


def referee(source: Path, asset: Asset) -> list[Verdict]:
    """Mass, inertia and limits of everything in a source and its asset, and how far the asset falls and slides.

    The source is read by MuJoCo where that can (URDF, MJCF) and by pxr (USD); of a mesh alone there is nothing to compare.

    Raises:
        AssetError: the source's own reader refuses it.
    """
    native = _native(source)
    written = _of_usd(resolve(asset.path))
    ours = _of_mujoco(Simulation.of(to_mjcf(asset, visual=False)))
    keys = [key for key in written if key in ours] if native is None else [key for key in native if key in written or key in ours]
    rows = [
        Verdict(of=key[0], what=key[1], source=native.get(key) if native else None, usd=written.get(key), mujoco=ours.get(key))
        for key in keys
    ]
    return [*rows, *_behaviour(asset)]


def _native(source: Path) -> dict[tuple[str, str], float] | None:
    kind = source.suffix.lower()
    if kind in (".urdf", ".xml", ".mjcf"):
        return _of_mujoco(Simulation.native(source))
    return _of_usd(resolve(source)) if kind in (".usd", ".usda", ".usdc", ".usdz") else None


def _of_usd(foreign: Foreign) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for body in foreign.bodies:
        name, kilogram = body.path.rpartition("/")[2], foreign.kilograms_per_unit
        if body.mass:
            found[name, "mass [kg]"] = body.mass * kilogram
        for index, moment in enumerate(sorted(body.diagonal_inertia or ())):
            found[name, f"moment {index} [kg m^2]"] = moment * kilogram * foreign.meters_per_unit**2
    for joint in foreign.joints:
        name = joint.path.rpartition("/")[2]
        scale = math.radians(1.0) if joint.kind == "RevoluteJoint" else foreign.meters_per_unit
        for end in ("lower", "upper"):
            if math.isfinite(getattr(joint, end)) and joint.kind in ("RevoluteJoint", "PrismaticJoint"):
                found[name, end] = getattr(joint, end) * scale
    return found


def _of_mujoco(world: Simulation) -> dict[tuple[str, str], float]:
    model = world.model
    found: dict[tuple[str, str], float] = {}
    for index in range(1, model.nbody):
        name, mass = model.body(index).name, float(model.body_mass[index])
        if mass > 0.0:
            found[name, "mass [kg]"] = mass
            for number, moment in enumerate(sorted(float(value) for value in model.body_inertia[index])):
                found[name, f"moment {number} [kg m^2]"] = moment
    for index in range(model.njnt):
        if model.jnt_limited[index]:
            lower, upper = (float(value) for value in model.jnt_range[index])
            found[model.joint(index).name, "lower"], found[model.joint(index).name, "upper"] = lower, upper
    return found


def _behaviour(asset: Asset) -> Iterator[Verdict]:
    """How fast the asset falls, against Galilei; how it slides on a slope, against Coulomb: in MuJoCo."""
    if asset.fixed_base or asset.movable_joints:
        return
    world = Simulation.of(to_mjcf(asset, visual=False))
    start = float(world.data.qpos[2])
    time = math.sqrt(2 * _DROP_M / 9.81)
    world.run(time)
    yield Verdict(
        of=asset.name, what=f"fall in {time:.3f} s [m]", source=_DROP_M, usd=None, mujoco=start - float(world.data.qpos[2])
    )
    friction = asset.bodies[0].material.dynamic_friction
    expected = max(9.81 * (math.sin(_SLOPE) - friction * math.cos(_SLOPE)), 0.0) * 0.3**2 / 2
    slope = Simulation.of(to_mjcf(asset, floor=True, visual=False))
    slope.run(0.5)
    slope.model.geom_friction[:, 0] = friction
    slope.model.opt.gravity[:] = (9.81 * math.sin(_SLOPE), 0.0, -9.81 * math.cos(_SLOPE))
    before = np.array(slope.data.qpos[:2])
    slope.run(0.3)
    slid = float(np.linalg.norm(slope.data.qpos[:2] - before))
    what = "slide on 35 degrees in 0.3 s [m]"
    yield Verdict(of=asset.name, what=what, source=expected, usd=None, mujoco=slid, tolerance=_MOVED)
