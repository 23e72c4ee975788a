"""Rewrites a glTF file so that trimesh reads what it means, for it takes whole numbers as they are and one set of coordinates.

In the result, normalised whole numbers are fractions, sparse lists are filled in, fans are triangles, and the first set of texture
coordinates is the one by which the colour's picture lies, transformed as `KHR_texture_transform` says. A file without any of
these is left as it is, to the byte.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import AssetError

TRANSFORM = "KHR_texture_transform"
_TYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_LARGEST = {5120: 127.0, 5121: 255.0, 5122: 32767.0, 5123: 65535.0}
_FLOAT, _INDEX, _TRIANGLES, _FAN = 5126, 5125, 4, 6
_MOST_ITEMS = 24_000_000
_PICTURES = ("baseColorTexture", "metallicRoughnessTexture", "normalTexture", "emissiveTexture", "occlusionTexture")


def rewritten(content: Mapping[str, Any], packed: Callable[[], bytes], fetch: Callable[[str], bytes]) -> bytes | None:
    """The same file as a binary glTF file that trimesh reads rightly; None if it does so already.

    Args:
        content: the file's JSON.
        packed: gives its binary chunk.
        fetch: gives the content of a file beside it.

    Raises:
        AssetError: the JSON promises data that are not there.
    """
    try:
        return _Plain(content, packed, fetch).done()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OSError) as error:
        raise AssetError(f"read: a list of this glTF file cannot be read: {type(error).__name__}: {error}") from error


def lay_of(entry: Mapping[str, Any]) -> tuple[int, tuple[float, ...]]:
    """Which set of texture coordinates a picture lies by, and offset, rotation [rad] and scale, all as its material says."""
    moved = entry.get("extensions", {}).get(TRANSFORM, {})
    (u, v), (x, y) = moved.get("offset", (0.0, 0.0)), moved.get("scale", (1.0, 1.0))
    number = int(moved.get("texCoord", entry.get("texCoord", 0)))
    return number, (float(u), float(v), float(moved.get("rotation", 0.0)), float(x), float(y))


def pictures_of(material: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The pictures of a material by their use, that of the colour first."""
    every = {**material, **material.get("pbrMetallicRoughness", {})}
    return {name: every[name] for name in _PICTURES if name in every}


_PLAIN = (0, (0.0, 0.0, 0.0, 1.0, 1.0))


