"""The fidelity table: each quantity that a file states, its value in the asset, and the reason of every difference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from embodichain.assets.families.parts import Kept, Part, Preservation, Source, Value
from embodichain.assets.geometry.primitives import content
from embodichain.assets.geometry.shapes import signed_volume
from embodichain.types import Asset, Body, Joint, JointKind, Mesh
from embodichain.types.poses import matrix_of

KEPT = 1e-4
"""Relative difference up to which a stated number counts as kept."""
UNEXPLAINED = "UNEXPLAINED"
"""Reason of a difference that no stage explained. That is a fault of this engine; tests and the benchmark count such rows."""


def table(raw: Source, asset: Asset, told: Sequence[Kept]) -> tuple[Kept, ...]:
    """One row for every quantity that a source states, compared with the asset as its file holds it.

    Args:
        raw: the source, placed in the same pose as the asset.
        asset: the asset, read back from its file.
        told: rows from stages that had to change or drop something.
    """
    explained = {(row.of, row.what): row for row in told}
    bodies = {body.name: body for body in asset.bodies}
    rows: list[Kept] = []
    for part in raw.parts:
        # A centre of mass may be zero although lengths are not, so its tolerance is a share of the body's size.
        size = float(np.ptp(part.mesh.vertices, axis=0).max()) if len(part.mesh.vertices) else 1.0
        for what, pair in _of_body(part, bodies.get(part.name)).items():
            rows.append(_row(part.name, what, *pair, explained, size if what == "centre of mass" else 0.0))
    joints = {joint.name: joint for joint in asset.joints}
    for joint in raw.joints:
        rows += [_row(joint.name, what, *pair, explained) for what, pair in _of_joint(joint, joints.get(joint.name)).items()]
    found = {(row.of, row.what) for row in rows}
    return (*rows, *(row for row in told if (row.of, row.what) not in found))


def unexplained(rows: Sequence[Kept]) -> list[Kept]:
    """The rows of differences that no stage explained."""
    return [row for row in rows if row.fate is not Preservation.KEPT and row.reason in ("", UNEXPLAINED)]


def plain(rows: Sequence[Kept]) -> list[dict[str, Any]]:
    """The rows as plain values for a report; infinite numbers become words, because JSON has none."""

    def value(entry: Value) -> Any:
        if isinstance(entry, tuple):
            return [value(number) for number in entry]
        return str(entry) if isinstance(entry, float) and not math.isfinite(entry) else entry

    return [
        {
            "of": row.of, "what": row.what, "stated": value(row.stated), "written": value(row.written), "fate": str(row.fate),
            "reason": row.reason,
        }
        for row in rows
    ]  # fmt: skip


def _row(of: str, what: str, stated: Value, written: Value, explained: Mapping[tuple[str, str], Kept], scale: float = 0.0) -> Kept:
    told = explained.get((of, what))
    if _same(stated, written, scale):
        return told or Kept(of=of, what=what, stated=stated, written=written, fate=Preservation.KEPT)
    if told is not None:
        return told
    fate = Preservation.DROPPED if written is None else Preservation.CHANGED
    return Kept(of=of, what=what, stated=stated, written=written, fate=fate, reason=UNEXPLAINED)


def _same(stated: Value, written: Value, scale: float) -> bool:
    if isinstance(stated, tuple) and isinstance(written, tuple):
        one, other = np.asarray(stated), np.asarray(written)
        finite = np.isfinite(one)
        scale = max(float(np.abs(one[finite]).max(initial=0.0)), scale, 1e-9)
        return one.shape == other.shape and bool(
            np.array_equal(one[~finite], other[~finite]) and (np.abs(one[finite] - other[finite]) <= KEPT * scale).all()
        )
    if isinstance(stated, float) and isinstance(written, float):
        return stated == written or abs(stated - written) <= KEPT * max(abs(stated), 1e-9)
    return stated == written


def _of_body(part: Part, body: Body | None) -> dict[str, tuple[Value, Value]]:
    stated = part.stated
    found: dict[str, tuple[Value, Value]] = {}

    def state(what: str, value: Value, of: Any) -> None:
        if value is not None:
            found[what] = (value, None if body is None else of(body))

    state("mass", stated.mass, lambda b: b.mass)
    state("centre of mass", stated.center_of_mass, lambda b: b.center_of_mass)
    if stated.inertia is not None:
        state("inertia", _six(stated.inertia), lambda b: _six(_inertia(b)))
    state("density", stated.density, lambda b: b.material.density)
    state("static friction", stated.static_friction, lambda b: b.material.static_friction)
    state("dynamic friction", stated.dynamic_friction, lambda b: b.material.dynamic_friction)
    state("restitution", stated.restitution, lambda b: b.material.restitution)
    for name in ("static_friction", "dynamic_friction", "restitution") if stated.touches else ():
        told = [number for number, touch in enumerate(stated.touches) if getattr(touch, name) is not None]
        if told:
            values = tuple(float(getattr(stated.touches[number], name)) for number in told)
            state(f"{name.replace('_', ' ')} of colliders", values, lambda b, name=name, told=told: _touching(b, name, told))
    if stated.colliders:
        state("colliders", tuple(_contents(stated.colliders)), lambda b: tuple(_contents(b.hulls)))
    return found


def _of_joint(joint: Joint, written: Joint | None) -> dict[str, tuple[Value, Value]]:
    names = ["lower", "upper", "damping", "friction", "stiffness", "rest", "effort", "velocity", "armature"]
    found: dict[str, tuple[Value, Value]] = {"kind": (str(joint.kind), str(written.kind) if written else None)}
    if joint.kind is JointKind.FIXED:
        return found
    found["axis"] = (joint.axis, written.axis if written else None)
    for name in names:
        value = getattr(joint, name)
        found[name] = (value, getattr(written, name) if written else None)
    if joint.mimic:
        other = written.mimic if written else None
        said = (joint.mimic.multiplier, joint.mimic.offset)
        found["mimic"] = (said, (other.multiplier, other.offset) if other and other.joint == joint.mimic.joint else None)
    return found


def _contents(colliders: Sequence[Mesh]) -> Iterator[float]:
    """Volumes of colliders [m^3], exact for analytic ones."""
    return (content(hull.shape) if hull.shape else signed_volume(hull) for hull in colliders)


def _touching(body: Body, name: str, hulls: Sequence[int]) -> tuple[float, ...] | None:
    """A surface property of some of a body's hulls; None where these do not exist."""
    surfaces = body.touching
    return tuple(float(getattr(surfaces[number], name)) for number in hulls) if max(hulls) < len(surfaces) else None


def _inertia(body: Body) -> np.ndarray:
    axes = matrix_of(body.principal_axes)
    return axes @ np.diag(body.diagonal_inertia) @ axes.T


def _six(inertia: np.ndarray) -> tuple[float, ...]:
    rows, columns = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
    return tuple(float(value) for value in inertia[rows, columns])
