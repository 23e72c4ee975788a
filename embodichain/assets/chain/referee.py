"""Compares a file with its asset: the same quantities as other programs read them from both, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.chain import movements, newton_witness
from embodichain.assets.chain.stated import stated
from embodichain.assets.chain.witnesses import Testimony, Weighed, by_mujoco, by_pxr
from embodichain.assets.families.parts import Part
from embodichain.assets.physical import simulation
from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.physical.simulation import Simulation
from embodichain.assets.reading import placing
from embodichain.assets.reading.folder import READERS, only, things
from embodichain.assets.reading.naming import named
from embodichain.errors import AssetError
from embodichain.types import Asset, rotate

TOLERANCE = 1e-3
"""Relative difference up to which two programs agree: MuJoCo's text keeps nine digits, USD has single precision."""
_MOVED = 0.02
"""The same for movements, on which soft contacts have an effect."""
_CREEP = 3e-4
"""How far an object that sticks may creep in the given time [m]: a single soft contact that carries it creeps by 0.17 mm."""
_DESCRIBED = (".urdf", ".xml", ".mjcf")
_STAGES = (".usd", ".usda", ".usdc", ".usdz")
_AXES = ("x", "y", "z")
_PAIRS = (("xx", 0, 0), ("yy", 1, 1), ("zz", 2, 2), ("xy", 0, 1), ("xz", 0, 2), ("yz", 1, 2))


class Agreement(StrEnum):
    """The result of comparing a quantity: equal everywhere, different, only in the source, or not comparable."""

    AGREED = "agreed"
    DIFFERENT = "different"
    LOST = "lost"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One quantity as read from the source, and from the asset by pxr, MuJoCo and Newton; None where a program has no value."""

    of: str
    what: str
    source: float | None = None
    usd: float | None = None
    mujoco: float | None = None
    newton: float | None = None
    tolerance: float = TOLERANCE
    scale: float = 0.0
    """Size of the whole vector or matrix that a number belongs to: the scale for its tolerance when the number is near zero."""
    stated: bool = False
    """Whether the source's own text states it, so that every reader has to find it."""
    moving: bool = False
    """Whether the quantity is a movement, which pxr does not simulate."""
    law: bool = False
    """Whether `source` is not from the source but from the laws of mechanics applied to the asset."""

    @property
    def compared(self) -> bool:
        """Whether a value of the source was compared with the asset."""
        return self.source is not None and not self.law

    @property
    def state(self) -> Agreement:
        """The result of the comparison."""
        if self.source is None and (self.stated or (self.usd, self.mujoco, self.newton) == (None, None, None)):
            return Agreement.NOT_COMPARED
        if self.compared and (self.mujoco is None or (self.usd is None and not self.moving)):
            return Agreement.LOST
        said = [value for value in (self.source, self.usd, self.mujoco, self.newton) if value is not None]
        scale = max((abs(value) for value in said), default=0.0)
        near = max(said, default=0.0) - min(said, default=0.0) <= self.tolerance * max(scale, self.scale, 1e-9)
        return Agreement.AGREED if near else Agreement.DIFFERENT

    @property
    def agreed(self) -> bool:
        """Whether all programs with a value agree, and every program that should have one does."""
        return self.state is Agreement.AGREED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Witnesses:
    """Source and asset as each program reads them; None for a program that cannot."""

    source: Testimony | None
    usd: Testimony
    mujoco: Testimony
    newton: Testimony | None
    stated: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The quantities that the source itself states for each body; its reader assumed the others."""

    @property
    def of_asset(self) -> tuple[Testimony | None, Testimony | None, Testimony | None]:
        """The readings of the asset by pxr, MuJoCo and Newton."""
        return self.usd, self.mujoco, self.newton


def referee(source: Path, asset: Asset, *, play_newton: bool = True) -> list[Comparison]:
    """Compares mass, centre of mass, inertia, friction and limits of everything in a source and its asset, and how both move.

    MuJoCo reads URDF and MJCF sources, pxr USD ones; a mesh or SDF file has no independent reader, so that only the programs that
    read the asset are compared. Centres of mass and inertias are compared in the asset's frame, into which the motion of the
    vertices carries those of the source. Bodies and limits that only the source has count as lost, unless they belong to another
    object of the same file. Where MuJoCo can read the source, it is simulated as the asset is; otherwise mechanics predicts the
    motion. Newton, if installed, simulates the asset too, unless `play_newton` is false, because its first step takes minutes to
    compile.

    Raises:
        AssetError: the source cannot be read.
    """
    own, said, refusal, native, why = None, dict[str, frozenset[str]](), list[Comparison](), None, ""
    try:
        found = _native(source)
        if found is None:
            refusal = [Comparison(of=source.name, what="not compared: no other program here reads such files")]
        else:
            names, parts = _named(source, asset)
            motion = _motion(parts, asset)
            own = _called(found, names, motion)
            said = {names.body(name): what for name, what in stated(source, found).items() if names.body(name)}
            if source.suffix.lower() in _DESCRIBED:
                root = movements.root_of(asset).name
                rubs = "friction" in said.get(root, ())
                why = "" if rubs else ", with the asset's friction"
                native = movements.of_source(source, names.before(root), asset, motion, rubs=rubs)
    except AssetError as error:
        refusal = [Comparison(of=source.name, what=f"not compared: {error}")]
    witnesses = _Witnesses(
        source=own,
        usd=by_pxr(asset.path),
        mujoco=by_mujoco(Simulation.of(to_mjcf(asset, visual=False))),
        newton=newton_witness.by_newton(asset.path),
        stated=said,
    )
    played = newton_witness.in_newton(asset) if play_newton and witnesses.newton is not None else None
    return [*refusal, *_of_bodies(asset, witnesses), *_of_joints(asset, witnesses), *_moves(asset, native, why, played)]


def upheld(verdicts: Sequence[Comparison]) -> bool:
    """Whether at least one quantity of the source was compared, and all comparisons agree."""
    return any(verdict.compared for verdict in verdicts) and all(verdict.agreed for verdict in verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Names of the source's bodies and joints in the asset: the same unless listed; "" for those of another object."""

    bodies: Mapping[str, str] = field(default_factory=dict)
    joints: Mapping[str, str] = field(default_factory=dict)

    def body(self, name: str) -> str:
        return self.bodies.get(name, name)

    def joint(self, name: str) -> str:
        return self.joints.get(name, name)

    def before(self, name: str) -> str:
        """The name in the source of a body of the asset."""
        return next((old for old, new in self.bodies.items() if new == name), name)