class _Plain:
    """Rewrites one file; `content` is a copy."""

    def __init__(self, content: Mapping[str, Any], packed: Callable[[], bytes], fetch: Callable[[str], bytes]) -> None:
        self.content: dict[str, Any] = json.loads(json.dumps(content))
        self.packed, self.fetch, self.added = packed, fetch, list[bytes]()
        self.length, self.made = 0, dict[tuple[Any, ...], int]()
        self.read = dict[int, bytes]()

    def done(self) -> bytes | None:
        accessors = self.content.get("accessors", [])
        materials = self.content.get("materials", [])
        changed = False
        for primitive in (entry for mesh in self.content.get("meshes", []) for entry in mesh.get("primitives", [])):
            names = primitive.get("attributes", {})
            for name, number in list(names.items()):
                if not name.startswith(("POSITION", "NORMAL", "TEXCOORD_", "COLOR_")):
                    continue
                if "sparse" in accessors[number] or self._fraction(accessors[number]):
                    names[name], changed = self._whole(number), True
            if "indices" in primitive and "sparse" in accessors[primitive["indices"]]:
                primitive["indices"], changed = self._whole(primitive["indices"]), True
            if primitive.get("mode", _TRIANGLES) == _FAN:
                primitive["indices"], changed = self._fan(primitive, names["POSITION"]), True
                primitive["mode"] = _TRIANGLES
            lay = _PLAIN
            if "material" in primitive:
                lay = next((lay_of(entry) for entry in pictures_of(materials[primitive["material"]]).values()), _PLAIN)
            if lay != _PLAIN and f"TEXCOORD_{lay[0]}" in names:
                names["TEXCOORD_0"], changed = self._moved(names[f"TEXCOORD_{lay[0]}"], lay[1]), True
        return self._packed() if changed else None

    def _whole(self, number: int) -> int:
        return self._new(("whole", number), lambda: self._values(number))

    def _moved(self, number: int, move: tuple[float, ...]) -> int:
        return self._new(("lay", number, move), lambda: _laid(self._values(number), move))

    def _fraction(self, accessor: Mapping[str, Any]) -> bool:
        return bool(accessor.get("normalized")) and accessor["componentType"] in _LARGEST

    def _fan(self, primitive: Mapping[str, Any], points: int) -> int:
        if "indices" in primitive:
            around = self._values(primitive["indices"]).ravel()
        else:
            around = np.arange(self.content["accessors"][points]["count"])
        faces = np.stack([np.full(max(len(around) - 2, 0), around[0]), around[1:-1], around[2:]], axis=1)
        return self._new(("fan", primitive.get("indices"), points), lambda: faces.reshape(-1, 1).astype(np.uint32))

    def _values(self, number: int) -> NDArray[Any]:
        """The items of a list, shape [count, width]: sparse ones filled in, normalised ones as fractions."""
        accessor = self.content["accessors"][number]
        kind, width, count = accessor["componentType"], _WIDTHS[accessor["type"]], int(accessor["count"])
        if count > _MOST_ITEMS:
            raise ValueError(f"it promises {count} items, more than {_MOST_ITEMS}")
        if "bufferView" in accessor:
            values = self._raw(accessor["bufferView"], accessor.get("byteOffset", 0), kind, count, width)
        else:
            values = np.zeros((count, width), _TYPES[kind])
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            where, what, some = sparse["indices"], sparse["values"], int(sparse["count"])
            rows = self._raw(where["bufferView"], where.get("byteOffset", 0), where["componentType"], some, 1).ravel()
            values = values.copy()
            values[rows] = self._raw(what["bufferView"], what.get("byteOffset", 0), kind, some, width)
        if self._fraction(accessor):
            values = np.maximum(values.astype(np.float32) / np.float32(_LARGEST[kind]), np.float32(-1.0))
        return values

    def _raw(self, view: int, offset: int, kind: int, count: int, width: int) -> NDArray[Any]:
        told = self.content["bufferViews"][view]
        data = self._buffer(told["buffer"])
        start, size = told.get("byteOffset", 0) + offset, np.dtype(_TYPES[kind]).itemsize * width
        stride = told.get("byteStride") or size
        if start < 0 or (count and start + (count - 1) * stride + size > len(data)):
            raise ValueError(f"it promises {count} items and the file ends before")
        rows = np.ndarray((count, size), np.uint8, data, start, (stride, 1))
        return np.ascontiguousarray(rows).view(_TYPES[kind]).reshape(count, width)

    def _buffer(self, number: int) -> bytes:
        if number not in self.read:
            uri = self.content["buffers"][number].get("uri")
            if uri is not None and uri.startswith("data:"):
                self.read[number] = base64.b64decode(uri.partition(",")[2])
            else:
                self.read[number] = self.packed() if uri is None else self.fetch(unquote(uri))
        return self.read[number]

    def _new(self, key: tuple[Any, ...], make: Callable[[], NDArray[Any]]) -> int:
        """The number of a list with these values, made once."""
        if key not in self.made:
            values = make()
            accessors = self.content["accessors"]
            whole = values.dtype.kind in "ui"
            data = np.ascontiguousarray(values, np.uint32 if whole else np.float32)
            word = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[data.shape[1]]
            view = {"buffer": 0, "byteOffset": self.length, "byteLength": data.nbytes}
            self.content["bufferViews"].append({**view, "new": True})
            entry = {"bufferView": len(self.content["bufferViews"]) - 1, "componentType": _INDEX if whole else _FLOAT}
            accessors.append({**entry, "count": len(data), "type": word})
            self.added.append(data.tobytes())
            self.length += data.nbytes
            self.made[key] = len(accessors) - 1
        return self.made[key]

    def _packed(self) -> bytes:
        """The whole as a binary file of one buffer."""
        chunks, starts, length = list[bytes](), list[int](), 0
        for number in range(len(self.content["buffers"])):
            data = self._buffer(number)
            data += b"\0" * (-len(data) % 4)
            starts.append(length)
            chunks.append(data)
            length += len(data)
        for view in self.content["bufferViews"]:
            start = length if view.pop("new", False) else starts[view["buffer"]]
            view["byteOffset"], view["buffer"] = view.get("byteOffset", 0) + start, 0
        body = b"".join([*chunks, *self.added])
        body += b"\0" * (-len(body) % 4)
        self.content["buffers"] = [{"byteLength": len(body)}]
        text = json.dumps(self.content).encode()
        text += b" " * (-len(text) % 4)
        head = b"glTF" + struct.pack("<II", 2, 28 + len(text) + len(body))
        return head + struct.pack("<I", len(text)) + b"JSON" + text + struct.pack("<I", len(body)) + b"BIN\0" + body


def _laid(uv: NDArray[Any], move: tuple[float, ...]) -> NDArray[np.float32]:
    """Texture coordinates, v downwards, scaled, turned and moved as the extension defines."""
    u, v, angle, x, y = move
    cos, sin = math.cos(angle), math.sin(angle)
    scaled = uv.astype(np.float64) * [x, y]
    return (scaled @ np.array([[cos, -sin], [sin, cos]]) + [u, v]).astype(np.float32)
