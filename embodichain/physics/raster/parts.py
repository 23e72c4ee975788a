"""Shared by the rasteriser's kernels: their arrays, compiler options, and the transformation of vertices.

Kernels are single-threaded and compiled without fast-math, so that results are bitwise the same in any process on the same kind of
processor.
"""

# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.machine_code import compiled, inner

ONE, ZERO, HALF = np.float32(1.0), np.float32(0.0), np.float32(0.5)
LANES = 64
"""Number of samples that are shaded together, so that the compiler can vectorise over them."""
QUANTITIES = 23
"""Number of values stored for each of these samples."""
DEEPEST = np.float32(65534.0)
"""Depth value of the farthest caster in a shadow map; empty texels have one more."""
OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""`_nrt` off: kernels allocate no arrays, and counting references to arrays would cost more than a lookup in a shadow map."""

entry = compiled(**OPTIONS)
"""Decorator of functions that are called from Python."""
kernel = inner(**OPTIONS)
"""Decorator of functions that other kernels call."""
part = inner(forceinline=True, **OPTIONS)
"""Decorator of functions that are inlined into kernels, because a call with arrays would cost more than their work."""


class Solids(NamedTuple):
    """The visible geoms of a model as triangles; as `triangles.Triangles`, but with one array for each axis, for vectorisation."""

    geoms: NDArray[np.int32]
    first_vertex: NDArray[np.int32]
    first_face: NDArray[np.int32]
    vertices: NDArray[np.float32]
    """Positions in the geom's frame [m], [3, V]."""
    faces: NDArray[np.uint32]
    """Vertices of each triangle, [T, 3]."""
    planes: NDArray[np.float32]
    """Unit normal and distance from the geom's origin of each triangle's plane, [T, 4]."""
    owner: NDArray[np.uint32]
    """Index of each triangle's geom in `geoms`, [T]."""
    rbound: NDArray[np.float64]
    """Radius [m] of the bounding sphere of each geom of the model, around its origin; 0 for unbounded geoms."""
    rgba: NDArray[np.float32]
    """Colour of each geom of the model; geoms with opacity 0 are not drawn."""


class Skins(NamedTuple):
    """The look of surfaces: normals and coordinates as in `triangles.Triangles`, the rest read from the model for every picture."""

    normals: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    paint: NDArray[np.float32]
    """Red, green, blue, specular strength and highlight exponent of each visible geom, [G, 5]."""
    surface: NDArray[np.float32]
    """Texture (-1 for none), its repetitions along u and v, and its offset, [G, 4]."""
    texels: NDArray[np.float32]
    """Texels of all mipmap levels of all textures, [P, 4]."""
    levels: NDArray[np.int32]
    """First texel, width and height (0 if there is no such level) of each mipmap level, [textures, levels, 3]."""


class Materials(NamedTuple):
    """Views of a model's materials, and the texture scales from `triangles.Triangles`."""

    geom_matid: NDArray[np.int32]
    rgba: NDArray[np.float32]
    specular: NDArray[np.float32]
    shininess: NDArray[np.float32]
    roughness: NDArray[np.float32]
    texid: NDArray[np.int32]
    texuniform: NDArray[np.bool_]
    texrepeat: NDArray[np.float32]
    stretch: NDArray[np.float32]
    offset: NDArray[np.float32]


