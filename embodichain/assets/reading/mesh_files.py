"""Reads mesh files (OBJ, STL, PLY, GLB, glTF, OFF, DAE, 3MF) as coloured triangle soups, and reports missing files."""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from embodichain.assets.families.parts import Finish, Kept, Look, Part, Preservation
from embodichain.assets.geometry.shapes import diagonal
from embodichain.assets.reading import plain_gltf
from embodichain.assets.reading.detail import reduced
from embodichain.assets.reading.looks import Color, joined, look_of, plain, tint
from embodichain.assets.reading.material_lines import without_options
from embodichain.assets.reading.unkept import content_of, numbers_of_gltf, packed_of, unkept
from embodichain.errors import AssetError
from embodichain.types import Joint, Mesh

FORMATS = (".obj", ".stl", ".ply", ".glb", ".gltf", ".off", ".dae", ".3mf")
SCENES = (".glb", ".gltf", ".dae", ".3mf")
"""Formats that place several meshes; meshes that do not touch are separate objects."""
_UP = {".glb": "y", ".gltf": "y", ".3mf": "z"}
"""The up axes that formats define; a COLLADA file states its own."""
_COLLADA_UP = re.compile(rb"<up_axis>\s*([XYZ])_UP\s*</up_axis>")
_UNITS = {
    **dict.fromkeys(("meters", "meter", "m"), 1.0),
    **dict.fromkeys(("centimeters", "centimeter", "cm"), 0.01),
    **dict.fromkeys(("millimeters", "millimeter", "mm"), 0.001),
    **dict.fromkeys(("microns", "micron"), 1e-6),
    **dict.fromkeys(("inches", "inch", "in"), 0.0254),
    **dict.fromkeys(("feet", "foot", "ft"), 0.3048),
}
"""Metres per unit, as trimesh and the formats call them: a 3MF file has its units in the singular."""
_ARCHIVES = (".3mf", ".usdz")
MAX_FACES = 8_000_000
MAX_BYTES = 1 << 30
THIN_ABOVE = 400_000
"""Number of faces above which a mesh is reduced before any other step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """The contents of a file: bodies in the file's units and axes, joints, and the reader's remarks.

    `unit` is metres per unit, 0 if the format does not define it; `up` is the axis that points up, "" if that is not defined.
    """

    parts: tuple[Part, ...]
    joints: tuple[Joint, ...] = ()
    unit: float = 0.0
    up: str = ""
    warnings: tuple[str, ...] = ()
    fidelity: tuple[Kept, ...] = ()
    """Rows about stated values that the reader had to change or drop."""
    apart: tuple[tuple[str, str], ...] = ()
    files: tuple[Path, ...] = ()
    """All other files that were read for this one."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Original names, where they had to be changed."""
    parameters: dict[str, float | str] = field(default_factory=dict)


def read_mesh(path: Path) -> Reading:
    """Reads a mesh file as one body: all its meshes in their places, with their looks, reduced where there are too many faces.

    Raises:
        AssetError: the file is missing, empty, truncated, too large, in an unknown format, or has no triangles.
    """
    reading = read_objects(path)
    if len(reading.parts) == 1:
        return reading
    looks = [part.look for part in reading.parts if part.look]
    whole = joined(looks)
    largest = max(reading.parts, key=lambda part: _area(part.mesh))
    part = replace(largest, name="body", mesh=whole.mesh, look=whole)
    return replace(reading, parts=(part,))


