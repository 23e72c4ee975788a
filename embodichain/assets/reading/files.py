"""Sources from files: read, scaled to metres, turned Z up, placed on the plane, with a licence; anything else is refused.

The user's facts about a file are given in code or in `<stem>.asset.json` beside it, with the fields of `FileFacts`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.families.parts import Kept, Part, Preservation, Source
from embodichain.assets.families.tables import category_table, material
from embodichain.assets.reading import licences, placing, scale
from embodichain.assets.reading.folder import READERS, only, things
from embodichain.assets.reading.mesh_files import FORMATS, Reading, read_mesh, read_objects
from embodichain.assets.reading.naming import asset_name, named
from embodichain.assets.reading.references import FAULTS, references
from embodichain.errors import AssetError, ConfigError, unknown
from embodichain.types import Joint, JointKind

_DEFAULT_MATERIAL = "abs"
_ROUNDED = 0.02
"""Largest step between 32-bit coordinates, as a share of the longest side, at which points still describe the shape."""
_MOST_SINGLE = 1e30
"""Files with larger numbers than this are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """The user's facts about a file; "" and 0 state nothing.

    `licence` is an SPDX expression or "unknown", which is flagged. `size_m` is the longest side; `up` and `front` are axes of the
    file; `mass_kg` is the total mass; `shell_thickness_m` makes closed surfaces hollow; `wall_m` gives open surfaces a wall;
    `bolted` fixes the root to its place; `keep_pose` keeps the pose of an object that is not stable. `materials` are those of
    parts, by name.
    """

    licence: str = ""
    category: str = ""
    unit: str = ""
    size_m: float = 0.0
    up: str = ""
    front: str = ""
    material: str = ""
    materials: Mapping[str, str] = field(default_factory=dict)
    mass_kg: float = 0.0
    shell_thickness_m: float = 0.0
    wall_m: float = 0.0
    bolted: bool = False
    keep_pose: bool = False
    labels: tuple[str, ...] = ()
    author: str = ""
    title: str = ""
    url: str = ""
    attribution: str = ""

    def __post_init__(self) -> None:
        for name in ("up", "front"):
            if getattr(self, name) and getattr(self, name) not in placing.TURNS:
                raise unknown(f"{name} axis", getattr(self, name), placing.TURNS)
        if self.up and self.front and self.up[-1] == self.front[-1]:
            raise ConfigError(f"up {self.up!r} and front {self.front!r} lie on one axis; they must be perpendicular")
        for name in ("size_m", "mass_kg", "shell_thickness_m", "wall_m"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a finite number and not negative, got {getattr(self, name)}")
        if self.licence.strip():
            object.__setattr__(self, "licence", licences.canonical(self.licence))


_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("size_m", "mass_kg", "shell_thickness_m", "wall_m"), float),
    **dict.fromkeys(("bolted", "keep_pose"), bool),
    "labels": list,
    "materials": dict,
}
"""What JSON has for the fields of `FileFacts` that hold no word."""


def _fits(key: str, value: object) -> bool:
    """Whether a value of JSON is of the kind that a field of `FileFacts` holds."""
    kind = _KINDS.get(key, str)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    words = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, kind) and all(isinstance(word, str) for word in words)


