"""Reads mesh files (OBJ, STL, PLY, GLB, glTF, OFF) as coloured triangle soups, and says what was missing."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from embodichain.assets.families.parts import Part
from embodichain.assets.geometry.shapes import concatenate, diagonal
from embodichain.errors import AssetError
from embodichain.types import Joint, Mesh

FORMATS = (".obj", ".stl", ".ply", ".glb", ".gltf", ".off")
MAX_FACES = 8_000_000
MAX_BYTES = 1 << 30
THIN_ABOVE = 400_000
"""Faces above which a mesh is thinned before anything else is done with it."""
GREY = (0.7, 0.7, 0.7, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What a file holds: bodies in the file's units and axes, joints, and what reading it brought up.

    `unit` is metres per unit, 0 where the format does not say; `up` the axis that points up, "" where it does not say.
    """

    parts: tuple[Part, ...]
    joints: tuple[Joint, ...] = ()
    unit: float = 0.0
    up: str = ""
    warnings: tuple[str, ...] = ()
    parameters: dict[str, float | str] = field(default_factory=dict)


def read_mesh(path: Path) -> Reading:
    """One body out of a mesh file: all its meshes at their places, coloured with the mean colour of most of its surface.

    Raises:
        AssetError: the file is missing, empty, truncated, too large, of an unknown format, or holds no triangles.
    """
    check(path, FORMATS)
    kind = path.suffix.lower()
    announced = announced_faces(path)
    if announced > MAX_FACES:
        raise AssetError(f"read: {path} announces {announced} faces, more than {MAX_FACES}; decimate it first")
    resolver = _Beside(path.parent)
    try:
        with path.open("rb") as file:
            scene = trimesh.load_scene(file, file_type=kind[1:], resolver=resolver, process=False)
    except Exception as error:
        raise AssetError(f"read: {path} is no readable {kind[1:].upper()} file: {type(error).__name__}: {error}") from error
    meshes, colors, areas, points = [], [], [], 0
    for name in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[name]
        shape = scene.geometry[geometry]
        if not isinstance(shape, trimesh.Trimesh) or len(shape.faces) == 0:
            points += len(getattr(shape, "vertices", ()))
            continue
        mesh = _placed(shape, np.asarray(transform, np.float64))
        meshes.append(mesh)
        colors.append(_color(shape))
        areas.append(_area(mesh))
    if not meshes:
        if points:
            raise AssetError(f"read: {path} is a point cloud of {points} points without faces; reconstruct a surface first")
        raise AssetError(f"read: {path} holds no triangles; some readers return an empty scene for a truncated file")
    mesh = concatenate(meshes)
    if announced and len(mesh.faces) < announced * 0.5:
        raise AssetError(f"read: {path} announces {announced} faces and holds {len(mesh.faces)}; it is truncated")
    warnings = [f"missing or outside its folder: {name}" for name in resolver.missing]
    if len(mesh.faces) > THIN_ABOVE:
        before = len(mesh.faces)
        mesh = thinned(mesh, THIN_ABOVE)
        warnings.append(f"thinned from {before} to {len(mesh.faces)} faces")
    part = Part(name="body", mesh=mesh, material="", color=colors[int(np.argmax(np.nan_to_num(areas)))])
    gltf = kind in (".glb", ".gltf")
    return Reading(parts=(part,), unit=1.0 if gltf else _unit(scene), up="y" if gltf else "", warnings=tuple(warnings))


def check(path: Path, formats: tuple[str, ...]) -> None:
    """Raises AssetError when a path is no file that could be read as one of the formats."""
    try:
        size = path.stat().st_size if path.is_file() else -1
    except (OSError, ValueError) as error:  # too long a name, a null character
        raise AssetError(f"read: {str(path)[:200]!r} is no file: {error}") from error
    if size < 0:
        raise AssetError(f"read: no file at {path}")
    if path.suffix.lower() not in formats:
        raise AssetError(f"read: {path.name} is of an unknown format; available: {', '.join(formats)}")
    if size == 0:
        raise AssetError(f"read: {path} is empty")
    if size > MAX_BYTES:
        raise AssetError(f"read: {path} has {size >> 20} MiB, more than {MAX_BYTES >> 20}; decimate it first")


def announced_faces(path: Path) -> int:
    """How many faces the head of a file promises, 0 where the format does not: so that a monster is refused before it is read."""
    kind = path.suffix.lower()
    with path.open("rb") as file:
        head = file.read(4096)
    if kind == ".stl" and not (head.lstrip().startswith(b"solid") and b"facet" in head) and len(head) >= 84:
        return int.from_bytes(head[80:84], "little")
    if kind == ".ply":
        found = re.search(rb"element\s+face\s+(\d+)", head)
        return int(found.group(1)) if found else 0
    if kind == ".off":
        numbers = re.findall(rb"-?\d+", re.sub(rb"#.*", b"", head).replace(b"OFF", b"", 1))[:2]
        return int(numbers[1]) if len(numbers) == 2 else 0
    return 0


