"""Shared by the readers of robot descriptions: meshes by their names in the file, and bodies made from values of links."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from embodichain.assets.families.parts import Kept, Look, Part, Preservation, Stated
from embodichain.assets.reading import mechanisms
from embodichain.assets.reading.looks import GREY, joined, plain, stretched
from embodichain.assets.reading.mesh_files import FORMATS, read_mesh
from embodichain.errors import AssetError
from embodichain.types import Pose
from embodichain.types.poses import quaternion_of


def locate(description: Path, name: str) -> tuple[Path | None, Path]:
    """The file that a mesh's name refers to, or None, and the folder in which it must be: one or two above the description."""
    plain_name = name.removeprefix("file://")
    package = plain_name.startswith(("package://", "model://"))
    relative = plain_name.partition("://")[2] if package else plain_name
    relative = relative.replace("\\", "/")
    try:
        below = description.resolve().parent
    except RuntimeError as error:  # a symbolic link to itself
        raise AssetError(f"read: {description} is no file: {error}") from error
    root = _above(below)
    tries = []
    for spelt in dict.fromkeys((relative, unquote(relative)) if "://" in name else (relative,)):
        # Some names are relative to the folder above, which engines have in their search path.
        tries += [description.parent / spelt, description.parent / spelt.lstrip("/"), root / spelt]
        if package:
            inner = spelt.partition("/")[2]
            tries += [_above(root) / spelt, root / inner, description.parent / inner]
    root = _above(root) if package else root
    for candidate in tries:
        try:
            resolved = candidate.resolve()
            if resolved.is_relative_to(root) and resolved.is_file():
                return resolved, root
        except (OSError, ValueError, RuntimeError):
            continue
    return None, root


def _above(folder: Path) -> Path:
    """The folder above, except for the root of the file system: a whole disk is never searched."""
    return folder if folder.parent == Path(folder.anchor) else folder.parent


@dataclass(slots=True)
class Meshes:
    """The meshes of a description, each read once; remarks on them are added to `rows` and `warnings`."""

    description: Path
    rows: list[Kept]
    warnings: list[str]
    files: dict[Path, Look] = field(default_factory=dict)
    """All files that were read, including those that meshes refer to."""

    def look(self, name: str, scale: np.ndarray) -> Look:
        """The mesh that a name refers to, scaled along each axis; raises AssetError when it does not exist."""
        file, root = locate(self.description, name)
        if file is None:
            formats = ", ".join(FORMATS)
            raise AssetError(f"read: mesh {name[:200]!r} of {self.description.name} is not below {root}; formats: {formats}")
        if file not in self.files:
            reading = read_mesh(file)
            look = reading.parts[0].look
            assert look is not None
            factor = reading.unit if file.suffix.lower() in (".dae", ".3mf") and reading.unit else 1.0
            self.files[file] = stretched(look, np.full(3, factor)) if factor != 1.0 else look
            self.files |= dict.fromkeys(reading.files, look)
            self.warnings += reading.warnings
            self.rows += (row for row in reading.fidelity if row not in self.rows)
            if reading.up not in ("", "z"):
                reason = "meshes are in the axes of their link: coordinates were taken as they are, not turned to Z up"
                self.rows.append(
                    Kept(of=file.name, what="up axis", stated=reading.up, written="z", fate=Preservation.CHANGED, reason=reason)
                )
        return stretched(self.files[file], scale)


def body(name: str, pose: Pose, looks: Sequence[Look], stated: Stated) -> tuple[Part, tuple[Kept, ...]]:
    """A body with these looks, or with the shape of its colliders if it has none; without either it only connects joints."""
    if not looks and not stated.colliders:
        return mechanisms.shapeless(name, pose, stated)
    look = joined(looks) if looks else joined([plain(mesh, GREY) for mesh in stated.colliders])
    color = max(looks, key=_size).finishes[0].color if looks else GREY
    return Part(name=name, mesh=look.mesh, material="", color=color, pose=pose, mass=stated.mass, look=look, stated=stated), ()


def _size(look: Look) -> float:
    return float(np.prod(np.ptp(look.mesh.vertices, axis=0)))


def from_roll_pitch_yaw(roll: float, pitch: float, yaw: float) -> tuple[float, float, float, float]:
    """The quaternion of rotations about fixed X, then Y, then Z [rad]."""
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(angle), math.sin(angle)) for angle in (roll, pitch, yaw))
    return quaternion_of(
        np.array(
            [
                [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
                [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
                [-sp, cp * sr, cp * cr],
            ]
        )
    )