def facts_of(path: Path) -> FileFacts:
    """The facts in the file beside `path`; raises ConfigError when they are not valid."""
    beside = path.with_name(path.stem + ".asset.json")
    if not beside.is_file():
        return FileFacts()
    known = [entry.name for entry in fields(FileFacts)]
    try:
        values = json.loads(beside.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{beside} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{beside} must hold an object with fields of: {', '.join(known)}")
    for key in values:
        if key not in known:
            raise unknown(f"field of {beside.name}", key, known)
    for key, value in values.items():
        if not _fits(key, value):
            wanted = {float: "a number", bool: "true or false", list: "a list of words", dict: "words by part"}
            expected = wanted.get(_KINDS.get(key, str), "a word")
            raise ConfigError(f"{beside}: {key} is {value!r:.80}, expected {expected}")
    if "labels" in values:
        values["labels"] = tuple(values["labels"])
    return FileFacts(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileJob:
    """One object of a file as a job of a batch; `facts` are read from the file beside it unless they are given.

    `item` names the object if the file holds several.
    """

    path: Path
    facts: FileFacts | None = None
    item: str = ""

    @property
    def name(self) -> str:
        """A name made from those of the file and the object."""
        return asset_name(self.path, self.item)

    @property
    def category(self) -> str:
        """The given category, or "object". A category in the file's name is used only if the size fits, which is not known yet."""
        return (self.facts or facts_of(self.path)).category or "object"

    def identity(self) -> Mapping[str, object]:
        """Hash of the file and all files that it refers to, directly or indirectly, and the facts about it."""
        try:
            digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (self.path, *references(self.path))]
        except (OSError, ValueError, RuntimeError) as error:  # a symbolic link to itself is a RuntimeError
            raise AssetError(f"read: no file at {str(self.path)[:200]!r}: {error}") from error
        return {"digests": digests, "facts": asdict(self.facts or facts_of(self.path)), "item": self.item}

    def source(self) -> Source:
        """The object in the file; see `from_file`."""
        return from_file(self.path, self.facts, self.item)


def from_file(path: Path, facts: FileFacts | None = None, item: str = "") -> Source:
    """An unoptimised source in metres, Z up, front +X, resting on z = 0 above its origin; records how its size was determined.

    Args:
        path: the file.
        facts: facts about the file; read from beside it when not given.
        item: name of the object, if the file holds several.

    Raises:
        AssetError: the file has no licence, cannot be read, or has no plausible size.
        ConfigError: the facts about it are not valid.
    """
    kind = path.suffix.lower()
    if kind not in READERS:
        raise AssetError(f"read: {path.name} is of an unknown format; available: {', '.join(READERS)}")
    facts = facts_of(path) if facts is None else facts
    if not facts.licence.strip():
        raise AssetError(f"licence: none given for {path.name}; name its licence, or 'unknown' to have the asset flagged")
    try:
        reading = read_objects(path) if item and kind in FORMATS else READERS[kind](path)
        reading = named(placing.grounded(_chosen(reading, item, path)))
    except AssetError:
        raise
    except FAULTS as error:
        raise AssetError(f"read: {path.name} cannot be read: {type(error).__name__}: {error}") from error
    _refuse_numbers(reading, path)
    category = facts.category or scale.guess_category(item) or scale.guess_category(path.stem)
    low, high = placing.bounds(reading.parts)
    longest, defined = float((high - low).max()), bool(reading.unit) and kind not in FORMATS
    size = scale.resolve(
        longest,
        facts.category if defined else category,
        unit=facts.unit,
        size_m=facts.size_m,
        declared=reading.unit,
        binding=defined,
        guessed=not facts.category,
    )
    warnings = list(reading.warnings)
    rows = list(reading.fidelity)
    if reading.unit and size.factor != reading.unit:
        reason = f"{size.source}: {size.note}".rstrip(": ")
        rows.append(
            Kept(
                of=path.name,
                what="metres per unit",
                stated=reading.unit,
                written=size.factor,
                fate=Preservation.CHANGED,
                reason=reason,
            )
        )
    if facts.licence == "unknown":
        warnings.append("licence unknown: ask its author before passing it on")
    turn = placing.upright(facts.up or ("z" if facts.keep_pose and not reading.up else ""), facts.front, reading, warnings)
    reading = placing.sized(reading, size.factor)
    (parts, shift), joints = placing.on_the_plane(reading.parts, reading.joints, turn), reading.joints
    if facts.bolted and not any(joint.parent == "" for joint in joints):
        root = placing.roots(parts, joints)[0]
        joints = (Joint(name="mount", kind=JointKind.FIXED, parent="", child=root), *joints)
    if not facts.category and not scale.fits(longest * size.factor, category):
        warnings.append(f"its name says {category}, its size of {longest * size.factor:.3g} m does not: the word was not believed")
        category = ""
    kinds = _materials(facts, category, parts)
    given = sum(part.mass or 0.0 for part in parts)
    wall = facts.wall_m or _wall(category)
    parts = tuple(
        replace(
            part,
            material=kinds[part.name],
            shell_thickness=facts.shell_thickness_m,
            mass=_share(part, parts, facts.mass_kg, given),
            wall=wall,
        )
        for part in parts
    )
    if facts.mass_kg and given:
        rows.append(
            Kept(
                of="the whole",
                what="mass",
                stated=given,
                written=facts.mass_kg,
                fate=Preservation.CHANGED,
                reason="its user says so",
            )
        )
    source = "user" if facts.material else "category" if "material" in category_table().get(category, {}) else "default"
    parameters: dict[str, float | str] = {
        "scale": size.factor,
        "scale_source": str(size.source),
        "scale_note": size.note,
        "warnings": "; ".join(warnings),
        "material_source": source,
        **reading.parameters,
    }
    if item:
        parameters |= {"scene": path.name, **{f"scene_{axis}": -value for axis, value in zip("xyz", shift, strict=True)}}
    credit = {name: value for name in ("author", "title", "url", "attribution") if (value := getattr(facts, name))}
    thing = f" thing {item!r}" if item else ""
    return Source(
        name=asset_name(path, item),
        category=category or "object",
        parts=parts,
        joints=joints,
        licence=facts.licence,
        origin=f"file {path.name!r}{thing}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}",
        parameters=parameters,
        foreign=True,
        keep_pose=facts.keep_pose,
        apart=reading.apart,
        fidelity=tuple(rows),
        titles=reading.titles,
        attribution=credit,
        labels=facts.labels,
    )


def _chosen(reading: Reading, item: str, path: Path) -> Reading:
    """The requested object of a file."""
    found = things(reading)
    if not item:
        if len(found) > 1 and path.suffix.lower() in FORMATS:
            return read_mesh(path)
        if len(found) > 1:
            raise AssetError(
                f"read: {path} holds {len(found)} things ({', '.join(found)}); name one as {path.name}#{next(iter(found))}"
            )
        return reading
    if item not in found:
        raise AssetError(f"read: {path.name} holds no {item!r}; available: {', '.join(found)}")
    return only(reading, found[item])


def _refuse_numbers(reading: Reading, path: Path) -> None:
    for part in reading.parts:
        _refuse_rounded(part.mesh.vertices, path)
        bad = int((~np.isfinite(part.mesh.vertices)).any(axis=1).sum())
        if bad:
            raise AssetError(f"read: {bad} of {len(part.mesh.vertices)} vertices of {path.name} are NaN or infinite")
        if len(part.mesh.faces) and (part.mesh.faces.min() < 0 or part.mesh.faces.max() >= len(part.mesh.vertices)):
            raise AssetError(f"read: face indices of {path.name} reach outside 0..{len(part.mesh.vertices) - 1}")


def _refuse_rounded(points: NDArray[np.float64], path: Path) -> None:
    """Raises AssetError for points so far from the origin that the 32-bit numbers of their file cannot represent the shape."""
    if not len(points) or not np.isfinite(points).all():
        return
    far, size = float(np.abs(points).max()), float(np.ptp(points, axis=0).max())
    if far > _MOST_SINGLE or not np.array_equal(points.astype(np.float32), points):
        return
    step = float(np.spacing(np.float32(far)))
    if step > _ROUNDED * size:
        raise AssetError(
            f"read: points of {path.name} lie {far:.3g} units from the origin, where its 32-bit numbers have steps of {step:.2g}, "
            f"{step / max(size, 1e-300):.0%} of its size; move it to the origin before it is exported"
        )


def _materials(facts: FileFacts, category: str, parts: tuple[Part, ...]) -> dict[str, str]:
    """The material of each part: as the user states, as its name says, as usual in its category, otherwise plastic."""
    by_kind = category_table().get(category, {}).get("material", "")
    for name in facts.materials:
        if name not in {part.name for part in parts}:
            raise unknown("part", name, [part.name for part in parts])
    chosen = {}
    for part in parts:
        told = facts.materials.get(part.name) or facts.material or scale.guess_material(part.name) or str(by_kind)
        chosen[part.name] = material(told or _DEFAULT_MATERIAL).name
    return chosen


def _wall(category: str) -> float:
    """Wall thickness of open objects of a category [m]; 0 when the table has none."""
    wall = category_table().get(category, {}).get("wall_m", 0.0)
    return float(wall) if isinstance(wall, (int, float)) else 0.0


def _share(part: Part, parts: tuple[Part, ...], whole: float, given: float) -> float | None:
    """The mass of a part [kg]: its share of the user's total mass, otherwise the file's value."""
    if not whole:
        return part.mass
    if given and all(other.mass for other in parts):
        return whole * (part.mass or 0.0) / given
    # By the boxes around them; of parts that are all flat, such as a sheet with a wall to come, by those boxes' diagonals.
    spans = [np.ptp(other.mesh.vertices, axis=0) if len(other.mesh.faces) else np.zeros(3) for other in parts]
    sizes = [float(np.prod(span)) for span in spans]
    sizes = sizes if sum(sizes) > 0.0 else [float(np.linalg.norm(span)) for span in spans]
    return max(whole * sizes[parts.index(part)] / sum(sizes), 1e-6)
