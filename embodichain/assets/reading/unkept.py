"""Rows for the looks and animations in mesh files that an asset cannot represent, so that nothing is lost silently."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from embodichain.assets.families.parts import Kept, Preservation

_PICTURE = re.compile(r"^\s*(map_\w+|bump|disp|decal|refl|norm)\s+(.+?)\s*$", re.IGNORECASE)
OPTIONS = re.compile(r"^(?:-[A-Za-z]\w*\s+(?:(?:on|off|[-+\d.eE]+)\s+)*)+")
"""Options that may precede the name of an image in a material of an OBJ file."""
_SEEN = {"KHR_mesh_quantization", "EXT_texture_webp"}
"""Extensions of glTF that do not affect what is kept."""
_GLTF = {
    "animations": "an asset moves by its joints",
    "skins": "an asset is rigid: it is as its file shows it at rest",
    "cameras": "a scene has its own",
}


def unkept(path: Path, read: Sequence[Path]) -> Iterator[Kept]:
    """Rows for a mesh file and the material files that were read for it."""
    for file in dict.fromkeys(read):
        if file.suffix.lower() == ".mtl":
            yield from _of_materials(file)
    if path.suffix.lower() in (".glb", ".gltf"):
        yield from _of_gltf(path.name, _content(path))


def _dropped(of: str, what: str, stated: str | float, reason: str) -> Kept:
    return Kept(of=of, what=what, stated=stated, fate=Preservation.DROPPED, reason=reason)


def _of_materials(file: Path) -> Iterator[Kept]:
    name = file.name
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.strip().startswith("newmtl"):
            name = line.strip().removeprefix("newmtl").strip() or file.name
        found = _PICTURE.match(line)
        if found is None:
            continue
        kind, picture = found.groups()
        options = OPTIONS.match(picture)
        if kind.lower() != "map_kd":
            yield _dropped(name, kind, picture[:200], "of an OBJ's pictures the colour alone is kept")
        elif options is not None:
            yield _dropped(name, f"{kind} options", options.group().strip(), "a picture lies as its coordinates have it")


def _content(path: Path) -> Mapping[str, Any]:
    """The JSON part of a glTF file; empty if it is not valid JSON, which other readers refuse."""
    try:
        if path.suffix.lower() == ".gltf":
            return json.loads(path.read_text(encoding="utf-8"))
        with path.open("rb") as file:
            head = file.read(20)
            return json.loads(file.read(struct.unpack("<I", head[12:16])[0]))
    except (ValueError, struct.error):
        return {}


def _of_gltf(of: str, content: Mapping[str, Any]) -> Iterator[Kept]:
    for what, reason in _GLTF.items():
        if content.get(what):
            yield _dropped(of, what, float(len(content[what])), reason)
    primitives = [entry for mesh in content.get("meshes", ()) for entry in mesh.get("primitives", ())]
    targets = sum(len(entry.get("targets", ())) for entry in primitives)
    if targets:
        yield _dropped(of, "morph targets", float(targets), "an asset is rigid: it is as its file shows it at rest")
    for name in sorted({*content.get("extensionsUsed", ())} - _SEEN):
        yield _dropped(of, name, "used", "an extension that an asset has no word for")
    for number, entry in enumerate(content.get("materials", ())):
        name = str(entry.get("name") or f"material {number}")
        if entry.get("alphaMode", "OPAQUE") != "OPAQUE":
            yield _dropped(name, "alpha mode", str(entry["alphaMode"]), "what is seen through is not told apart by picture")
        if "occlusionTexture" in entry and entry["occlusionTexture"] != entry.get("pbrMetallicRoughness", {}).get(
            "metallicRoughnessTexture"
        ):
            yield _dropped(name, "occlusion picture", "given", "shadows are the scene's")
    for number, entry in enumerate(content.get("nodes", ())):
        if entry.get("extras"):
            name = str(entry.get("name") or f"node {number}")
            yield _dropped(name, "extras", json.dumps(entry["extras"])[:200], "what a program writes for itself")
