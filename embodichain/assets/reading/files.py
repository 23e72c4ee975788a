"""Sources from files: read, sized to metres, turned Z up, set on the plane; licensed, or refused.

What the user knows about a file stands in `<stem>.asset.json` beside it, with the fields of `FileFacts`, or is given in code.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.families.parts import Part, Source
from embodichain.assets.families.tables import material
from embodichain.assets.geometry.shapes import Solid, to_mesh
from embodichain.assets.reading import scale
from embodichain.assets.reading.mesh_files import FORMATS, Reading, read_mesh
from embodichain.assets.reading.mjcf_source import read_mjcf
from embodichain.assets.reading.urdf import read_urdf
from embodichain.assets.reading.usd_source import read_usd
from embodichain.errors import AssetError, ConfigError, unknown
from embodichain.types import Joint, JointKind, Mesh, Pose, rotate
from embodichain.types.poses import compose, quaternion_of

READERS = {
    **dict.fromkeys(FORMATS, read_mesh),
    ".usd": read_usd,
    ".usda": read_usd,
    ".usdc": read_usd,
    ".urdf": read_urdf,
    ".xml": read_mjcf,
    ".mjcf": read_mjcf,
}
_UNITS_OF_UP: Mapping[str, NDArray[np.float64]] = {
    "z": np.eye(3),
    "y": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "x": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
    "-z": np.diag([1.0, -1.0, -1.0]),
    "-y": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "-x": np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]),
}
"""Rotation that turns the named axis up; a Y-up file's front, Z by its convention, becomes +X."""
_DEFAULT_MATERIAL = "abs"
_DESCRIPTIONS = (".urdf", ".xml", ".mjcf")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What the user knows about a file; "" and 0 say nothing.

    `licence` is an SPDX identifier or "unknown", which is flagged. `size_m` is the longest side; `up` and `front` are axes of the
    file; `mass_kg` is of the whole; `shell_thickness_m` makes closed surfaces hollow; `bolted` fixes the root to its place.
    """

    licence: str = ""
    category: str = ""
    unit: str = ""
    size_m: float = 0.0
    up: str = ""
    front: str = ""
    material: str = ""
    mass_kg: float = 0.0
    shell_thickness_m: float = 0.0
    bolted: bool = False

    def __post_init__(self) -> None:
        for name in ("up", "front"):
            if getattr(self, name) and getattr(self, name) not in _UNITS_OF_UP:
                raise unknown(f"{name} axis", getattr(self, name), _UNITS_OF_UP)
        if self.up and self.front and self.up[-1] == self.front[-1]:
            raise ConfigError(f"up {self.up!r} and front {self.front!r} lie on one axis; they must be perpendicular")
        for name in ("size_m", "mass_kg", "shell_thickness_m"):
            if not getattr(self, name) >= 0.0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")


def files_in(path: Path) -> tuple[Path, ...]:
    """The readable files at a path: itself, or all below a folder that no robot description beside them refers to, sorted.

    Raises:
        AssetError: nothing is there, or nothing readable.
    """
    if not path.is_dir():
        if path.suffix.lower() not in READERS:
            raise AssetError(f"read: {path.name} is of an unknown format; available: {', '.join(READERS)}")
        return (path,)
    found = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in READERS)
    described = {part for file in found if file.suffix.lower() in _DESCRIPTIONS for part in _below(file)}
    found = [file for file in found if file not in described]
    if not found:
        raise AssetError(f"read: no readable file below {path}; formats: {', '.join(READERS)}")
    return tuple(found)


def _below(description: Path) -> Iterator[Path]:
    """Mesh files in the folder of a robot description: they are its parts, not assets of their own."""
    folder = description.parent.parent if description.parent.name in ("urdf", "mjcf", "xml") else description.parent
    return (file for file in folder.rglob("*") if file.suffix.lower() in FORMATS)


def asset_name(path: Path) -> str:
    """A name that every format can bear: ASCII letters, digits and underscores, made from the file's name."""
    plain = unicodedata.normalize("NFKD", path.stem).encode("ascii", "ignore").decode()
    words = "".join(letter if letter.isalnum() else " " for letter in plain).split()
    name = "_".join(words)[:60]
    if not name or len(plain) < 0.5 * len(path.stem):
        name = f"{name}_{hashlib.sha256(path.stem.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}".strip("_")
    return name if name[0].isalpha() else f"a_{name}"


