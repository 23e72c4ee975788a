"""Finds the files to which a file refers, directly and indirectly: they belong to it, and their content is part of its identity."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from embodichain.assets.reading.material_lines import picture_lines, without_options
from embodichain.assets.reading.sdf_frames import files_of
from embodichain.assets.reading.urdf import mesh_files_of
from embodichain.assets.reading.xml_reading import parse
from embodichain.errors import AssetError

_LIBRARY = re.compile(rb"(?m)^[ \t]*mtllib[ \t]+(\S[^\r\n]*)")
_COLLADA_IMAGE = re.compile(rb"<init_from>(?:\s*<ref>)?([^<]+)<")
_MOST_BYTES = 256 << 20
"""Files above this size [bytes] are searched for references only at their beginning."""


FAULTS = (AssetError, OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError)
"""Errors that the content of a file may cause in its readers. Among RuntimeErrors are symbolic links to themselves, structures
nested too deeply for Python, and pxr's own errors."""


def references(path: Path) -> list[Path]:
    """All existing files to which `path` refers, directly or indirectly, sorted, without itself; none if it cannot be read."""
    found: dict[Path, None] = {}
    try:
        own = path.resolve()
    except FAULTS:
        return []
    waiting = [own]
    while waiting:
        for other in _direct(waiting.pop()):
            if other not in found and other != own:
                found[other] = None
                waiting.append(other)
    return sorted(found)


def _direct(path: Path) -> list[Path]:
    try:
        return list(dict.fromkeys(_named(path)))
    except FAULTS:
        return []  # reading the file will report the error


def _named(path: Path) -> Iterator[Path]:
    kind = path.suffix.lower()
    if kind == ".urdf":
        yield from mesh_files_of(path)
    elif kind == ".sdf":
        yield from files_of(path)
    elif kind in (".xml", ".mjcf"):
        yield from _of_mjcf(path)
    elif kind == ".obj":
        yield from _found(path, (name for line in _LIBRARY.findall(_text(path)) for name in (line, *line.split())))
    elif kind == ".mtl":
        lines = picture_lines(_text(path).decode("utf-8", "replace"))
        yield from _found(path, (without_options(line.told).encode() for line in lines))
    elif kind == ".gltf":
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = [*content.get("buffers", ()), *content.get("images", ())]
        yield from _found(path, (unquote(str(entry["uri"])).encode() for entry in entries if "uri" in entry))
    elif kind == ".dae":
        yield from _found(path, _COLLADA_IMAGE.findall(_text(path)))
    elif kind in (".usd", ".usda", ".usdc"):
        from embodichain.assets.usd.foreign import layers_of  # imports pxr

        yield from layers_of(path)


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _found(path: Path, names: Iterator[bytes] | list[bytes]) -> Iterator[Path]:
    """The files that names refer to, beside a file or below its folder: what lies elsewhere is not read for it."""
    folder = path.parent.resolve()
    for name in names:
        relative = name.decode("utf-8", "replace").strip().removeprefix("file://").replace("\\", "/")
        target = (folder / relative).resolve()
        if target.is_relative_to(folder) and target.is_file():
            yield target


def _of_mjcf(path: Path) -> Iterator[Path]:
    root = parse(path)
    folders = {"mesh": path.parent, "texture": path.parent, "hfield": path.parent, "include": path.parent}
    for compiler in root.iter("compiler"):
        base = compiler.get("assetdir")
        for tag, option in (("mesh", "meshdir"), ("texture", "texturedir"), ("hfield", "meshdir")):
            folder = compiler.get(option) or base
            if folder:
                folders[tag] = path.parent / folder
    for element in root.iter():
        for option in ("file", "fileup", "filedown", "fileleft", "fileright", "filefront", "fileback"):
            name = element.get(option) if element.tag in (*folders, "model", "skin") else None
            target = (folders.get(element.tag, path.parent) / name).resolve() if name else None
            if target is not None and target.is_file():
                yield target
