"""Differences between two deliveries of an asset, or of two folders: mass, inertia, hulls, grasps, joints, hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embodichain.assets.chain.publish import finished
from embodichain.assets.geometry.shapes import signed_volume
from embodichain.assets.pictures.gallery import GalleryEntry
from embodichain.errors import ConfigError

_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: the asset, the quantity, both values, and the relative change where the values are numbers."""

    asset: str
    what: str
    before: Any
    after: Any
    relative: float | None = None


def compare(first: Path, second: Path) -> list[Change]:
    """All differences between two USD files, or between assets of the same name in two folders.

    Raises:
        ConfigError: one is a file and the other a folder, or a path does not exist.
        AssetError: a file cannot be read.
    """
    for path in (first, second):
        if not path.exists():
            raise ConfigError(f"nothing at {path}; give two USD files or two folders of delivered assets")
    if first.is_dir() != second.is_dir():
        raise ConfigError(f"cannot compare a file with a folder: {first} and {second}")
    if first.is_file():
        return differences(GalleryEntry.load(first), GalleryEntry.load(second))
    ours, theirs = ({file.stem: file for file in finished(folder)} for folder in (first, second))
    changes = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            changes.append(Change(asset=name, what="asset", before="there", after="missing"))
        elif name not in ours:
            changes.append(Change(asset=name, what="asset", before="missing", after="there"))
        else:
            changes += differences(GalleryEntry.load(ours[name]), GalleryEntry.load(theirs[name]))
    return changes


def differences(first: GalleryEntry, second: GalleryEntry) -> list[Change]:
    """All differences between two assets; numbers that agree to one part in a million count as equal."""
    before, after = _facts(first), _facts(second)
    changes = []
    for what in dict.fromkeys([*before, *after]):
        old, new = before.get(what, "missing"), after.get(what, "missing")
        if not _same(old, new):
            changes.append(Change(asset=first.asset.name, what=what, before=old, after=new, relative=_relative(old, new)))
    return changes


def _facts(exhibit: GalleryEntry) -> Mapping[str, Any]:
    """The compared quantities by name, as plain values."""
    asset = exhibit.asset
    facts: dict[str, Any] = {
        "content hash": asset.content_hash,
        "category": asset.category,
        "licence": asset.licence,
        "source": asset.source,
        "extents [m]": [round(value, 6) for value in (asset.bounds[1] - asset.bounds[0]).tolist()],
    }
    for body in asset.bodies:
        facts[f"{body.name}: mass [kg]"] = body.mass
        facts[f"{body.name}: centre of mass [m]"] = list(body.center_of_mass)
        facts[f"{body.name}: moments [kg m^2]"] = list(body.diagonal_inertia)
        facts[f"{body.name}: principal axes"] = list(body.principal_axes)
        facts[f"{body.name}: material"] = body.material.name
        surface = body.material
        facts[f"{body.name}: friction and restitution"] = [surface.static_friction, surface.dynamic_friction, surface.restitution]
        if body.surfaces:
            facts[f"{body.name}: dynamic friction of hulls"] = [surface.dynamic_friction for surface in body.surfaces]
        facts[f"{body.name}: hulls"] = len(body.hulls)
        facts[f"{body.name}: hull volume [m^3]"] = sum(signed_volume(hull) for hull in body.hulls)
        facts[f"{body.name}: faces"] = len(body.visual.faces)
        facts[f"{body.name}: volume [m^3]"] = signed_volume(body.visual)
        facts[f"{body.name}: pose"] = [*body.body_pose.position, *body.body_pose.quaternion]
    for joint in asset.joints:
        facts[f"joint {joint.name}"] = f"{joint.kind} {joint.parent or 'world'} > {joint.child}"
        facts[f"joint {joint.name}: range"] = [joint.lower, joint.upper]
        facts[f"joint {joint.name}: axis and anchor"] = [*joint.axis, *joint.anchor]
        facts[f"joint {joint.name}: damping and friction"] = [joint.damping, joint.friction]
        facts[f"joint {joint.name}: spring"] = [joint.stiffness, joint.rest]
    for name, (owner, pose) in asset.affordances.items():
        facts[f"frame {name}"] = [*pose.position, *pose.quaternion]
        facts[f"frame {name}: body"] = owner
    for name, lift in exhibit.report.get("grasps", {}).items():
        facts[f"grasp {name}"] = lift["reason"]
    return facts


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, str) or isinstance(new, str):
        return old == new
    first, second = np.atleast_1d(np.asarray(old, np.float64)), np.atleast_1d(np.asarray(new, np.float64))
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=_TOLERANCE, atol=_TOLERANCE * np.abs(first).max()))


def _relative(old: Any, new: Any) -> float | None:
    """Relative change of a number, or of a list of numbers taken as a vector; None where there is none."""
    if isinstance(old, str) or isinstance(new, str) or np.shape(old) != np.shape(new):
        return None
    size = float(np.linalg.norm(np.atleast_1d(old)))
    return float(np.linalg.norm(np.atleast_1d(np.subtract(new, old)))) / size if size > 0 else None