def facts_of(path: Path) -> FileFacts:
    """What stands beside a file about it; raises ConfigError when that cannot be understood."""
    beside = path.with_name(path.stem + ".asset.json")
    if not beside.is_file():
        return FileFacts()
    known = [field.name for field in fields(FileFacts)]
    try:
        values = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{beside} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{beside} must hold an object with fields of: {', '.join(known)}")
    for key in values:
        if key not in known:
            raise unknown(f"field of {beside.name}", key, known)
    try:
        return FileFacts(**values)
    except TypeError as error:
        raise ConfigError(f"{beside}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class FileJob:
    """One file to make an asset of, as a batch takes it; `facts` are read from beside the file when not given."""

    path: Path
    facts: FileFacts | None = None

    @property
    def name(self) -> str:
        """Made from the file's name."""
        return asset_name(self.path)

    @property
    def category(self) -> str:
        """As given, or as the file's name tells, or "object"."""
        given = (self.facts or facts_of(self.path)).category
        return given or scale.guess_category(self.path.stem) or "object"

    def identity(self) -> Mapping[str, object]:
        """The content of the file, and of the meshes that it may refer to, and what is known about it."""
        described = self.path.suffix.lower() in _DESCRIPTIONS
        contents = [self.path, *(sorted(_below(self.path)) if described else ())]
        try:
            digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in contents]
        except (OSError, ValueError) as error:
            raise AssetError(f"read: no file at {str(self.path)[:200]!r}: {error}") from error
        return {"digests": digests, "facts": asdict(self.facts or facts_of(self.path))}

    def source(self) -> Source:
        """What the file holds; see `from_file`."""
        return from_file(self.path, self.facts)


def from_file(path: Path, facts: FileFacts | None = None) -> Source:
    """An unoptimised source in metres, Z up, front +X, resting on z = 0 over its origin; how its size was found is recorded.

    Args:
        path: the file.
        facts: what is known about it; read from beside the file when not given.

    Raises:
        AssetError: it has no licence, cannot be read, or has no plausible size.
        ConfigError: what is known about it makes no sense.
    """
    if path.suffix.lower() not in READERS:
        raise AssetError(f"read: {path.name} is of an unknown format; available: {', '.join(READERS)}")
    facts = facts_of(path) if facts is None else facts
    if not facts.licence.strip():
        raise AssetError(f"licence: none given for {path.name}; name its licence, or 'unknown' to have the asset flagged")
    reading = READERS[path.suffix.lower()](path)
    _refuse_numbers(reading, path)
    category = facts.category or scale.guess_category(path.stem)
    low, high = _bounds(reading.parts)
    size = scale.resolve(float((high - low).max()), category, unit=facts.unit, size_m=facts.size_m, declared=reading.unit)
    warnings = list(reading.warnings)
    if facts.licence == "unknown":
        warnings.append("licence unknown: ask its author before passing it on")
    turn = _upright(facts, reading, warnings)
    parts, joints = _sized(reading, size.factor)
    parts = _on_the_plane(parts, joints, turn)
    if facts.bolted and not any(joint.parent == "" for joint in joints):
        root = _roots(parts, joints)[0]
        joints = (Joint(name="mount", kind=JointKind.FIXED, parent="", child=root), *joints)
    substance = material(facts.material or _DEFAULT_MATERIAL).name
    given = sum(part.mass or 0.0 for part in parts)
    parts = tuple(
        replace(
            part,
            material=substance,
            shell_thickness=facts.shell_thickness_m,
            mass=_share(part, parts, facts.mass_kg, given),
        )
        for part in parts
    )
    parameters: dict[str, float | str] = {
        "scale": size.factor,
        "scale_source": str(size.source),
        "scale_note": size.note,
        "warnings": "; ".join(warnings),
        "material_source": "user" if facts.material else "default",
        **reading.parameters,
    }
    return Source(
        name=asset_name(path),
        category=category or "object",
        parts=parts,
        joints=joints,
        licence=facts.licence,
        origin=f"file {path.name!r}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}",
        parameters=parameters,
    )


def _refuse_numbers(reading: Reading, path: Path) -> None:
    for part in reading.parts:
        bad = int((~np.isfinite(part.mesh.vertices)).any(axis=1).sum())
        if bad:
            raise AssetError(f"read: {bad} of {len(part.mesh.vertices)} vertices of {path.name} are NaN or infinite")
        if len(part.mesh.faces) and (part.mesh.faces.min() < 0 or part.mesh.faces.max() >= len(part.mesh.vertices)):
            raise AssetError(f"read: face indices of {path.name} reach outside 0..{len(part.mesh.vertices) - 1}")