def read_objects(path: Path) -> Reading:
    """Reads a mesh file as several bodies if the bounding boxes of its meshes are apart: a scene of several objects.

    Raises:
        AssetError: as `read_mesh`.
    """
    check(path, FORMATS)
    kind = path.suffix.lower()
    announced = announced_faces(path)
    if announced > MAX_FACES:
        raise AssetError(f"read: {path} announces {announced} faces, more than {MAX_FACES}; decimate it first")
    if (numbers := numbers_of_gltf(path)) > 3 * MAX_FACES:
        raise AssetError(
            f"read: {path} announces a list of {numbers} points or corners, more than {3 * MAX_FACES}; decimate it first"
        )
    resolver = _Beside(path.parent)
    try:
        scene = _loaded(path, resolver)
    except ModuleNotFoundError as error:
        raise AssetError(f"read: {kind[1:].upper()} files need {error.name}: pip install 'embodichain[assets]'") from error
    except AssetError:
        raise
    except Exception as error:
        raise AssetError(f"read: {path} is no readable {kind[1:].upper()} file; it may be cut short or harmed ({error})") from error
    found: list[tuple[str, Look]] = []
    points, bare = 0, list[str]()
    places = [(name, *scene.graph[name]) for name in scene.graph.nodes_geometry]
    placed = sum(len(getattr(scene.geometry[geometry], "faces", ())) for _, _, geometry in places)
    if placed > MAX_FACES:  # a small file may place one mesh very often
        raise AssetError(f"read: {path} places {placed} faces in {len(places)} meshes, more than {MAX_FACES}; decimate it first")
    for name, transform, geometry in places:
        shape = scene.geometry[geometry]
        if not isinstance(shape, trimesh.Trimesh) or len(shape.faces) == 0:
            points += len(getattr(shape, "vertices", ()))
            bare.append(str(name))
            continue
        matrix = np.asarray(transform, np.float64)
        mesh = _placed(shape, matrix)
        found.append((str(name), look_of(shape, mesh, _normal_matrix(matrix))))
    if not found:
        if points:
            raise AssetError(f"read: {path} is a point cloud of {points} points without faces; reconstruct a surface first")
        raise AssetError(f"read: {path} holds no triangles; some readers return an empty scene for a truncated file")
    faces = sum(len(look.mesh.faces) for _, look in found)
    if announced and faces < announced * 0.5:
        raise AssetError(f"read: {path} announces {announced} faces and holds {faces}; it is truncated")
    warnings = [f"missing or outside its folder: {name}" for name in resolver.missing]
    scenes = kind in SCENES
    groups = _groups([look.mesh for _, look in found]) if scenes else [list(range(len(found)))]
    parts, rows = [], list[Kept]()
    if bare:
        reason = "points and lines have no surface to see or touch"
        stated = f"{points} points in {', '.join(bare)}"[:200]
        rows.append(Kept(of=path.name, what="points or lines", stated=stated, fate=Preservation.DROPPED, reason=reason))
    for group in groups:
        look = joined([found[index][1] for index in group])
        largest = max(group, key=lambda index: _area(found[index][1].mesh))
        color = tint(_foremost(found[largest][1]))
        look, row = bounded(look, color, path.name)
        if row:
            rows.append(row)
            warnings.append(row.reason)
        name = found[largest][0] if len(groups) > 1 else "body"
        parts.append(Part(name=name, mesh=look.mesh, material="", color=color, look=look))
    rows += unkept(path, resolver.given)
    gltf = kind in (".glb", ".gltf")
    unit = 1.0 if gltf else _unit(scene)
    return Reading(
        parts=tuple(parts), unit=unit, up=_up(path), warnings=tuple(warnings), fidelity=tuple(rows), files=tuple(resolver.given)
    )


def _loaded(path: Path, resolver: _Beside) -> trimesh.Scene:
    """The scene in a file; of glTF files that trimesh would misread, after they were rewritten."""
    kind = path.suffix.lower()[1:]
    plain = plain_gltf.rewritten(content_of(path), lambda: packed_of(path), resolver.get) if kind in ("glb", "gltf") else None
    with path.open("rb") if plain is None else io.BytesIO(plain) as file:
        return trimesh.load_scene(file, file_type=kind if plain is None else "glb", resolver=resolver, process=False)


def bounded(look: Look, color: Color, of: str) -> tuple[Look, Kept | None]:
    """A look with at most as many faces as the chain can handle, and a row for the table if it had more."""
    before = len(look.mesh.faces)
    if before <= THIN_ABOVE:
        return look, None
    look = reduced(look, THIN_ABOVE) if look.uv is not None else plain(thinned(look.mesh, THIN_ABOVE), color)
    after = len(look.mesh.faces)
    reason = f"thinned from {before} to {after} faces"
    row = Kept(of=of, what="faces", stated=float(before), written=float(after), fate=Preservation.CHANGED, reason=reason)
    return look, row


def _foremost(look: Look) -> Finish:
    """The material with the largest area in a look."""
    corners = look.mesh.vertices[np.clip(look.mesh.faces, 0, len(look.mesh.vertices) - 1)]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return look.finishes[int(np.bincount(look.finish, np.nan_to_num(areas), len(look.finishes)).argmax())]


