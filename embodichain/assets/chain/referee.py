"""A referee between a file and its asset: the same quantities as other programs read them from either, side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.chain.witnesses import Testimony, Weighed, by_mujoco, by_newton, by_pxr
from embodichain.assets.families.parts import Part
from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.physical.simulation import Simulation
from embodichain.assets.reading import placing
from embodichain.assets.reading.folder import READERS
from embodichain.assets.reading.naming import named
from embodichain.errors import AssetError
from embodichain.types import Asset, rotate

TOLERANCE = 1e-3
"""Relative difference up to which two programs agree: MuJoCo's text keeps nine digits, USD single precision."""
_MOVED = 0.02
"""The same for movements, which contacts soften."""
_CREEP = 1e-3
"""How far [m] a thing that sticks may creep in the same time."""
_DROP_M, _SLOPE = 0.05, math.radians(35.0)
_DESCRIBED = (".urdf", ".xml", ".mjcf")
_STAGES = (".usd", ".usda", ".usdc", ".usdz")
_FREE = re.compile(r"<freejoint[^>]*/>")
_AXES = ("x", "y", "z")
_PAIRS = (("xx", 0, 0), ("yy", 1, 1), ("zz", 2, 2), ("xy", 0, 1), ("xz", 0, 2), ("yz", 1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One quantity: as the source's own reader has it, and the asset in pxr, MuJoCo and Newton; None where one cannot say."""

    of: str
    what: str
    source: float | None
    usd: float | None
    mujoco: float | None
    newton: float | None = None
    tolerance: float = TOLERANCE
    scale: float = 0.0
    """Size of what is compared, where a number near zero is one of several."""

    @property
    def agreed(self) -> bool:
        """Whether all who say something say the same."""
        said = [value for value in (self.source, self.usd, self.mujoco, self.newton) if value is not None]
        scale = max((abs(value) for value in said), default=0.0)
        return max(said, default=0.0) - min(said, default=0.0) <= self.tolerance * max(scale, self.scale, 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Witnesses:
    """Source and asset as programs read them: None for one that cannot."""

    source: Testimony | None
    usd: Testimony
    mujoco: Testimony
    newton: Testimony | None
    stated: Mapping[str, set[str]] = field(default_factory=dict)
    """What the source itself states of each body; the rest its reader made up."""


def referee(source: Path, asset: Asset) -> list[Verdict]:
    """Mass, centre of mass, inertia, friction and limits of everything in a source and its asset; how the asset falls and slides.

    The source is read by MuJoCo where that can (URDF, MJCF) and by pxr (USD); of a mesh or an SDF file there is nothing to compare
    with but what the others say. Centres of mass and inertias are compared in the asset's own frame: the source's are carried there
    by the motion that carries its meshes there.

    Raises:
        AssetError: the source's own reader refuses it.
    """
    parts = _read(source)
    try:
        own, refusal = _native(source, parts, asset), []
    except AssetError as error:
        own, refusal = None, [Verdict(of=source.name, what=f"not compared: {error}", source=None, usd=None, mujoco=None)]
    found = _Witnesses(
        source=own,
        usd=by_pxr(asset.path),
        mujoco=by_mujoco(Simulation.of(to_mjcf(asset, visual=False))),
        newton=by_newton(asset.path),
        stated={part.name: _said(part) for part in parts},
    )
    return [*refusal, *_of_bodies(asset, found), *_of_joints(asset, found), *_behaviour(asset)]


def _read(source: Path) -> Sequence[Part]:
    return named(placing.grounded(READERS[source.suffix.lower()](source))).parts if source.suffix.lower() in READERS else ()


def _said(part: Part) -> set[str]:
    stated = part.stated
    values = {"mass": stated.mass, "center": stated.center_of_mass, "inertia": stated.inertia, "friction": stated.dynamic_friction}
    return {name for name, value in values.items() if value is not None}


def _native(source: Path, parts: Sequence[Part], asset: Asset) -> Testimony | None:
    """The source as its own reader has it, in the asset's frame where that can be told."""
    kind = source.suffix.lower()
    if kind in _DESCRIBED:
        found = by_mujoco(Simulation.native(source), whole=True)
    elif kind in _STAGES:
        found = by_pxr(source)
    else:
        return None
    motion = _motion(parts, asset)
    return Testimony(
        bodies={name: _carried(body, motion) for name, body in found.bodies.items()}, limits=found.limits, friction=found.friction
    )


def _carried(body: Weighed, motion: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> Weighed:
    if motion is None:
        return Weighed(mass=body.mass)
    turn, shift = motion
    return Weighed(
        mass=body.mass,
        center=None if body.center is None else turn @ body.center + shift,
        inertia=None if body.inertia is None else turn @ body.inertia @ turn.T,
    )


def _motion(parts: Sequence[Part], asset: Asset) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The rotation and shift [m] from the source's frame to the asset's, by where vertices went (Kabsch 1976); None if unknown."""
    before, after = [], []
    bodies = {body.name: body for body in asset.bodies}
    for part in parts:
        body = bodies.get(part.name)
        if body is not None and len(part.mesh.vertices) and len(part.mesh.vertices) == len(body.visual.vertices):
            before.append(rotate(part.pose.quaternion, part.mesh.vertices) + part.pose.position)
            after.append(rotate(body.body_pose.quaternion, body.visual.vertices) + body.body_pose.position)
    if not before:
        return None
    one, other = np.concatenate(before), np.concatenate(after)
    scale = float(np.linalg.norm(other - other.mean(axis=0)) / max(float(np.linalg.norm(one - one.mean(axis=0))), 1e-300))
    left, _, right = np.linalg.svd((other - other.mean(axis=0)).T @ (one - one.mean(axis=0)))
    turn = left @ np.diag([1.0, 1.0, float(np.linalg.det(left @ right))]) @ right
    shift = other.mean(axis=0) - turn @ one.mean(axis=0) * scale
    off = np.abs(one @ turn.T * scale + shift - other).max()
    return (
        (np.asarray(turn, np.float64), np.asarray(shift, np.float64)) if off < 1e-4 * float(np.ptp(other, axis=0).max()) else None
    )


def _of_bodies(asset: Asset, found: _Witnesses) -> Iterator[Verdict]:
    for body in asset.bodies:
        name, said = body.name, found.stated.get(body.name, set())
        own = found.source.bodies.get(name) if found.source else None
        others = [testimony.bodies.get(name) if testimony else None for testimony in (found.usd, found.mujoco, found.newton)]
        masses = [one.mass if one else None for one in others]
        yield _verdict(name, "mass [kg]", own.mass if own and "mass" in said else None, masses)
        size = float(np.linalg.norm(np.ptp(body.visual.vertices, axis=0))) if len(body.visual.vertices) else 0.0
        reach = max(size, float(np.linalg.norm(body.center_of_mass)), 1e-3)
        center = own.center if own and "center" in said else None
        for axis, letter in enumerate(_AXES):
            values = [_at(one.center if one else None, axis) for one in others]
            yield _verdict(name, f"centre of mass {letter} [m]", _at(center, axis), values, scale=reach)
        inertia = own.inertia if own and "inertia" in said else None
        largest = max(body.diagonal_inertia)
        for pair, row, column in _PAIRS:
            values = [_at(one.inertia if one else None, row, column) for one in others]
            yield _verdict(name, f"inertia {pair} [kg m^2]", _at(inertia, row, column), values, scale=largest)
        rubs = [testimony.friction.get(name) if testimony else None for testimony in (found.usd, found.mujoco, found.newton)]
        native = found.source.friction.get(name) if found.source and "friction" in said else None
        if any(value is not None for value in rubs):
            yield _verdict(name, "friction", native, rubs)


def _of_joints(asset: Asset, found: _Witnesses) -> Iterator[Verdict]:
    for joint in asset.movable_joints:
        for index, end in enumerate(("lower", "upper")):
            if math.isfinite((joint.lower, joint.upper)[index]):
                values = [
                    one.limits.get(joint.name) if one else None for one in (found.source, found.usd, found.mujoco, found.newton)
                ]
                ends = [None if value is None or not math.isfinite(value[index]) else value[index] for value in values]
                yield _verdict(joint.name, end, ends[0], ends[1:])


def _verdict(of: str, what: str, source: float | None, others: Sequence[float | None], *, scale: float = 0.0) -> Verdict:
    usd, mujoco, newton = others
    return Verdict(of=of, what=what, source=source, usd=usd, mujoco=mujoco, newton=newton, scale=scale)


def _at(values: NDArray[np.float64] | None, *index: int) -> float | None:
    return None if values is None else float(values[index])


def _behaviour(asset: Asset) -> Iterator[Verdict]:
    """How fast the asset falls, against Galilei; how it slides on a slope without tipping, against Coulomb: in MuJoCo."""
    if asset.fixed_base or asset.movable_joints:
        return
    world = Simulation.of(to_mjcf(asset, visual=False))
    start, fallen = float(world.data.qpos[2]), math.sqrt(2 * _DROP_M / 9.81)
    world.run(fallen)
    what = f"fall in {fallen:.3f} s [m]"
    yield Verdict(of=asset.name, what=what, source=_DROP_M, usd=None, mujoco=start - float(world.data.qpos[2]))
    friction = asset.bodies[0].material.dynamic_friction
    expected = max(9.81 * (math.sin(_SLOPE) - friction * math.cos(_SLOPE)), 0.0) * 0.3**2 / 2
    # It shall slide, not roll or tip over: three slides take the place of the free joint.
    slides = "".join(f'<joint type="slide" axis="{axis}"/>' for axis in ("1 0 0", "0 1 0", "0 0 1"))
    slope = Simulation.of(_FREE.sub(slides, to_mjcf(asset, floor=True, visual=False)))
    slope.run(0.5)
    slope.model.geom_friction[:, 0] = friction
    slope.model.opt.gravity[:] = (9.81 * math.sin(_SLOPE), 0.0, -9.81 * math.cos(_SLOPE))
    before = np.array(slope.data.qpos[:2])
    slope.run(0.3)
    slid = float(np.linalg.norm(slope.data.qpos[:2] - before))
    what = "slide on 35 degrees in 0.3 s [m]"
    yield Verdict(of=asset.name, what=what, source=expected, usd=None, mujoco=slid, tolerance=_MOVED, scale=_CREEP / _MOVED)