def _bounds(parts: tuple[Part, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = [rotate(part.pose.quaternion, part.mesh.vertices[np.unique(part.mesh.faces)]) + part.pose.position for part in parts]
    return np.min([p.min(axis=0) for p in points], axis=0), np.max([p.max(axis=0) for p in points], axis=0)


def _upright(facts: FileFacts, reading: Reading, warnings: list[str]) -> NDArray[np.float64]:
    """The rotation from the file's axes to ours."""
    up = facts.up or reading.up
    if not up:
        up = "z"
        if len(reading.parts) == 1 and not stands(reading.parts[0].mesh):
            standing = [name for name, turn in _UNITS_OF_UP.items() if stands(_turned(reading.parts[0].mesh, turn))]
            if standing:
                up = standing[0]
                warnings.append(f"it does not stand with z up: {up} was taken as up")
    if facts.front:
        z, x = (_UNITS_OF_UP[axis][2] for axis in (up, facts.front))
        if abs(z @ x) > 0.5:
            raise ConfigError(f"front {facts.front!r} lies along the axis that points up, {up!r}; name a perpendicular one")
        return np.stack([x, np.cross(z, x), z])
    return _UNITS_OF_UP[up]


def stands(mesh: Mesh) -> bool:
    """Whether a mesh, taken as its convex hull, rests on its lowest points without tipping over."""
    hull = Solid.hull_points(mesh.vertices)
    if hull.is_empty() or hull.volume() <= 0.0:
        return True
    surface = to_mesh(hull)
    corners = surface.vertices[surface.faces]
    volumes = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    center = (volumes @ corners.sum(axis=1)) / (4 * volumes.sum())
    low, high = surface.vertices[:, 2].min(), surface.vertices[:, 2].max()
    feet = surface.vertices[surface.vertices[:, 2] < low + 0.01 * (high - low)][:, :2]
    # Inside the hull of the feet: no direction from the centre has all feet on one side.
    angles = np.sort(np.arctan2(*(feet - center[:2]).T[::-1]))
    gaps = np.diff(np.concatenate([angles, angles[:1] + 2 * np.pi]))
    return len(feet) >= 3 and bool(gaps.max() < np.pi)


def _turned(mesh: Mesh, turn: NDArray[np.float64]) -> Mesh:
    return Mesh(vertices=mesh.vertices @ turn.T, faces=mesh.faces)


def _sized(reading: Reading, factor: float) -> tuple[tuple[Part, ...], tuple[Joint, ...]]:
    """Everything that is a length times `factor`."""

    def longer(values: tuple[float, float, float]) -> tuple[float, float, float]:
        return (values[0] * factor, values[1] * factor, values[2] * factor)

    parts = tuple(
        replace(
            part,
            mesh=Mesh(vertices=part.mesh.vertices * factor, faces=part.mesh.faces),
            pose=replace(part.pose, position=longer(part.pose.position)),
        )
        for part in reading.parts
    )
    joints = tuple(
        replace(joint, anchor=longer(joint.anchor), lower=joint.lower * factor, upper=joint.upper * factor)
        if joint.kind is JointKind.PRISMATIC
        else replace(joint, anchor=longer(joint.anchor))
        for joint in reading.joints
    )
    return parts, joints


def _roots(parts: tuple[Part, ...], joints: tuple[Joint, ...]) -> list[str]:
    carried = {joint.child for joint in joints if joint.parent}
    return [part.name for part in parts if part.name not in carried]


def _on_the_plane(parts: tuple[Part, ...], joints: tuple[Joint, ...], turn: NDArray[np.float64]) -> tuple[Part, ...]:
    """The parts turned by `turn`, over the origin, the root's lowest point on z = 0 and its pose taken into its mesh."""
    roots = _roots(parts, joints)
    if len(roots) != 1:
        raise AssetError(f"read: {len(roots)} bodies hang on nothing ({', '.join(roots)}); an asset has one root")
    if any(joint.child == roots[0] and joint.kind is not JointKind.FIXED for joint in joints):
        raise AssetError(f"read: body {roots[0]!r} moves against the world; give it a base body that stays, and hang it on that")
    stood = Pose(quaternion=quaternion_of(turn))
    parts = tuple(replace(part, pose=compose(stood, part.pose)) for part in parts)
    low, high = _bounds(parts)
    base, _ = _bounds(tuple(part for part in parts if part.name == roots[0]))
    x, y, z = (float(value) for value in (-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -base[2]))
    result = []
    for part in parts:
        px, py, pz = part.pose.position
        pose = replace(part.pose, position=(px + x, py + y, pz + z))
        if part.name == roots[0]:
            vertices = rotate(pose.quaternion, part.mesh.vertices) + pose.position
            part, pose = replace(part, mesh=Mesh(vertices=vertices, faces=part.mesh.faces)), Pose()
        result.append(replace(part, pose=pose))
    return tuple(result)


def _share(part: Part, parts: tuple[Part, ...], whole: float, given: float) -> float | None:
    """The mass of a part [kg]: its share of what the user gave, else what the file gave."""
    if not whole:
        return part.mass
    if given and all(other.mass for other in parts):
        return whole * (part.mass or 0.0) / given
    sizes = [float(np.prod(np.ptp(other.mesh.vertices, axis=0))) for other in parts]
    return whole * sizes[parts.index(part)] / sum(sizes)