def _named(source: Path, asset: Asset) -> tuple[_Names, Sequence[Part]]:
    """How our reader renames the bodies and joints of a source, and the parts of the object that became the asset."""
    kind, ours = source.suffix.lower(), {body.name for body in asset.bodies}
    if kind not in READERS:
        return _Names(), ()
    whole = READERS[kind](source)
    before = [placing.grounded(only(whole, members)) for members in things(whole).values()]
    found = [(old, named(old)) for old in before]
    shared = [len({part.name for part in new.parts} & ours) for _, new in found]
    mine = max(range(len(found)), key=shared.__getitem__, default=0)
    bodies, joints = dict[str, str](), dict[str, str]()
    for number, (old, new) in enumerate(found):
        own = number == mine or not any(shared)  # otherwise it is unknown which object each name belongs to
        bodies |= {one.name: other.name if own else "" for one, other in zip(old.parts, new.parts, strict=True)}
        joints |= {one.name: other.name if own else "" for one, other in zip(old.joints, new.joints, strict=True)}
    return _Names(bodies=bodies, joints=joints), found[mine][1].parts if found else ()


def _native(source: Path) -> Testimony | None:
    """The source as its format's own reader has it; None where there is none."""
    kind = source.suffix.lower()
    if kind in _DESCRIBED:
        return by_mujoco(Simulation.native(source), whole=True)
    return by_pxr(source) if kind in _STAGES else None