def _normal_matrix(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transformation of normals for a transformation of points: its inverse transpose, up to a factor."""
    linear = matrix[:3, :3]
    return np.asarray(np.linalg.inv(linear).T if abs(np.linalg.det(linear)) > 1e-300 else np.eye(3), np.float64)


def _groups(meshes: Sequence[Mesh]) -> list[list[int]]:
    """Groups of mesh numbers that belong together: their bounding boxes, enlarged by one percent, overlap."""
    boxes = [(mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)) for mesh in meshes]
    grown = [0.01 * float(np.linalg.norm(high - low)) for low, high in boxes]
    groups: list[list[int]] = []
    for index, (low, high) in enumerate(boxes):
        near = [
            group
            for group in groups
            if any(
                bool((low <= boxes[other][1] + grown[index] + grown[other]).all())
                and bool((high >= boxes[other][0] - grown[index] - grown[other]).all())
                for other in group
            )
        ]
        groups = [group for group in groups if group not in near] + [[*(i for group in near for i in group), index]]
    return sorted(sorted(group) for group in groups)


def check(path: Path, formats: tuple[str, ...]) -> None:
    """Raises AssetError unless the path is a file that can be read in one of the formats."""
    try:
        size = path.stat().st_size if path.is_file() else -1
    except (OSError, ValueError) as error:  # the name is too long, or contains a null character
        raise AssetError(f"read: {str(path)[:200]!r} is no file: {error}") from error
    if size < 0:
        raise AssetError(f"read: no file at {path}")
    if path.suffix.lower() not in formats:
        raise AssetError(f"read: {path.name} is of an unknown format; available: {', '.join(formats)}")
    if size == 0:
        raise AssetError(f"read: {path} is empty")
    if size > MAX_BYTES:
        raise AssetError(f"read: {path} has {size >> 20} MiB, more than {MAX_BYTES >> 20}; decimate it first")
    if path.suffix.lower() in _ARCHIVES and (unpacked := _unpacked_bytes(path)) > MAX_BYTES:
        raise AssetError(f"read: {path} unpacks to {unpacked >> 20} MiB, more than {MAX_BYTES >> 20}; decimate it first")


def _unpacked_bytes(path: Path) -> int:
    """How large the files in an archive are by its directory, which readers do not exceed; 0 where it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return 0  # who reads it says so


def announced_faces(path: Path) -> int:
    """Number of faces that the header of a file states, 0 if it states none, so that a huge file is refused before it is read."""
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
    """A mesh of at most about `faces` faces: the vertices in each cell of a grid are merged (Rossignac and Borrel 1993)."""
    if not np.isfinite(mesh.vertices).all() or mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        return mesh  # the chain will refuse it
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
        if number < 2_000_000:  # the three indices fit into one 64-bit number
            wide = kept.astype(np.int64)
            kept = kept[np.unique((wide[:, 0] * number + wide[:, 1]) * number + wide[:, 2], return_index=True)[1]]
        result = Mesh(vertices=vertices, faces=kept)
        cells *= 0.7
    return result


def _rolled(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each face rotated so that its lowest vertex comes first, so that equal faces have equal rows."""
    shift = faces.argmin(axis=1)
    return np.take_along_axis(faces, (shift[:, None] + np.arange(3)) % 3, axis=1)


class _Beside(trimesh.resolvers.Resolver):
    """Gives readers the files that a mesh refers to, from its folder or below, and records those that are not available."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.missing: list[str] = []
        self.given: list[Path] = []

    def get(self, name: str) -> bytes:
        """The content of a file; raises FileNotFoundError when it is not available."""
        for spelt in dict.fromkeys((name, without_options(name))):
            with contextlib.suppress(OSError, ValueError):
                path = (self.folder / spelt.strip().replace("\\", "/")).resolve()
                if path.is_relative_to(self.folder) and path.is_file():
                    self.given.append(path)
                    return path.read_bytes()
        self.missing.append(name[:200])
        raise FileNotFoundError(name)

    def write(self, name: str, data: bytes) -> None:
        """Raises PermissionError, because reading writes nothing."""
        raise PermissionError(name)

    def namespaced(self, namespace: str) -> _Beside:
        """The same for a subfolder."""
        inner = _Beside(self.folder / namespace)
        inner.missing, inner.given = self.missing, self.given
        return inner

    def keys(self) -> list[str]:
        """Names of the available files."""
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


def _up(path: Path) -> str:
    """The up axis that a file states, "" if none. For COLLADA, Y is the default, as the format defines."""
    kind = path.suffix.lower()
    if kind != ".dae":
        return _UP.get(kind, "")
    with path.open("rb") as file:
        found = _COLLADA_UP.search(file.read(1 << 16))
    return found.group(1).decode().lower() if found else "y"


def _unit(scene: Any) -> float:
    """Metres per unit, if the format states it."""
    factor, times, unit = str(getattr(scene, "units", None) or "").rpartition(" * ")  # trimesh's notation of COLLADA's unit
    try:
        return _UNITS.get(unit.lower(), 0.0) * (float(factor) if times else 1.0)
    except ValueError:
        return 0.0