class Room(NamedTuple):
    """Working memory, overwritten by every picture."""

    moved: NDArray[np.float32]
    """Vertices in camera space or in the space of a shadow map, [3, V]."""
    spots: NDArray[np.float32]
    """Their projections into the picture [samples], [2, V]."""
    turns: NDArray[np.float32]
    """Rotation from each geom's frame to camera space, [G, 3, 3]."""
    dx: NDArray[np.float32]
    """x of the ray through each column of samples, at depth 1, [n]."""
    dy: NDArray[np.float32]
    """y of the ray through each row of samples, at depth 1, [m]."""
    nearness: NDArray[np.float32]
    """Inverse depth of each sample [1/m], [m, n]; it is linear over a triangle's projection."""
    shown: NDArray[np.int32]
    """The visible triangle at each sample, -1 for none, [m, n]."""
    chosen: NDArray[np.bool_]
    colour: NDArray[np.float32]
    """Colour of each sample, 0 to 1, [m, n, 3]."""
    behind: NDArray[np.float32]
    """Colour of each sample without translucent geoms, [m, n, 3]."""
    lanes: NDArray[np.float32]
    """Values of the samples being shaded, quantity by quantity, [QUANTITIES * LANES]."""
    places: NDArray[np.int32]
    """Row and column of these samples, [LANES, 2]."""
    corners: NDArray[np.int32]
    """The four texels around each of these samples, [4 * LANES]."""
    turn: NDArray[np.float32]
    shift: NDArray[np.float32]
    away: NDArray[np.float64]
    local: NDArray[np.float32]
    smooth: NDArray[np.float32]
    uv: NDArray[np.float32]


class Lights(NamedTuple):
    """The active lights, in the first `count[0]` entries of each array. L lights in the model, shadow maps of N x N texels."""

    count: NDArray[np.int64]
    towards: NDArray[np.float64]
    """Unit vectors towards each light in the world frame, [L, 3]."""
    colour: NDArray[np.float32]
    """Colour of each light, [L, 3]."""
    mapped: NDArray[np.bool_]
    """Whether it casts shadows, [L]."""
    texel: NDArray[np.float32]
    """Edge length of a texel of its shadow map [m], [L]."""
    frames: NDArray[np.float64]
    """Transformation from the world frame to its map's space: texels right, texels up, depth away from the light, [L, 3, 4]."""
    maps: NDArray[np.uint16]
    """Shadow maps, [L, N, N]."""
    still: NDArray[np.int64]
    """Indices in `geoms` of casters that never move by themselves."""
    moving: NDArray[np.int64]
    """Indices in `geoms` of casters that move."""
    bases: NDArray[np.uint16]
    """Cached shadow map of the still casters, for each light of the model, [L, N, N]."""
    kept: NDArray[np.float64]
    """The inputs from which each base was drawn, its frame and the poses of still casters, for each light, [L, 12 + 13 S]."""
    aims: NDArray[np.float32]
    """Unit vectors towards each light in camera space, [L, 3]."""
    matrices: NDArray[np.float32]
    """Transformation from camera space to each map's space, [L, 3, 4]."""
    ambient: NDArray[np.float32]
    head: NDArray[np.float32]
    background: NDArray[np.float32]


@kernel
def _carry(first, end, row, shift, x, y, z, out):
    """Computes one coordinate of vertices first..end after a rotation, of which `row` is one row [3], and a shift."""
    # Out of the array first: the compiler cannot know that `out` does not overlap `row`, and would load it for each vertex.
    rx, ry, rz = row[0], row[1], row[2]
    for v in range(first, end):
        out[v] = rx * x[v] + ry * y[v] + rz * z[v] + shift


@part
def transform(place, solids, turn, shift, out):
    """Transforms the vertices of a geom by a rotation [3, 3] and a shift [3]; axis by axis, so that the compiler vectorises it."""
    first, end = solids.first_vertex[place], solids.first_vertex[place + 1]
    # One array for each axis: adjacent vertices are then adjacent in memory, as vector instructions need them.
    x, y, z = solids.vertices[0], solids.vertices[1], solids.vertices[2]
    for axis in range(3):
        _carry(first, end, turn[axis], shift[axis], x, y, z, out[axis])


@part
def narrowed(a, base, low, high):
    """Narrows [low, high], positions along a row, to where a * x + base >= 0."""
    if a > ZERO:
        low = max(low, -base / a)
    elif a < ZERO:
        high = min(high, -base / a)
    # a is 0, so the expression is constant along the row: all of it or nothing.
    elif base < ZERO:
        high = low - ONE
    return low, high