def _called(found: Testimony, names: _Names, motion: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> Testimony:
    """The part of a source's reading that is about one object, with the asset's names and, if the motion is known, in its frame."""
    return Testimony(
        bodies={names.body(name): _carried(body, motion) for name, body in found.bodies.items() if names.body(name)},
        limits={names.joint(name): ends for name, ends in found.limits.items() if names.joint(name)},
        friction={names.body(name): values for name, values in found.friction.items() if names.body(name)},
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
    """Rotation and shift [m] from the source's frame to the asset's, from corresponding vertices (Kabsch 1976); None if unknown."""
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


def _of_bodies(asset: Asset, found: _Witnesses) -> Iterator[Comparison]:
    bodies = {body.name: body for body in asset.bodies}
    only_there = {name: None for name in (*found.stated, *(found.source.bodies if found.source else ())) if name not in bodies}
    for name in (*bodies, *only_there):
        body, said = bodies.get(name), found.stated.get(name, frozenset())
        own = found.source.bodies.get(name) if found.source else None
        others = [testimony.bodies.get(name) if testimony else None for testimony in found.of_asset]
        if body is None and not said:
            continue  # the body states nothing: it is a base, or only carries others
        masses = [one.mass if one else None for one in others]
        mass = own.mass if own and "mass" in said else None
        yield _verdict(name, "mass [kg]", mass, masses, stated="mass" in said)
        points = body.visual.vertices if body is not None and len(body.visual.vertices) else np.zeros((1, 3))
        reach = max(
            float(np.linalg.norm(np.ptp(points, axis=0))), float(np.linalg.norm(body.center_of_mass)) if body else 0.0, 1e-3
        )
        center = own.center if own and "center" in said else None
        for axis, letter in enumerate(_AXES):
            values = [_at(one.center if one else None, axis) for one in others]
            what = f"centre of mass {letter} [m]"
            yield _verdict(name, what, _at(center, axis), values, scale=reach, stated="center" in said)
        inertia = own.inertia if own and "inertia" in said else None
        largest = max(body.diagonal_inertia) if body else 0.0
        for pair, row, column in _PAIRS:
            values = [_at(one.inertia if one else None, row, column) for one in others]
            what = f"inertia {pair} [kg m^2]"
            yield _verdict(name, what, _at(inertia, row, column), values, scale=largest, stated="inertia" in said)
        native = found.source.friction.get(name, ()) if found.source and "friction" in said else ()
        rubs = [testimony.friction.get(name, ()) if testimony else () for testimony in found.of_asset]
        kinds = max(map(len, (native, *rubs)))
        for number in range(kinds):
            what = "friction" if kinds == 1 else f"friction, {number + 1} of {kinds}"
            value, *others = (one[number] if number < len(one) else None for one in (native, *rubs))
            yield _verdict(name, what, value, others, stated="friction" in said)


def _of_joints(asset: Asset, found: _Witnesses) -> Iterator[Comparison]:
    """Limits of every joint that has limits in the source or in the asset."""
    joints = {joint.name: (joint.lower, joint.upper) for joint in asset.movable_joints}
    for name in dict.fromkeys((*joints, *(found.source.limits if found.source else ()))):
        said = [one.limits.get(name) if one else None for one in (found.source, *found.of_asset)]
        for index, end in enumerate(("lower", "upper")):
            ends = [None if value is None or not math.isfinite(value[index]) else value[index] for value in said]
            if ends[0] is not None or math.isfinite(joints.get(name, (math.inf, math.inf))[index]):
                yield _verdict(name, end, ends[0], ends[1:], stated=found.source is not None and name in found.source.limits)


def _verdict(
    of: str, what: str, source: float | None, others: Sequence[float | None], *, scale: float = 0.0, stated: bool = False
) -> Comparison:  # fmt: skip
    usd, mujoco, newton = others
    return Comparison(of=of, what=what, source=source, usd=usd, mujoco=mujoco, newton=newton, scale=scale, stated=stated)


def _at(values: NDArray[np.float64] | None, *index: int) -> float | None:
    return None if values is None else float(values[index])


def _moves(asset: Asset, native: movements.Moved | None, why: str, newton: movements.Moved | None) -> Iterator[Comparison]:
    """How source and asset fall, and slide on a slope without tipping; mechanics predicts it where the source is not simulated."""
    law, ours = movements.by_mechanics(asset), movements.of_asset(asset)
    for what, size, tolerance, creep in (
        ("fall", f"in {simulation.DROP_S:g} s [m]", TOLERANCE, 0.0),
        ("slide", f"on 35 degrees in {simulation.SLIDE_S:g} s [m]{why}", _MOVED, _CREEP),
    ):
        played, expected, moved, other = (getattr(one, what, None) for one in (native, law, ours, newton))
        if moved is None and played is None:
            continue
        by_law = played is None
        yield Comparison(
            of=asset.name, what=f"{what} {size}{', by mechanics' if by_law else ''}", source=expected if by_law else played,
            mujoco=moved, newton=other, tolerance=tolerance, scale=creep / tolerance, moving=True, law=by_law,
        )  # fmt: skip
