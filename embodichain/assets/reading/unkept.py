"""Rows for the looks and animations in mesh files that an asset cannot represent, so that nothing is lost silently."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from embodichain.assets.families.parts import Kept, Preservation
from embodichain.assets.reading import plain_gltf
from embodichain.assets.reading.material_lines import picture_line
from embodichain.errors import AssetError

_SEEN = {"KHR_mesh_quantization", "EXT_texture_webp", plain_gltf.TRANSFORM}
"""Extensions of glTF of which nothing is lost."""
_PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
"""Extensions without which a file's meshes cannot be read."""
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga", ".tif", ".tiff", ".gif", ".ktx2")
_GLTF = {
    "animations": "an asset moves by its joints",
    "skins": "an asset is rigid: it is as its file shows it at rest",
    "cameras": "a scene has its own",
}


_LOOKS_OF_3MF = {"materials": b"basematerials", "colours": b"colorgroup", "pictures": b"texture2d"}
"""Elements of a 3MF model that say how it looks."""


def unkept(path: Path, read: Sequence[Path]) -> Iterator[Kept]:
    """Rows for a mesh file and the material files that were read for it."""
    for file in dict.fromkeys(read):
        if file.suffix.lower() == ".mtl":
            yield from _of_materials(file)
        elif file.suffix.lower() in _PICTURES:
            yield from _of_picture(file.name, file.read_bytes())
    if path.suffix.lower() == ".3mf":
        yield from _of_3mf(path)
    if path.suffix.lower() in (".glb", ".gltf"):
        yield from _of_gltf(path.name, content := content_of(path))
        for name, data in _embedded(path, content):
            yield from _of_picture(name, data)


def numbers_of_gltf(path: Path) -> int:
    """The length of the longest list of indices or points that a glTF file promises, 0 for other files.

    Raises AssetError for a file whose meshes are compressed, of which readers would make nothing, or a point.
    """
    if path.suffix.lower() not in (".glb", ".gltf"):
        return 0
    content = content_of(path)
    try:
        if packed := sorted({*content.get("extensionsRequired", ())} & {*_PACKED}):
            raise AssetError(
                f"read: the meshes of {path.name} are compressed ({packed[0]}): unpack them, by gltf-transform for example"
            )
        return max((int(entry["count"]) for entry in content.get("accessors", ())), default=0)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0  # who reads it says so


def _embedded(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The pictures within a binary glTF file, by name."""
    if path.suffix.lower() != ".glb" or not content.get("images"):
        return
    data = path.read_bytes()
    start = 28 + int.from_bytes(data[12:16], "little")  # behind the headers of the file and of its two chunks
    for number, image in enumerate(content["images"]):
        try:
            if "bufferView" in image:
                view = content["bufferViews"][image["bufferView"]]
                at = start + view.get("byteOffset", 0)
                yield str(image.get("name") or f"picture {number}"), data[at : at + view["byteLength"]]
        except (AttributeError, LookupError, TypeError):
            yield f"picture {number}", b""


def _of_picture(name: str, data: bytes) -> Iterator[Kept]:
    """A row for a picture that nobody can decode: its material would lose it in silence."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except Exception as error:  # decoders of pictures raise errors of every kind
        yield _dropped(name, "picture", f"{len(data)} bytes", f"it cannot be decoded: {str(error)[:160] or type(error).__name__}")


def _dropped(of: str, what: str, stated: str | float, reason: str) -> Kept:
    return Kept(of=of, what=what, stated=stated, fate=Preservation.DROPPED, reason=reason)


def _of_materials(file: Path) -> Iterator[Kept]:
    name = file.name
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.strip().startswith("newmtl"):
            name = line.strip().removeprefix("newmtl").strip() or file.name
        if (picture := picture_line(line)) is None:
            continue
        if picture.kind.lower() != "map_kd":
            yield _dropped(name, picture.kind, picture.told[:200], "of an OBJ's pictures the colour alone is kept")
        elif picture.options:
            yield _dropped(name, f"{picture.kind} options", picture.options, "a picture lies as its coordinates have it")


def _of_3mf(path: Path) -> Iterator[Kept]:
    """Rows for the colours and pictures of a 3MF file, which the library that reads its solids does not read."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.lower().endswith(".model"):
                continue
            told = archive.read(name)
            for what, word in _LOOKS_OF_3MF.items():
                if count := len(re.findall(rb"<(?:\w+:)?" + word + rb"[\s>]", told)):
                    yield _dropped(path.name, what, float(count), "of a 3MF file the solids are read, not their looks")


def content_of(path: Path) -> Mapping[str, Any]:
    """The JSON part of a glTF file; empty if it is not valid JSON, which other readers refuse."""
    try:
        if path.suffix.lower() == ".gltf":
            return json.loads(path.read_text(encoding="utf-8"))
        with path.open("rb") as file:
            head = file.read(20)
            return json.loads(file.read(struct.unpack("<I", head[12:16])[0]))
    except (ValueError, struct.error):
        return {}


def packed_of(path: Path) -> bytes:
    """The binary part of a binary glTF file; empty if it has none."""
    if path.suffix.lower() != ".glb":
        return b""
    with path.open("rb") as file:
        head = file.read(20)
        if len(head) < 20 or head[:4] != b"glTF":
            return b""
        file.seek(20 + struct.unpack("<I", head[12:16])[0])
        inner = file.read(8)
        return file.read(struct.unpack("<I", inner[:4])[0]) if inner[4:] == b"BIN\0" else b""


def _of_gltf(of: str, content: Mapping[str, Any]) -> Iterator[Kept]:
    if len(content.get("scenes", ())) > 1:
        yield _dropped(of, "scenes", float(len(content["scenes"])), "an asset is what the file's main scene shows")
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
        lays = {use: plain_gltf.lay_of(picture) for use, picture in plain_gltf.pictures_of(entry).items()}
        for use, lay in lays.items():
            if lay != next(iter(lays.values())):
                reason = "the pictures of a material lie by one set of texture coordinates"
                yield _dropped(name, f"lay of {use}", str(lay), reason)
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
