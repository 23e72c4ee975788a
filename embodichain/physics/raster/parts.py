"""What the rasteriser's kernels share: arrays by name, how they are compiled, and moving vertices.

Single thread, no fast arithmetic: the same bits in any process on one kind of processor.
"""

# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodichain.machine_code import compiled

ONE, ZERO, HALF = np.float32(1.0), np.float32(0.0), np.float32(0.5)
LANES = 64
"""Samples that light falls on at once."""
QUANTITIES = 22
"""Numbers of each of these samples."""
DEEPEST = np.float32(65534.0)
"""Depth of the farthest caster in a shadow map; where there is none it is deeper by one."""
OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""No kernel makes an array: without that nobody counts who holds one, which takes longer than looking into a shadow map."""

kernel = compiled(**OPTIONS)
"""Called from Python or from other kernels."""
part = njit(forceinline=True, **OPTIONS)
"""Of another kernel: compiled into it, for a call with arrays costs more than what these do."""


class Solids(NamedTuple):
    """The visible geoms of a model as triangles: see `triangles.Triangles`, here with an array for each axis."""

    geoms: NDArray[np.int32]
    first_vertex: NDArray[np.int32]
    first_face: NDArray[np.int32]
    vertices: NDArray[np.float32]
    """[3, V]."""
    faces: NDArray[np.uint32]
    """[T, 3]."""
    planes: NDArray[np.float32]
    """Of each triangle its unit normal and its distance from the geom's origin, [T, 4]."""
    owner: NDArray[np.uint32]
    """Place of each triangle's geom in `geoms`, [T]."""
    rbound: NDArray[np.float64]
    """Of each geom of the model the radius of a ball around its origin that holds it [m]; 0 where none does."""
    rgba: NDArray[np.float32]
    """Of each geom of the model; one without opacity is not drawn."""


class Skins(NamedTuple):
    """What surfaces look like: normals and coordinates as in `triangles.Triangles`, the rest as the model says now."""

    normals: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    paint: NDArray[np.float32]
    """Red, green, blue, gloss and exponent of the highlight of each visible geom, [G, 5]."""
    surface: NDArray[np.float32]
    """Texture (-1: none), its repetitions along u and v, and its offset, [G, 4]."""
    texels: NDArray[np.float32]
    """Of all levels of all textures, [P, 4]."""
    levels: NDArray[np.int32]
    """First texel, width and height (0: no such level) of each level of each texture, [textures, levels, 3]."""


class Materials(NamedTuple):
    """Views of a model's materials, and how `triangles.Triangles` stretch textures."""

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
    """Room to work in, overwritten by every picture."""

    moved: NDArray[np.float32]
    """Vertices in the space of a camera, or of a light's map, [3, V]."""
    spots: NDArray[np.float32]
    """Where in the picture they lie [samples], [2, V]."""
    turns: NDArray[np.float32]
    """Camera from geom, [G, 3, 3]."""
    dx: NDArray[np.float32]
    """Directions of samples at unit depth to the right, [n]."""
    dy: NDArray[np.float32]
    """And upwards, [m]."""
    nearness: NDArray[np.float32]
    """One over the depth of each sample [1/m], [m, n]."""
    shown: NDArray[np.int32]
    """The triangle that each sample shows, -1 for none, [m, n]."""
    chosen: NDArray[np.bool_]
    colour: NDArray[np.float32]
    """[m, n, 3]."""
    lanes: NDArray[np.float32]
    """Samples while light falls on them, quantity after quantity, [QUANTITIES * LANES]."""
    places: NDArray[np.int32]
    """Where these samples are: row and column, [LANES, 2]."""
    turn: NDArray[np.float32]
    shift: NDArray[np.float32]
    away: NDArray[np.float64]
    local: NDArray[np.float32]
    smooth: NDArray[np.float32]
    uv: NDArray[np.float32]


class Lights(NamedTuple):
    """The lights that shine, the first `count[0]` of each array; L lights in the model, maps of N by N texels."""

    count: NDArray[np.int64]
    towards: NDArray[np.float64]
    """Unit vectors in the world towards each, [L, 3]."""
    colour: NDArray[np.float32]
    """[L, 3]."""
    mapped: NDArray[np.bool_]
    """Whether it casts shadows, [L]."""
    texel: NDArray[np.float32]
    """Edge of a texel of its map [m], [L]."""
    frames: NDArray[np.float64]
    """Its map's space from the world's: texels right, texels up, depth away from the light, [L, 3, 4]."""
    maps: NDArray[np.uint16]
    """[L, N, N]."""
    still: NDArray[np.int64]
    """Places of the casters that stand still."""
    moving: NDArray[np.int64]
    """Places of the casters that move."""
    bases: NDArray[np.uint16]
    """By light of the model: its map without what moves, [L, N, N]."""
    kept: NDArray[np.float64]
    """By light of the model: what its base was drawn from, its frame and the poses of what stands still, [L, 12 + 13 S]."""
    aims: NDArray[np.float32]
    """Towards each in the space of a camera, [L, 3]."""
    matrices: NDArray[np.float32]
    """Each map's space from that of a camera, [L, 3, 4]."""
    ambient: NDArray[np.float32]
    head: NDArray[np.float32]
    background: NDArray[np.float32]


@kernel
def _carry(first, end, row, shift, x, y, z, out):
    """One coordinate of vertices first..end after a rotation, of which this is the row [3], and a shift."""
    rx, ry, rz = row[0], row[1], row[2]
    for v in range(first, end):
        out[v] = rx * x[v] + ry * y[v] + rz * z[v] + shift


@part
def transform(place, solids, turn, shift, out):
    """The vertices of a geom after a rotation [3, 3] and a shift [3]: axis by axis, which the compiler does several at once."""
    first, end = solids.first_vertex[place], solids.first_vertex[place + 1]
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
    elif base < ZERO:
        high = low - ONE
    return low, high
