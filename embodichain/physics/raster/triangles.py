"""Converts the visible geoms of a model into triangles with normals and texture coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError

Floats = NDArray[np.float64]
_VISIBLE_GROUPS = 3
_SAGITTA = 5e-4
"""Largest distance between an arc and its chord [m]. The polygon is enlarged, so that the error is half of it to either side."""
_FEWEST, _MOST = 12, 40
_HORIZON = 100.0
"""Half the edge length of an infinite plane [m]: farther than any camera sees."""
_CREASE = 0.8
"""If the cosine between a corner's normal and its face's is below this, the corner is at a sharp edge, and the face's normal is
used, as in MuJoCo."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Triangles:
    """The visible geoms of a model, in their own frames; triangles are counter-clockwise as seen from outside."""

    geoms: NDArray[np.int32]
    """Number of each visible geom, ascending, shape [G]."""
    first_vertex: NDArray[np.int32]
    """Index of each geom's first vertex, and of the end, shape [G + 1]."""
    first_face: NDArray[np.int32]
    """Index of each geom's first triangle, and of the end, shape [G + 1]."""
    vertices: NDArray[np.float32]
    """Positions [m], shape [V, 3]."""
    faces: NDArray[np.int32]
    """Vertices of each triangle, shape [T, 3]."""
    normals: NDArray[np.float32]
    """Unit normals of each triangle's corners, shape [T, 3, 3]."""
    coordinates: NDArray[np.float32]
    """Texture coordinates of each triangle's corners before repetition, shape [T, 3, 2]."""
    stretch: NDArray[np.float32]
    """Factors on a material's texture repetitions, without and with `texuniform`, shape [G, 2, 2]."""
    offset: NDArray[np.float32]
    """Offset added to texture coordinates after repetition, shape [G]."""

    @classmethod
    def of(cls, model: mujoco.MjModel, geoms: NDArray[np.int32] | None = None) -> Triangles:
        """Triangulates the geoms with these numbers, by default all of groups 0 to 2, which cameras see.

        Raises SceneError for a type of geom that cannot be drawn (height fields).
        """
        geoms = visible(model) if geoms is None else geoms
        parts = [_cut(model, int(geom)) for geom in geoms]
        vertices = np.cumsum([0, *(len(part.vertices) for part in parts)], dtype=np.int32)
        faces = np.cumsum([0, *(len(part.faces) for part in parts)], dtype=np.int32)
        return cls(
            geoms=geoms,
            first_vertex=vertices,
            first_face=faces,
            vertices=_joined([part.vertices for part in parts], (0, 3)).astype(np.float32),
            faces=_joined([part.faces + start for part, start in zip(parts, vertices, strict=False)], (0, 3)).astype(np.int32),
            normals=_joined([part.normals for part in parts], (0, 3, 3)).astype(np.float32),
            coordinates=_joined([part.coordinates for part in parts], (0, 3, 2)).astype(np.float32),
            stretch=np.array([(part.plain, part.uniform) for part in parts], np.float32).reshape(-1, 2, 2),
            offset=np.array([part.offset for part in parts], np.float32),
        )

    def planes(self) -> NDArray[np.float32]:
        """Unit normal, and distance from the geom's origin [m], of each triangle's plane, shape [T, 4]."""
        corners = self.vertices[self.faces].astype(np.float64)
        normals = _flat(corners)
        return np.column_stack([normals, np.einsum("fx,fx->f", normals, corners[:, 0])]).astype(np.float32)


