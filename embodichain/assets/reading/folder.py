"""The contents of a path: the files that hold objects, the objects in each, and why every other file is left out."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from embodichain.assets.reading.mesh_files import FORMATS, SCENES, Reading, read_mesh, read_objects
from embodichain.assets.reading.mjcf_source import read_mjcf
from embodichain.assets.reading.references import FAULTS, references
from embodichain.assets.reading.sdf import read_sdf
from embodichain.assets.reading.urdf import read_urdf
from embodichain.assets.reading.usd_source import read_usd
from embodichain.assets.reading.xml_reading import parse
from embodichain.errors import AssetError

READERS = {
    **dict.fromkeys(FORMATS, read_mesh),
    ".usd": read_usd,
    ".usda": read_usd,
    ".usdc": read_usd,
    ".usdz": read_usd,
    ".urdf": read_urdf,
    ".sdf": read_sdf,
    ".xml": read_mjcf,
    ".mjcf": read_mjcf,
}
_LARGE_BYTES = 64 << 20
"""Mesh files above this size [bytes] count as one object, because looking for several takes as long as reading the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The contents of a path: files to make assets of, in order, and all other files with the reason why not."""

    files: tuple[Path, ...]
    skipped: Mapping[Path, str]


def survey(path: Path) -> Survey:
    """Examines a file or a folder. A file to which another one refers belongs to that one and makes no asset of its own.

    Raises:
        AssetError: the path does not exist, or nothing in it is readable.
    """
    if not path.is_dir():
        if path.suffix.lower() not in READERS:
            raise AssetError(f"read: {path.name} is of an unknown format; available: {', '.join(READERS)}")
        return Survey(files=(path,), skipped={})
    everything, skipped = _files_below(path)
    candidates = []
    for file in everything:
        reason = _no_asset(file, path)
        if reason:
            skipped[file] = reason
        else:
            candidates.append(file)
    belongs: dict[Path, Path] = {}
    for file in candidates:
        for other in references(file):
            belongs.setdefault(other, file)
    found = []
    for file in candidates:
        owner = belongs.get(file.resolve())
        if owner is None or file.resolve() in {other.resolve() for other in _owners(owner, belongs)}:
            found.append(file)
        else:
            skipped[file] = f"part of {owner.relative_to(path)}"
    for file in everything:
        owner = belongs.get(file.resolve())
        if owner is not None and file in skipped and not skipped[file].startswith("part of"):
            skipped[file] = f"part of {owner.relative_to(path)}"
    if not found:
        raise AssetError(f"read: no readable file below {path}; formats: {', '.join(READERS)}")
    return Survey(files=tuple(found), skipped=skipped)


def _files_below(path: Path) -> tuple[list[Path], dict[Path, str]]:
    """Every file below a folder, in order, and what else there is that can be none, with the reason."""
    found, skipped = list[Path](), dict[Path, str]()

    def unread(error: OSError) -> None:
        skipped[Path(error.filename)] = f"a folder that cannot be read: {error.strerror}"

    for folder, folders, names in os.walk(path, onerror=unread):
        for entry in (Path(folder) / name for name in (*folders, *names)):
            try:
                is_file = entry.is_file()
            except OSError as error:  # in a folder that may be listed and not entered
                skipped[entry] = f"cannot be looked at: {error.strerror}"
                continue
            if is_file:
                found.append(entry)
            elif not entry.exists():
                skipped[entry] = "a link that leads nowhere"
            elif not entry.is_dir():
                skipped[entry] = "no file but a device or a pipe"
            elif entry.is_symlink():
                skipped[entry] = "a link to a folder, which is not followed: name that folder"
    return sorted(found), dict(sorted(skipped.items()))


def _owners(file: Path, belongs: Mapping[Path, Path]) -> list[Path]:
    """The files to which a file belongs, directly and indirectly; two files that refer to each other are both kept."""
    owners: list[Path] = []
    while file.resolve() in belongs and file not in owners:
        owners.append(file)
        file = belongs[file.resolve()]
    return [*owners, file] if file in owners else []


def _no_asset(file: Path, root: Path) -> str:
    """Why a file cannot be an asset; empty when it can."""
    if any(part.startswith(".") for part in file.relative_to(root).parts):
        return "hidden"
    if file.name.endswith(".asset.json"):
        return "says what is known about another file"
    kind = file.suffix.lower()
    if kind not in READERS:
        return f"of the format {kind or 'without ending'}, which holds no asset"
    if kind in (".xml", ".mjcf"):
        try:
            content = parse(file)
        except FAULTS:
            return ""  # kept, because building it will refuse it with the reason
        if content.tag != "mujoco":
            return f"XML of <{content.tag}>, no MJCF"
        return "" if any(inner.tag in ("body", "include") for inner in content.iter()) else "MJCF without a body"
    return ""


def things(reading: Reading) -> dict[str, set[str]]:
    """The bodies of every object in a file by its root's name; objects are not connected by joints."""
    owner = {part.name: part.name for part in reading.parts}

    def root(name: str) -> str:
        while owner[name] != name:
            name = owner[name]
        return name

    for joint in reading.joints:
        if joint.parent and joint.child in owner and joint.parent in owner:
            owner[root(joint.child)] = root(joint.parent)
    found: dict[str, set[str]] = {}
    for part in reading.parts:
        found.setdefault(root(part.name), set()).add(part.name)
    return found


def only(reading: Reading, names: set[str]) -> Reading:
    """The part of a reading about some bodies, and the joints that carry them."""
    return replace(
        reading,
        parts=tuple(part for part in reading.parts if part.name in names),
        joints=tuple(joint for joint in reading.joints if joint.child in names),
        apart=tuple(pair for pair in reading.apart if set(pair) <= names),
    )


def items(path: Path) -> tuple[str, ...]:
    """Names of the objects in a file that holds several; a single empty name if it holds one or cannot be read."""
    if single(path):
        return ("",)
    kind = path.suffix.lower()
    try:
        found = things(read_objects(path) if kind in SCENES else READERS[kind](path))
    except FAULTS:
        return ("",)  # building it will raise the same error and report it
    return tuple(found) if len(found) > 1 else ("",)


def single(path: Path) -> bool:
    """Whether a file counts as one object by its ending, its size or its header, without being read."""
    kind = path.suffix.lower()
    try:
        if kind in SCENES:
            return path.stat().st_size > _LARGE_BYTES or _single(path)
    except FAULTS:
        return True  # building it will raise the same error and report it
    return kind not in (".xml", ".mjcf", ".sdf", ".usd", ".usda", ".usdc", ".usdz")


def _single(path: Path) -> bool:
    """Whether a binary glTF file has at most one node with a mesh, according to its header."""
    if path.suffix.lower() != ".glb":
        return False
    with path.open("rb") as file:
        head = file.read(20)
        if len(head) < 20 or head[:4] != b"glTF":
            return True
        try:
            content = json.loads(file.read(struct.unpack("<I", head[12:16])[0]))
            return sum("mesh" in node for node in content.get("nodes", ())) <= 1
        except (ValueError, TypeError, AttributeError):
            return True