def thinned(mesh: Mesh, faces: int) -> Mesh:
    """A mesh of at most about `faces` faces: vertices of one cell of a grid become their mean (Rossignac and Borrel 1993)."""
    if not np.isfinite(mesh.vertices).all() or mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        return mesh  # to be refused for that
    low, size = mesh.vertices.min(axis=0), diagonal(mesh)
    result, cells = mesh, 1.5 * float(np.sqrt(faces))
    while len(result.faces) > faces and cells > 8:
        keys = ((result.vertices - low) * (cells / size)).astype(np.int64)
        flat = (keys[:, 0] * 1_000_003 + keys[:, 1]) * 1_000_003 + keys[:, 2]
        _, owner, counts = np.unique(flat, return_inverse=True, return_counts=True)
        vertices = np.stack([np.bincount(owner, result.vertices[:, axis]) / counts for axis in range(3)], axis=1)
        moved = owner[result.faces].astype(np.int32)
        kept = _rolled(moved[(moved[:, 0] != moved[:, 1]) & (moved[:, 1] != moved[:, 2]) & (moved[:, 2] != moved[:, 0])])
        number = len(vertices)
        if number < 2_000_000:  # the three indices fit into one
            wide = kept.astype(np.int64)
            kept = kept[np.unique((wide[:, 0] * number + wide[:, 1]) * number + wide[:, 2], return_index=True)[1]]
        result = Mesh(vertices=vertices, faces=kept)
        cells *= 0.7
    return result


def _rolled(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each face turned so that its lowest vertex comes first: the same face twice is then the same row twice."""
    shift = faces.argmin(axis=1)
    return np.take_along_axis(faces, (shift[:, None] + np.arange(3)) % 3, axis=1)


class _Beside(trimesh.resolvers.Resolver):
    """Gives readers the files they refer to, from the folder of the mesh or below, and remembers those it did not give."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.missing: list[str] = []

    def get(self, name: str) -> bytes:
        """The content of a file; raises FileNotFoundError."""
        with contextlib.suppress(OSError, ValueError):
            path = (self.folder / name.strip().replace("\\", "/")).resolve()
            if path.is_relative_to(self.folder) and path.is_file():
                return path.read_bytes()
        self.missing.append(name[:200])
        raise FileNotFoundError(name)

    def write(self, name: str, data: bytes) -> None:
        """Never: reading writes nothing."""
        raise PermissionError(name)

    def namespaced(self, namespace: str) -> _Beside:
        """The same below a folder."""
        inner = _Beside(self.folder / namespace)
        inner.missing = self.missing
        return inner

    def keys(self) -> list[str]:
        """The files it could give."""
        return [str(path.relative_to(self.folder)) for path in self.folder.iterdir() if path.is_file()]


def _placed(shape: trimesh.Trimesh, transform: NDArray[np.float64]) -> Mesh:
    vertices = np.asarray(shape.vertices, np.float64)
    faces = np.asarray(shape.faces, np.int64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise AssetError(f"read: vertices {vertices.shape} and faces {faces.shape} of a mesh must be [V, 3] and [F, 3]")
    if np.abs(faces).max(initial=0) >= 2**31:
        raise AssetError(f"read: face index {int(np.abs(faces).max())} is out of any range")
    if not np.array_equal(transform, np.eye(4)):
        vertices = vertices @ transform[:3, :3].T + transform[:3, 3]
        if np.linalg.det(transform[:3, :3]) < 0:
            faces = faces[:, ::-1]
    return Mesh(vertices=vertices, faces=np.ascontiguousarray(faces, np.int32))


def _area(mesh: Mesh) -> float:
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        return 0.0
    corners = mesh.vertices[mesh.faces[:200_000]]
    return float(np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum())


def _unit(scene: Any) -> float:
    """Metres per unit where a format states it."""
    units = {"meters": 1.0, "m": 1.0, "centimeters": 0.01, "cm": 0.01, "millimeters": 0.001, "mm": 0.001, "inches": 0.0254}
    return units.get(str(getattr(scene, "units", None) or ""), 0.0)


def _color(shape: trimesh.Trimesh) -> tuple[float, float, float, float]:
    """The mean colour of a mesh: of its texture, its vertices or faces, or its material; grey when it has none."""
    visual: Any = shape.visual
    try:
        material = getattr(visual, "material", None)
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is not None:
            rgb = np.asarray(image.convert("RGB").resize((16, 16)), np.float64).reshape(-1, 3).mean(axis=0) / 255
        elif material is not None:
            rgb = np.asarray(material.main_color, np.float64)[:3] / 255
        elif visual.kind == "vertex":
            rgb = np.asarray(visual.vertex_colors, np.float64)[:, :3].mean(axis=0) / 255
        elif visual.kind == "face":
            rgb = np.asarray(visual.face_colors, np.float64)[:, :3].mean(axis=0) / 255
        else:
            return GREY
    except (AttributeError, ValueError, OSError, TypeError):  # a texture that cannot be decoded
        return GREY
    if rgb.shape != (3,) or not np.isfinite(rgb).all():
        return GREY
    red, green, blue = (float(value) for value in np.clip(rgb, 0.0, 1.0))
    return (red, green, blue, 1.0)