def visible(model: mujoco.MjModel) -> NDArray[np.int32]:
    """Numbers of the geoms that cameras see."""
    return np.flatnonzero(model.geom_group < _VISIBLE_GROUPS).astype(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """The triangles of one geom."""

    vertices: Floats
    faces: NDArray[np.int64]
    normals: Floats
    coordinates: Floats
    plain: tuple[float, float] = (1.0, 1.0)
    uniform: tuple[float, float] = (1.0, 1.0)
    offset: float = 0.0


def _joined(arrays: list[NDArray], empty: tuple[int, ...]) -> NDArray:
    return np.concatenate(arrays) if arrays else np.empty(empty)


def _cut(model: mujoco.MjModel, geom: int) -> _Part:
    kind = mujoco.mjtGeom(int(model.geom_type[geom]))
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        return _mesh(model, geom)
    if kind not in _SOLIDS:
        drawn = ", ".join(sorted(known.name for known in (*_SOLIDS, mujoco.mjtGeom.mjGEOM_MESH)))
        raise SceneError(
            f"geom {geom} ({model.geom(geom).name!r}) is a {kind.name}, which the rasteriser cannot draw; it draws {drawn}: "
            "give it another shape, or choose the painter 'raycast'"
        )
    return _SOLIDS[kind](model.geom_size[geom])


def _mesh(model: mujoco.MjModel, geom: int) -> _Part:
    mesh = int(model.geom_dataid[geom])
    faces = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
    start = model.mesh_vertadr[mesh]
    vertices = model.mesh_vert[start : start + model.mesh_vertnum[mesh]].astype(np.float64)
    corners = model.mesh_face[faces].astype(np.int64)
    flat = _flat(vertices[corners])
    smooth = model.mesh_normal[model.mesh_normaladr[mesh] + model.mesh_facenormal[faces]].astype(np.float64)
    lean = np.einsum("fcx,fx->fc", smooth, flat)
    normals = np.where(lean[..., None] < _CREASE, flat[:, None, :], smooth)
    if model.mesh_texcoordadr[mesh] >= 0:
        points = model.mesh_texcoord[model.mesh_texcoordadr[mesh] + model.mesh_facetexcoord[faces]]
        return _Part(vertices=vertices, faces=corners, normals=normals, coordinates=points)
    # MuJoCo maps textures onto meshes without coordinates along z, like OpenGL's object-linear texture generation.
    size = model.geom_size[geom]
    plain = tuple(1.0 / extent if extent > 0.0 else 1.0 for extent in size[:2])
    points = vertices[corners][..., :2] * (0.5, -0.5)
    return _Part(vertices=vertices, faces=corners, normals=normals, coordinates=points, plain=(plain[0], plain[1]), offset=-0.5)


def _flat(corners: Floats) -> Floats:
    """Unit normals of triangles [F, 3, 3]; zero for degenerate ones."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-30)


# ------------------------------------------------------------------------------------------------------------ flat solids


def _plane(size: Floats) -> _Part:
    half = [extent if extent > 0.0 else _HORIZON for extent in size[:2]]
    x, y = half
    vertices = np.array(((-x, -y, 0.0), (x, -y, 0.0), (x, y, 0.0), (-x, y, 0.0)))
    faces = np.array(((0, 1, 2), (0, 2, 3)))
    corners = vertices[faces]
    u = 0.5 * corners[..., 0] if size[0] <= 0.0 else (corners[..., 0] + x) / (2.0 * x)
    v = -0.5 * corners[..., 1] if size[1] <= 0.0 else (y - corners[..., 1]) / (2.0 * y)
    return _Part(
        vertices=vertices,
        faces=faces,
        normals=np.broadcast_to((0.0, 0.0, 1.0), (2, 3, 3)),
        coordinates=np.stack([u, v], axis=-1),
        uniform=(size[0] if size[0] > 0.0 else 1.0, size[1] if size[1] > 0.0 else 1.0),
        offset=-0.5 if size[0] <= 0.0 or size[1] <= 0.0 else 0.0,
    )


def _box(size: Floats) -> _Part:
    """As seen from outside, u runs to the right and v down on each face; the four vertical faces are upright."""
    faces, normals, points, vertices = [], [], [], []
    for axis in range(3):
        for sign in (1.0, -1.0):
            out = np.zeros(3)
            out[axis] = sign
            right = {0: (0.0, sign, 0.0), 1: (-sign, 0.0, 0.0), 2: (1.0, 0.0, 0.0)}[axis]
            up = np.cross(out, right)
            start = len(vertices)
            for across, upward in ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)):
                vertices.append((out + across * np.array(right) + upward * up) * size)
            for corners in ((0, 1, 2), (0, 2, 3)):
                faces.append([start + corner for corner in corners])
                normals.append([out] * 3)
                points.append([((0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0))[corner] for corner in corners])
    return _Part(
        vertices=np.array(vertices),
        faces=np.array(faces),
        normals=np.array(normals),
        coordinates=np.array(points),
        uniform=(float(size[0]), float(size[1])),
    )


# ----------------------------------------------------------------------------------------------------------- round solids


def _sphere(size: Floats) -> _Part:
    return _ellipsoid(np.array((size[0], size[0], size[0])))


def _ellipsoid(size: Floats) -> _Part:
    sides = _segments(float(size.max()))
    rings = sides // 2
    tilt = np.pi * (np.arange(rings + 1) / rings - 0.5)
    radius, height = np.cos(tilt), np.sin(tilt)
    out = np.stack([np.cos(tilt), np.sin(tilt)], axis=-1)
    v = 0.5 - tilt / np.pi
    part = _turned(sides, radius * _swelling(sides), height * _swelling(sides), out, v)
    normals = part.normals / size  # normals transform by the inverse transpose of the scaling
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return _Part(
        vertices=part.vertices * size,
        faces=part.faces,
        normals=normals,
        coordinates=part.coordinates,
        uniform=(float(size[0]), float(size[1])),
    )


def _capsule(size: Floats) -> _Part:
    radius, half = float(size[0]), float(size[1])
    sides = _segments(radius)
    rings = max(sides // 6, 3)
    tilt = 0.5 * np.pi * np.arange(rings + 1) / rings
    lower, upper = tilt[::-1], tilt
    swollen = radius * _swelling(sides)
    around = np.concatenate([np.cos(lower), np.cos(upper)]) * swollen
    height = np.concatenate([-half - np.sin(lower) * swollen, half + np.sin(upper) * swollen])
    out = np.concatenate([np.stack([np.cos(lower), -np.sin(lower)], axis=-1), np.stack([np.cos(upper), np.sin(upper)], axis=-1)])
    v = np.concatenate([lower * 2.0 / np.pi, 1.0 - upper * 2.0 / np.pi])
    v[rings], v[rings + 1] = 1.0, 0.0  # between the two caps the texture covers the cylinder once
    part = _turned(sides, around, height, out, v)
    return _Part(
        vertices=part.vertices, faces=part.faces, normals=part.normals, coordinates=part.coordinates, uniform=(radius, radius)
    )


def _cylinder(size: Floats) -> _Part:
    radius, half = float(size[0]), float(size[1])
    sides = _segments(radius)
    swollen = radius * _swelling(sides)
    out = np.array(((1.0, 0.0), (1.0, 0.0)))
    wall = _turned(sides, np.array((swollen, swollen)), np.array((-half, half)), out, np.array((1.0, 0.0)))
    angle = 2.0 * np.pi * np.arange(sides) / sides
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    fan = np.stack([np.zeros(sides - 2, np.int64), np.arange(1, sides - 1), np.arange(2, sides)], axis=-1)
    vertices, faces, normals, points = [wall.vertices], [wall.faces], [wall.normals], [wall.coordinates]
    for sign in (-1.0, 1.0):
        start = sum(map(len, vertices))
        vertices.append(np.column_stack([rim * swollen, np.full(sides, sign * half)]))
        faces.append(start + (fan if sign > 0.0 else fan[:, ::-1]))
        normals.append(np.broadcast_to((0.0, 0.0, sign), (sides - 2, 3, 3)))
        points.append(0.5 + 0.5 * rim[fan if sign > 0.0 else fan[:, ::-1]])
    return _Part(
        vertices=np.concatenate(vertices),
        faces=np.concatenate(faces),
        normals=np.concatenate(normals),
        coordinates=np.concatenate(points),
        uniform=(radius, radius),
    )


def _turned(sides: int, radius: Floats, height: Floats, out: Floats, v: Floats) -> _Part:
    """A solid of revolution about Z, lowest ring first; `out` [R, 2] holds each ring's normal, away from the axis and along it."""
    angle = 2.0 * np.pi * np.arange(sides + 1) / sides  # vertices at the seam are doubled, as they have two texture coordinates
    around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    around[-1] = around[0]
    vertices = np.concatenate(
        [radius[:, None, None] * around, np.broadcast_to(height[:, None, None], (len(radius), sides + 1, 1))], axis=-1
    )
    normals = np.concatenate(
        [out[:, None, :1] * around, np.broadcast_to(out[:, None, 1:], (len(radius), sides + 1, 1))], axis=-1
    ).reshape(-1, 3)
    points = np.stack(np.broadcast_arrays(angle / (2.0 * np.pi), v[:, None]), axis=-1).reshape(-1, 2)
    faces = []
    for ring in range(len(radius) - 1):
        low = ring * (sides + 1) + np.arange(sides)
        high = low + sides + 1
        # At a pole, one of the two triangles of each quad has no area and is left out.
        if radius[ring] > 1e-9:
            faces.append(np.stack([low, low + 1, high + 1], axis=-1))
        if radius[ring + 1] > 1e-9:
            faces.append(np.stack([low, high + 1, high], axis=-1))
    corners = np.concatenate(faces)
    return _Part(vertices=vertices.reshape(-1, 3), faces=corners, normals=normals[corners], coordinates=points[corners])


def _segments(radius: float) -> int:
    """Number of sides, a multiple of four, for which arcs deviate from chords by at most the allowed distance."""
    sides = np.pi / np.arccos(max(1.0 - _SAGITTA / radius, -1.0))
    return int(np.clip(4 * np.ceil(sides / 4), _FEWEST, _MOST))


def _swelling(sides: int) -> float:
    """Circumradius of a polygon that deviates from the unit circle equally outwards and inwards."""
    return 2.0 / (1.0 + np.cos(np.pi / sides))


_SOLIDS: dict[mujoco.mjtGeom, Callable[[Floats], _Part]] = {
    mujoco.mjtGeom.mjGEOM_PLANE: _plane,
    mujoco.mjtGeom.mjGEOM_SPHERE: _sphere,
    mujoco.mjtGeom.mjGEOM_CAPSULE: _capsule,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: _ellipsoid,
    mujoco.mjtGeom.mjGEOM_CYLINDER: _cylinder,
    mujoco.mjtGeom.mjGEOM_BOX: _box,
}
