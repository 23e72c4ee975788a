"""Makes names that are valid in every format from those of files, and keeps the original names beside them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from embodichain.assets.families.parts import Kept, Part, Preservation
from embodichain.assets.reading.mesh_files import Reading
from embodichain.errors import AssetError
from embodichain.types import Joint

_TAKEN = ("joints", "materials", "looks", "visual", "collision", "affordances", "world", "floor")
"""Names with a special meaning in a delivered file."""
_LONGEST = 60
_OF_JOINTS = (
    "axis", "lower", "upper", "limits", "damping", "friction", "stiffness", "rest", "effort", "velocity", "armature", "mimic",
    "joint", "ball joint", "planar joint", "joint without a kind", "joint position", "cone limit", "force limit", "parent",
    "limit margin", "limit softness", "limit impedance",
)  # fmt: skip
"""Quantities in rows of the fidelity table that only joints have."""


def asset_name(path: Path, item: str = "") -> str:
    """A name that is valid in every format: ASCII letters, digits and underscores, from the names of the file and the object."""
    return transcoded(f"{path.stem} {item}".strip())


def transcoded(name: str) -> str:
    """ASCII letters, digits and underscores; with a hash appended when little of the name is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = "".join(letter if letter.isalnum() else " " for letter in plain).split()
    result = "_".join(words)[:_LONGEST]
    if not result or len(plain) < 0.5 * len(name):
        result = f"{result}_{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}".strip("_")
    return result if result[0].isalpha() else f"a_{result}"


def numbered(paths: Sequence[str]) -> dict[str, str]:
    """A unique name for each path of a stage: its last component, numbered if it occurs several times."""
    names: dict[str, str] = {}
    for path in paths:
        word = path.rpartition("/")[2]
        name, number = word, len(names)
        while name in names.values():
            name, number = f"{word}_{number}", number + 1
        names[path] = name
    return names


def named(reading: Reading) -> Reading:
    """Gives the bodies and joints of a reading unique names that are valid in every format.

    `titles` gets the original names, and the table a row for each. Raises AssetError for bodies, or joints, of one name: what
    refers to one of them could mean another.
    """
    for what, known in (("bodies", reading.parts), ("joints", reading.joints)):
        if twice := [name for name, count in Counter(entry.name for entry in known).items() if count > 1]:
            raise AssetError(
                f"read: several {what} are called {twice[0]!r}, or would be once their joints are made simple: rename them"
            )
    names: dict[str, str] = {}
    taken: set[str] = {*_TAKEN}

    def fresh(old: str) -> str:
        new = old if old.isidentifier() and old.isascii() and len(old) <= _LONGEST else transcoded(old or "unnamed")
        candidate, number = new, 2
        while candidate in taken:
            candidate, number = f"{new}_{number}", number + 1
        taken.add(candidate)
        return candidate

    for part in reading.parts:
        names[part.name] = fresh(part.name)
    hinges = {joint.name: fresh(joint.name) for joint in reading.joints}
    parts = tuple(_renamed(part, names) for part in reading.parts)
    joints = tuple(_joint(joint, names, hinges) for joint in reading.joints)
    titles = {new: reading.titles.get(old, old) for old, new in (*names.items(), *hinges.items())}
    titles = {new: old for new, old in titles.items() if old != new}
    rows = tuple(replace(row, of=_whose(row, names, hinges)) for row in reading.fidelity)
    reason = "no other body or joint has this name, and every format can bear it: its own is its display name"
    rows += tuple(
        Kept(of=new, what="name", stated=old, written=new, fate=Preservation.CHANGED, reason=reason)
        for new, old in titles.items()
        if old
    )
    apart = tuple((names[a], names[b]) for a, b in reading.apart)
    return replace(reading, parts=parts, joints=joints, titles=titles, fidelity=rows, apart=apart)


def _whose(row: Kept, bodies: Mapping[str, str], joints: Mapping[str, str]) -> str:
    """The new name of the body or joint that a row is about; if both had the same name, the quantity decides which is meant."""
    first, second = (joints, bodies) if row.what in _OF_JOINTS else (bodies, joints)
    return first.get(row.of, second.get(row.of, row.of))


def _renamed(part: Part, names: Mapping[str, str]) -> Part:
    return replace(part, name=names[part.name])


def _joint(joint: Joint, bodies: Mapping[str, str], joints: Mapping[str, str]) -> Joint:
    mimic = replace(joint.mimic, joint=joints[joint.mimic.joint]) if joint.mimic else None
    parent = bodies[joint.parent] if joint.parent else ""
    return replace(joint, name=joints[joint.name], parent=parent, child=bodies[joint.child], mimic=mimic)
