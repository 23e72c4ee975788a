"""Kernels of the rasteriser: shadow maps, visibility and shading. One file, because numba's cache watches each file alone.

Frames are right-handed: a camera looks along -Z with X to the right and Y up. What a sample shows is found with homogeneous edge
functions (Olano and Greer 1997): a product p_j x p_k of camera space says on which side of an edge a ray lies, wherever its ends
are, so nothing is cut at the near plane, and edges that two triangles share leave no gap. Single thread, no fast arithmetic: the
same bits in any process on one kind of processor.
"""

# ruff: noqa: ANN001, ANN202  (numba infers the types)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

_NEAR = np.float32(0.001)
"""Nothing nearer to a camera is drawn [m]."""
_TIE = np.float32(1.0 - 2e-6)
"""Of two surfaces whose depths differ by less the later geom shows, as by the ray caster."""
_SHADOW = np.float32(0.3)
"""What a shadow leaves of a light."""
_MIRROR = np.float32(0.45)
"""Share of a light that a wholly specular material mirrors at the centre of the highlight."""
_ALIKE = np.float32(10.0 / 255.0)
"""Samples that differ by less need no other between them."""
_ONE, _ZERO, _HALF = np.float32(1.0), np.float32(0.0), np.float32(0.5)
_RED_OF, _GREEN_OF, _BLUE_OF = np.uint64(0), np.uint64(1), np.uint64(2)
_SLACK = np.float32(0.002)
LANES = 64
"""Samples that light falls on at once."""
_X = np.uint64(0 * LANES)
_Y = np.uint64(1 * LANES)
_DEPTH = np.uint64(2 * LANES)
_NX = np.uint64(3 * LANES)
_NY = np.uint64(4 * LANES)
_NZ = np.uint64(5 * LANES)
_RED = np.uint64(6 * LANES)
_GREEN = np.uint64(7 * LANES)
_BLUE = np.uint64(8 * LANES)
_GLOSS = np.uint64(9 * LANES)
_SHARP = np.uint64(10 * LANES)
_LIGHT_R = np.uint64(11 * LANES)
_LIGHT_G = np.uint64(12 * LANES)
_LIGHT_B = np.uint64(13 * LANES)
_SHINE_R = np.uint64(14 * LANES)
_SHINE_G = np.uint64(15 * LANES)
_SHINE_B = np.uint64(16 * LANES)
_TURNED = np.uint64(17 * LANES)
_GLEAM = np.uint64(18 * LANES)
_PX = np.uint64(19 * LANES)
_PY = np.uint64(20 * LANES)
_PZ = np.uint64(21 * LANES)
LANES_SIZE = 22 * LANES
DEEPEST = np.float32(65534.0)
"""Where each quantity of these samples lies in `Room.lanes`: at fixed distances in one array, so that the compiler takes several
at once."""


class Solids(NamedTuple):
    """The visible geoms of a model as triangles: see `triangles.Triangles`, here with an array for each axis."""

    geoms: NDArray[np.int32]
    first_vertex: NDArray[np.int32]
    first_face: NDArray[np.int32]
    vertices: NDArray[np.float32]
    """[3, V]."""
    faces: NDArray[np.int32]
    """[T, 3]."""
    planes: NDArray[np.float32]
    """Of each triangle its unit normal and its distance from the geom's origin, [T, 4]."""
    normals: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    owner: NDArray[np.int32]
    """Place of each triangle's geom in `geoms`, [T]."""


class Model(NamedTuple):
    """What a picture reads of a model, views of MuJoCo's arrays, and its textures.

    `texels` [P, 4] float32, and of each level of each texture `levels` [textures, L, 3]: first texel, width, height (0: none).
    """

    rbound: NDArray[np.float64]
    rgba: NDArray[np.float32]
    paint: NDArray[np.float32]
    """Red, green, blue, gloss and exponent of each visible geom, [G, 5]."""
    surface: NDArray[np.float32]
    """Texture (-1: none), its repetitions along u and v and its offset, [G, 4]."""
    texels: NDArray[np.float32]
    levels: NDArray[np.int32]


class Room(NamedTuple):
    """Room to work in, overwritten by every picture."""

    moved: NDArray[np.float32]
    """Vertices in the space of a camera, or of a light's map, [3, V]."""
    spots: NDArray[np.float32]
    """Where in the picture they lie [samples], [2, V]."""
    turns: NDArray[np.float32]
    """Camera from geom, [G, 3, 3]."""
    nearness: NDArray[np.float32]
    """One over the depth of each sample [1/m], [m, n]."""
    shown: NDArray[np.int32]
    """The triangle that each sample shows, -1 for none, [m, n]."""
    chosen: NDArray[np.bool_]
    colour: NDArray[np.float32]
    """[m, n, 3]."""
    lanes: NDArray[np.float32]
    """Samples while light falls on them, quantity after quantity: see `LANES`."""
    places: NDArray[np.int32]
    """Where these samples are: row and column, [LANES, 2]."""
    turn: NDArray[np.float32]
    shift: NDArray[np.float32]
    away: NDArray[np.float64]
    local: NDArray[np.float32]
    smooth: NDArray[np.float32]
    uv: NDArray[np.float32]


class Lights(NamedTuple):
    """The lights that shine: towards each in the world [L, 3], colour [L, 3], whether it has a map [L], its texel [L] [m]; their
    maps [L, N, N] and these maps' space from the world's [L, 3, 4]; what the headlight and the background add.
    """

    towards: NDArray[np.float64]
    colour: NDArray[np.float32]
    mapped: NDArray[np.bool_]
    texel: NDArray[np.float32]
    maps: NDArray[np.uint16]
    frames: NDArray[np.float64]
    aims: NDArray[np.float32]
    """Room: towards each light in the space of a camera, [L, 3]."""
    matrices: NDArray[np.float32]
    """Room: each map's space from that of a camera, [L, 3, 4]."""
    ambient: NDArray[np.float32]
    head: NDArray[np.float32]
    background: NDArray[np.float32]


_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""No kernel makes an array: without that nobody counts who holds one, which takes longer than looking into a shadow map."""


def _compiled(function: Callable) -> Any:
    """The function compiled when first called, and kept on disk where numba finds a place for it."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return numba.njit(**_OPTIONS)(function)


_part = numba.njit(forceinline=True, **_OPTIONS)
"""Of another kernel: compiled into it, for a call with arrays costs more than what these do."""


@_part
def _spans_in(a, base, low, high):
    """Narrows [low, high], positions along a row, to where a * x + base >= 0."""
    if a > _ZERO:
        low = max(low, -base / a)
    elif a < _ZERO:
        high = min(high, -base / a)
    elif base < _ZERO:
        high = low - _ONE
    return low, high


@_compiled
def _carry(first, end, row, shift, x, y, z, out):
    """One coordinate of vertices first..end after a rotation, of which this is the row [3], and a shift."""
    rx, ry, rz = row[0], row[1], row[2]
    for v in range(first, end):
        out[v] = rx * x[v] + ry * y[v] + rz * z[v] + shift


@_part
def _transform(place, solids, turn, shift, out):
    """The vertices of a geom after a rotation [3, 3] and a shift [3]: axis by axis, which the compiler does several at once."""
    first, end = solids.first_vertex[place], solids.first_vertex[place + 1]
    x, y, z = solids.vertices[0], solids.vertices[1], solids.vertices[2]
    for axis in range(3):
        _carry(first, end, turn[axis], shift[axis], x, y, z, out[axis])


@_compiled
def _project(first, end, x, z, scale, half, out):
    """Where vertices of camera space lie along an axis of the picture [samples]; nonsense for those behind the camera."""
    for v in range(first, end):
        out[v] = half - x[v] / z[v] * scale


# ---------------------------------------------------------------------------------------------------------------- shadows


@_compiled
def cast(places, rotation, position, rgba, solids, frame, room, shade):
    """Draws the depths of casters along a light into `shade` [N, N], the nearest to it; texel centres are the samples.

    `places` of the casters among the visible geoms; `frame` [3, 4] the map's space from the world's: texels to the right, texels
    upwards, and steps of depth away from the light.
    """
    size = shade.shape[0]
    faces, planes = solids.faces, solids.planes
    xs, ys, zs = room.moved[0], room.moved[1], room.moved[2]
    turn, shift = room.turn, room.shift
    for place in places:
        g = solids.geoms[place]
        if rgba[g, 3] == _ZERO:
            continue
        for i in range(3):
            total = frame[i, 3]
            for k in range(3):
                total += frame[i, k] * position[g, k]
                entry = 0.0
                for m in range(3):
                    entry += frame[i, m] * rotation[g, 3 * m + k]
                turn[i, k] = np.float32(entry)
            shift[i] = np.float32(total)
        _transform(place, solids, turn, shift, room.moved)
        fx, fy, fz = turn[2, 0], turn[2, 1], turn[2, 2]
        for t in range(solids.first_face[place], solids.first_face[place + 1]):
            if planes[t, 0] * fx + planes[t, 1] * fy + planes[t, 2] * fz >= _ZERO:
                continue
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            x0, y0, x1, y1, x2, y2 = xs[a], ys[a], xs[b], ys[b], xs[c], ys[c]
            left, right = np.int64(np.ceil(min(x0, x1, x2))), np.int64(np.floor(max(x0, x1, x2)))
            low, high = np.int64(np.ceil(min(y0, y1, y2))), np.int64(np.floor(max(y0, y1, y2)))
            if left > right or low > high or left < 0 or low < 0 or right >= size or high >= size:
                continue
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            if area <= _ZERO:
                continue
            inverse = _ONE / area
            z0 = zs[a]
            dz1, dz2 = (zs[b] - z0) * inverse, (zs[c] - z0) * inverse
            across = dz1 * (y2 - y0) - dz2 * (y1 - y0)
            along = dz2 * (x1 - x0) - dz1 * (x2 - x0)
            for j in range(low, high + 1):
                y = np.float32(j)
                base0 = (y - y0) * (x1 - x0) + x0 * (y1 - y0)
                base1 = (y - y1) * (x2 - x1) + x1 * (y2 - y1)
                base2 = (y - y2) * (x0 - x2) + x2 * (y0 - y2)
                depth = z0 + along * (y - y0) - across * x0
                first, last = left, right
                if right - left > 5:
                    start, stop = np.float32(left), np.float32(right)
                    start, stop = _spans_in(y0 - y1, base0, start, stop)
                    start, stop = _spans_in(y1 - y2, base1, start, stop)
                    start, stop = _spans_in(y2 - y0, base2, start, stop)
                    first, last = np.int64(np.ceil(start)), np.int64(np.floor(stop))
                    for i in range(first, last + 1):
                        shade[j, i] = min(shade[j, i], np.uint16(np.int32(depth + across * np.float32(i))))
                    continue
                for i in range(first, last + 1):
                    x = np.float32(i)
                    if base0 >= (y1 - y0) * x and base1 >= (y2 - y1) * x and base2 >= (y0 - y2) * x:
                        shade[j, i] = min(shade[j, i], np.uint16(np.int32(depth + across * x)))


@_part
def _row_lit(texels, i, z, part):
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    inner = np.float32(z <= texels[i + one]) + np.float32(z <= texels[i + two])
    return inner + (_ONE - part) * np.float32(z <= texels[i]) + part * np.float32(z <= texels[i + three])


@_part
def _lit(texels, start, size, x, y, z):
    """Share of a light that reaches a point of its map's space: 3 x 3 comparisons, weighted linearly in between (PCF).

    The map is the [size, size] from `start` on. Where six comparisons agree, so do all.
    """
    left, low = np.floor(x), np.floor(y)
    inner = np.float32(size - 3)
    reaches = _ONE
    if left >= _ONE and low >= _ONE and left <= inner and low <= inner:
        width = np.uint64(size)
        i = np.uint64(start) + (np.uint64(np.int64(low)) - np.uint64(1)) * width + np.uint64(np.int64(left)) - np.uint64(1)
        j, k, m = i + width, i + width + width, i + width + width + width
        one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
        z = np.int32(min(max(z, _ZERO), DEEPEST))
        agree = np.uint8(z <= texels[i]) + np.uint8(z <= texels[i + three]) + np.uint8(z <= texels[j + one])
        agree += np.uint8(z <= texels[k + two]) + np.uint8(z <= texels[m]) + np.uint8(z <= texels[m + three])
        if agree == 0:
            reaches = _ZERO
        elif agree < 6:
            fx, fy = x - left, y - low
            total = (_ONE - fy) * _row_lit(texels, i, z, fx) + _row_lit(texels, j, z, fx)
            total += _row_lit(texels, k, z, fx) + fy * _row_lit(texels, m, z, fx)
            reaches = total * np.float32(1.0 / 9.0)
    return reaches


# ------------------------------------------------------------------------------------------------------------- visibility


@_part
def _outside(x, y, ahead, radius, tan_x, tan_y, far):
    """Whether a ball around a point of camera space [m] is out of sight."""
    beside = abs(x) - ahead * tan_x > radius * np.sqrt(1.0 + tan_x * tan_x)
    above = abs(y) - ahead * tan_y > radius * np.sqrt(1.0 + tan_y * tan_y)
    return ahead + radius < 0.0 or ahead - radius > far or beside or above


@_compiled
def see(rotation, position, solids, model, eye, axes, tan_x, tan_y, far, cull, dx, dy, room):
    """Finds the triangle that each sample shows, and one over its depth.

    `eye` [3] and `axes` [3, 3] (columns X, Y, Z) are the camera's; `dx` [n], `dy` [m] the samples' directions at unit depth.
    """
    nearness, shown = room.nearness, room.shown
    rows, columns = nearness.shape
    nearness[:] = np.float32(1.0 / far)
    shown[:] = -1
    half_x, half_y = np.float32(0.5 * (columns - 1)), np.float32(0.5 * (rows - 1))
    scale_x = _ONE / (dx[1] - dx[0])
    scale_y = _ONE / (dy[0] - dy[1])
    turn, shift, away, local = room.turn, room.shift, room.away, room.local
    xs, ys, zs, across, down = room.moved[0], room.moved[1], room.moved[2], room.spots[0], room.spots[1]
    planes, faces = solids.planes, solids.faces
    most_x, most_y = np.float32(columns - 1), np.float32(rows - 1)
    for place in range(len(solids.geoms)):
        g = solids.geoms[place]
        if model.rgba[g, 3] == _ZERO:
            continue
        for i in range(3):
            away[i] = 0.0
            for k in range(3):
                away[i] += axes[k, i] * (position[g, k] - eye[k])
        radius = model.rbound[g]
        if cull and radius > 0.0 and _outside(away[0], away[1], -away[2], radius, tan_x, tan_y, far):
            continue
        for i in range(3):
            here = 0.0
            for k in range(3):
                here += rotation[g, 3 * k + i] * (eye[k] - position[g, k])
                entry = 0.0
                for m in range(3):
                    entry += axes[m, i] * rotation[g, 3 * m + k]
                turn[i, k] = np.float32(entry)
                room.turns[place, i, k] = turn[i, k]
            local[i] = np.float32(here)
            shift[i] = np.float32(away[i])
        _transform(place, solids, turn, shift, room.moved)
        begin, end = solids.first_vertex[place], solids.first_vertex[place + 1]
        _project(begin, end, xs, zs, scale_x, half_x, across)
        _project(begin, end, ys, zs, -scale_y, half_y, down)
        behind = radius == 0.0 or -away[2] - radius < _NEAR
        ex, ey, ez = local[0], local[1], local[2]
        for t in range(solids.first_face[place], solids.first_face[place + 1]):
            if planes[t, 0] * ex + planes[t, 1] * ey + planes[t, 2] * ez <= planes[t, 3]:
                continue  # it shows its back
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            if behind and (zs[a] > -_NEAR or zs[b] > -_NEAR or zs[c] > -_NEAR):
                lowest, highest, top, bottom = _clipped(t, faces, xs, ys, zs, scale_x, scale_y, half_x, half_y)
            else:
                x0, x1, x2, y0, y1, y2 = across[a], across[b], across[c], down[a], down[b], down[c]
                lowest, highest = min(x0, x1, x2), max(x0, x1, x2)
                top, bottom = min(y0, y1, y2), max(y0, y1, y2)
            left = np.int64(np.ceil(max(lowest - _SLACK, _ZERO)))
            right = np.int64(np.floor(min(highest + _SLACK, most_x)))
            first = np.int64(np.ceil(max(top - _SLACK, _ZERO)))
            last = np.int64(np.floor(min(bottom + _SLACK, most_y)))
            if left > right or first > last:
                continue
            xa, ya, za, xb, yb, zb, xc, yc, zc = xs[a], ys[a], zs[a], xs[b], ys[b], zs[b], xs[c], ys[c], zs[c]
            ux, uy, uz, vx, vy, vz = xb - xa, yb - ya, zb - za, xc - xa, yc - ya, zc - za
            nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            distance = nx * xa + ny * ya + nz * za
            if distance >= _ZERO:
                continue
            inverse = _ONE / distance
            nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
            ax, ay, az = yc * zb - zc * yb, zc * xb - xc * zb, xc * yb - yc * xb
            bx, by, bz = ya * zc - za * yc, za * xc - xa * zc, xa * yc - ya * xc
            cx, cy, cz = yb * za - zb * ya, zb * xa - xb * za, xb * ya - yb * xa
            wide = right - left > 7
            for j in range(first, last + 1):
                y = dy[j]
                ea, eb, ec, near_y = ay * y - az, by * y - bz, cy * y - cz, ny * y - nz
                start, stop = left, right
                if wide:
                    low, high = dx[left], dx[right]
                    low, high = _spans_in(ax, ea, low, high)
                    low, high = _spans_in(bx, eb, low, high)
                    low, high = _spans_in(cx, ec, low, high)
                    start = max(left, np.int64(low * scale_x + half_x) - 1)
                    stop = min(right, np.int64(high * scale_x + half_x) + 2)
                for i in range(start, stop + 1):
                    x = dx[i]
                    if ax * x + ea >= _ZERO and bx * x + eb >= _ZERO and cx * x + ec >= _ZERO:
                        near = nx * x + near_y
                        if near >= nearness[j, i] * _TIE and near <= _ONE / _NEAR:
                            nearness[j, i] = near
                            shown[j, i] = t


@_part
def _clipped(t, faces, xs, ys, zs, scale_x, scale_y, half_x, half_y):
    """Bounds in the picture [samples] of the part of a triangle that is before the near plane: empty when there is none."""
    lowest = top = np.float32(1e9)
    highest = bottom = np.float32(-1e9)
    for edge in range(3):
        v, w = faces[t, edge], faces[t, (edge + 1) % 3]
        ahead = zs[v] <= -_NEAR
        if ahead:
            x, y = half_x - xs[v] / zs[v] * scale_x, half_y + ys[v] / zs[v] * scale_y
            lowest, highest, top, bottom = min(lowest, x), max(highest, x), min(top, y), max(bottom, y)
        if ahead != (zs[w] <= -_NEAR):
            part = (-_NEAR - zs[v]) / (zs[w] - zs[v])
            x = half_x + (xs[v] + part * (xs[w] - xs[v])) / _NEAR * scale_x
            y = half_y - (ys[v] + part * (ys[w] - ys[v])) / _NEAR * scale_y
            lowest, highest, top, bottom = min(lowest, x), max(highest, x), min(top, y), max(bottom, y)
    return lowest, highest, top, bottom


# ---------------------------------------------------------------------------------------------------------------- shading


@_part
def _texel(texels, start, width, height, u, v):
    """The colour of a repeating picture at (u, v), linear between its pixels."""
    x = (u - np.floor(u)) * np.float32(width) - _HALF
    y = (v - np.floor(v)) * np.float32(height) - _HALF
    left, top = np.floor(x), np.floor(y)
    fx, fy = x - left, y - top
    i0, j0 = np.int64(left), np.int64(top)
    i1 = i0 + 1 if i0 + 1 < width else 0
    j1 = j0 + 1 if j0 + 1 < height else 0
    i0 = i0 if i0 >= 0 else width - 1
    j0 = j0 if j0 >= 0 else height - 1
    p, q, r, s = start + j0 * width + i0, start + j0 * width + i1, start + j1 * width + i0, start + j1 * width + i1
    wp, wq, wr, ws = (_ONE - fx) * (_ONE - fy), fx * (_ONE - fy), (_ONE - fx) * fy, fx * fy
    red = texels[p, 0] * wp + texels[q, 0] * wq + texels[r, 0] * wr + texels[s, 0] * ws
    green = texels[p, 1] * wp + texels[q, 1] * wq + texels[r, 1] * wr + texels[s, 1] * ws
    blue = texels[p, 2] * wp + texels[q, 2] * wq + texels[r, 2] * wr + texels[s, 2] * ws
    return red, green, blue


@_compiled
def _face(n, lanes, ambient, head):
    """Makes normals unit, and lets ambient light and headlight fall on them; highlights begin at nothing."""
    ambient_r, ambient_g, ambient_b, head_r, head_g, head_b = ambient[0], ambient[1], ambient[2], head[0], head[1], head[2]
    for lane in range(n):
        k = np.uint64(lane)
        length = _ONE / np.sqrt(lanes[_NX + k] * lanes[_NX + k] + lanes[_NY + k] * lanes[_NY + k] + lanes[_NZ + k] * lanes[_NZ + k] + np.float32(1e-30))
        lanes[_NX + k] *= length
        lanes[_NY + k] *= length
        lanes[_NZ + k] *= length
        facing = max(lanes[_NZ + k], _ZERO)
        lanes[_LIGHT_R + k] = ambient_r + head_r * facing
        lanes[_LIGHT_G + k] = ambient_g + head_g * facing
        lanes[_LIGHT_B + k] = ambient_b + head_b * facing
        lanes[_SHINE_R + k] = lanes[_SHINE_G + k] = lanes[_SHINE_B + k] = _ZERO


@_compiled
def _aim(n, lanes, lx, ly, lz, texel, m):
    """How far surfaces turn towards a light, how they mirror it, and where in its map they are to be looked up.

    A point is lifted off its surface, farther the more this slants, so that no texel of its own surface lies above it. Near its
    peak (N . H) ** e is exp(-e * (1 - (N . H) ** 2) / 2), taken as (1 - y / 8) ** 8.
    """
    m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23 = (
        m[0, 0], m[0, 1], m[0, 2], m[0, 3], m[1, 0], m[1, 1], m[1, 2], m[1, 3], m[2, 0], m[2, 1], m[2, 2], m[2, 3],
    )  # fmt: skip
    for lane in range(n):
        k = np.uint64(lane)
        x, y, depth = lanes[_X + k], lanes[_Y + k], lanes[_DEPTH + k]
        nx, ny, nz = lanes[_NX + k], lanes[_NY + k], lanes[_NZ + k]
        toward = nx * lx + ny * ly + nz * lz
        lanes[_TURNED + k] = max(toward, _ZERO)
        back = _ONE / np.sqrt(x * x + y * y + _ONE)
        hx, hy, hz = lx - x * back, ly - y * back, lz + back
        half = max(nx * hx + ny * hy + nz * hz, _ZERO)
        fall = max(_ONE - (_ONE - half * half / (hx * hx + hy * hy + hz * hz)) * lanes[_SHARP + k] * np.float32(1.0 / 16.0), _ZERO)
        fall *= fall
        fall *= fall
        lanes[_GLEAM + k] = fall * fall * lanes[_GLOSS + k] * _MIRROR
        off = texel * (np.float32(0.4) + np.float32(2.2) * np.sqrt(max(_ONE - toward * toward, _ZERO)))
        wx, wy, wz = depth * x + off * nx, depth * y + off * ny, off * nz - depth
        lanes[_PX + k] = m00 * wx + m01 * wy + m02 * wz + m03
        lanes[_PY + k] = m10 * wx + m11 * wy + m12 * wz + m13
        lanes[_PZ + k] = m20 * wx + m21 * wy + m22 * wz + m23


@_compiled
def _look_up(n, lanes, mapped, texels, start, size):
    """How far a light reaches surfaces that turn towards it: this takes the place of where they are in its map."""
    for lane in range(n):
        k = np.uint64(lane)
        reaches = _ONE if lanes[_TURNED + k] > _ZERO else _ZERO
        if mapped and reaches > _ZERO:
            reaches = _lit(texels, start, size, lanes[_PX + k], lanes[_PY + k], lanes[_PZ + k])
        lanes[_PX + k] = reaches


@_compiled
def _add(n, lanes, light_r, light_g, light_b):
    """Adds what a light gives to surfaces that it reaches in this measure."""
    for lane in range(n):
        k = np.uint64(lane)
        weight = lanes[_TURNED + k] * (_SHADOW + (_ONE - _SHADOW) * lanes[_PX + k])
        mirrored = lanes[_GLEAM + k] * lanes[_PX + k]
        lanes[_LIGHT_R + k] += light_r * weight
        lanes[_LIGHT_G + k] += light_g * weight
        lanes[_LIGHT_B + k] += light_b * weight
        lanes[_SHINE_R + k] += light_r * mirrored
        lanes[_SHINE_G + k] += light_g * mirrored
        lanes[_SHINE_B + k] += light_b * mirrored


@_compiled
def _mix(n, lanes):
    """Surfaces in their light, with highlights on top."""
    for lane in range(n):
        k = np.uint64(lane)
        lanes[_RED + k] = min(lanes[_RED + k] * lanes[_LIGHT_R + k] + lanes[_SHINE_R + k], _ONE)
        lanes[_GREEN + k] = min(lanes[_GREEN + k] * lanes[_LIGHT_G + k] + lanes[_SHINE_G + k], _ONE)
        lanes[_BLUE + k] = min(lanes[_BLUE + k] * lanes[_LIGHT_B + k] + lanes[_SHINE_B + k], _ONE)


@_compiled
def shade(start, step, grain, dx, dy, axes, eye, solids, model, lights, room, use_chosen):
    """Writes the colours, 0 to 1, of every `step`-th sample from `start` on; with `use_chosen` only of those in `chosen`.

    There are `grain` samples to the width of a pixel. Surfaces are found sample by sample, then light falls on many at once.
    """
    shown, nearness, colour = room.shown, room.nearness, room.colour
    normals, coordinates, faces = solids.normals, solids.coordinates, solids.faces
    xs, ys, zs = room.moved[0], room.moved[1], room.moved[2]
    lanes, places = room.lanes, room.places
    texels, size = lights.maps.reshape(-1), lights.maps.shape[1]
    count = len(lights.towards)
    aims, matrices = lights.aims, lights.matrices
    for number in range(count):
        for k in range(3):
            aims[number, k] = np.float32(
                lights.towards[number, 0] * axes[0, k]
                + lights.towards[number, 1] * axes[1, k]
                + lights.towards[number, 2] * axes[2, k]
            )
        for i in range(3):
            last_entry = lights.frames[number, i, 3]
            for k in range(3):
                last_entry += lights.frames[number, i, k] * eye[k]
                entry = 0.0
                for m in range(3):
                    entry += lights.frames[number, i, m] * axes[m, k]
                matrices[number, i, k] = np.float32(entry)
            matrices[number, i, 3] = np.float32(last_entry)
    smooth, uv = room.smooth, room.uv
    paint, surface, levels, pixels, turns = model.paint, model.surface, model.levels, model.texels, room.turns
    chosen, owner = room.chosen, solids.owner
    # Of the triangle at hand, each linear in a sample's direction (x, y): weights of corners, and what these weigh.
    ax = ay = az = bx = by = bz = cx = cy = cz = _ZERO
    wide, high = grain * (dx[1] - dx[0]), grain * (dy[1] - dy[0])
    place, texture, last = 0, -1, -1
    background_r, background_g, background_b = lights.background[0], lights.background[1], lights.background[2]
    rows, columns = shown.shape
    j, i = start, start - step
    while j < rows:
        n = 0
        while n < LANES:
            i += step
            if i >= columns:
                i = start
                j += step
                if j >= rows:
                    break
            if use_chosen and not chosen[j, i]:
                continue
            t = shown[j, i]
            if t < 0:
                colour[j, i, 0], colour[j, i, 1], colour[j, i, 2] = background_r, background_g, background_b
                continue
            if t != last:
                last = t
                place = owner[t]
                texture = int(surface[place, 0])
                a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
                xa, ya, za, xb, yb, zb, xc, yc, zc = xs[a], ys[a], zs[a], xs[b], ys[b], zs[b], xs[c], ys[c], zs[c]
                ax, ay, az = yc * zb - zc * yb, zc * xb - xc * zb, xc * yb - yc * xb
                bx, by, bz = ya * zc - za * yc, za * xc - xa * zc, xa * yc - ya * xc
                cx, cy, cz = yb * za - zb * ya, zb * xa - xb * za, xb * ya - yb * xa
                # The scale of a triangle must not decide how long its normals are before they are made unit.
                whole = _ONE / max(abs(xa * ax + ya * ay + za * az), np.float32(1e-30))
                for corner in range(3):
                    for axis in range(3):
                        smooth[corner, axis] = whole * (
                            turns[place, axis, 0] * normals[t, corner, 0]
                            + turns[place, axis, 1] * normals[t, corner, 1]
                            + turns[place, axis, 2] * normals[t, corner, 2]
                        )
                    uv[corner, 0] = coordinates[t, corner, 0] * surface[place, 1] + surface[place, 3]
                    uv[corner, 1] = coordinates[t, corner, 1] * surface[place, 2] + surface[place, 3]
            x, y = dx[i], dy[j]
            k = np.uint64(n)
            ea, eb, ec = ax * x + ay * y - az, bx * x + by * y - bz, cx * x + cy * y - cz
            places[n, 0], places[n, 1] = j, i
            lanes[_X + k], lanes[_Y + k] = x, y
            lanes[_DEPTH + k] = _ONE / nearness[j, i]
            lanes[_NX + k] = ea * smooth[0, 0] + eb * smooth[1, 0] + ec * smooth[2, 0]
            lanes[_NY + k] = ea * smooth[0, 1] + eb * smooth[1, 1] + ec * smooth[2, 1]
            lanes[_NZ + k] = ea * smooth[0, 2] + eb * smooth[1, 2] + ec * smooth[2, 2]
            red, green, blue = paint[place, 0], paint[place, 1], paint[place, 2]
            lanes[_GLOSS + k], lanes[_SHARP + k] = paint[place, 3], paint[place, 4]
            if texture >= 0:
                inverse = _ONE / (ea + eb + ec)
                u = (ea * uv[0, 0] + eb * uv[1, 0] + ec * uv[2, 0]) * inverse
                v = (ea * uv[0, 1] + eb * uv[1, 1] + ec * uv[2, 1]) * inverse
                # How far (u, v) move from this pixel to the next: numerator and denominator are linear in the picture.
                sx, sy = ax + bx + cx, ay + by + cy
                across_u = (ax * uv[0, 0] + bx * uv[1, 0] + cx * uv[2, 0] - u * sx) * (inverse * wide)
                across_v = (ax * uv[0, 1] + bx * uv[1, 1] + cx * uv[2, 1] - v * sx) * (inverse * wide)
                along_u = (ay * uv[0, 0] + by * uv[1, 0] + cy * uv[2, 0] - u * sy) * (inverse * high)
                along_v = (ay * uv[0, 1] + by * uv[1, 1] + cy * uv[2, 1] - v * sy) * (inverse * high)
                edge = np.float32(levels[texture, 0, 1])
                stretch = max(across_u * across_u + across_v * across_v, along_u * along_u + along_v * along_v) * edge * edge
                level = 0
                while stretch > np.float32(2.0) and level + 1 < levels.shape[1] and levels[texture, level + 1, 1] > 0:
                    stretch *= np.float32(0.25)
                    level += 1
                tint = _texel(
                    pixels,
                    np.int64(levels[texture, level, 0]),
                    np.int64(levels[texture, level, 1]),
                    np.int64(levels[texture, level, 2]),
                    u,
                    v,
                )
                red *= tint[0]
                green *= tint[1]
                blue *= tint[2]
            lanes[_RED + k], lanes[_GREEN + k], lanes[_BLUE + k] = red, green, blue
            n += 1
        _face(n, lanes, lights.ambient, lights.head)
        for number in range(count):
            _aim(n, lanes, aims[number, 0], aims[number, 1], aims[number, 2], lights.texel[number], matrices[number])
            _look_up(n, lanes, lights.mapped[number], texels, number * size * size, size)
            _add(n, lanes, lights.colour[number, 0], lights.colour[number, 1], lights.colour[number, 2])
        _mix(n, lanes)
        for lane in range(n):
            k = np.uint64(lane)
            row, column = places[lane, 0], places[lane, 1]
            colour[row, column, 0] = lanes[_RED + k]
            colour[row, column, 1] = lanes[_GREEN + k]
            colour[row, column, 2] = lanes[_BLUE + k]


@_part
def _apart(one, other, owner):
    """Whether two samples that show these triangles show different geoms, or nothing and something."""
    return one != other and (one < 0 or other < 0 or owner[one] != owner[other])


@_part
def _between_two(owner, shown, colour, chosen, j, i, j0, i0, j1, i1):
    """Gives a sample the mean colour of two others, unless it must be chosen."""
    t = shown[j, i]
    differ = _apart(t, shown[j0, i0], owner) or _apart(t, shown[j1, i1], owner)
    if not differ:
        r, g, b = colour[j0, i0, _RED_OF], colour[j0, i0, _GREEN_OF], colour[j0, i0, _BLUE_OF]
        s, h, c = colour[j1, i1, _RED_OF], colour[j1, i1, _GREEN_OF], colour[j1, i1, _BLUE_OF]
        differ = max(abs(r - s), max(abs(g - h), abs(b - c))) > _ALIKE
        colour[j, i, _RED_OF] = _HALF * (r + s)
        colour[j, i, _GREEN_OF] = _HALF * (g + h)
        colour[j, i, _BLUE_OF] = _HALF * (b + c)
    chosen[j, i] = differ


@_compiled
def between(owner, room):
    """Colours of the samples between pixel centres: the mean of two centres beside them, or of two samples above and below.

    Centres are at odd rows and columns and shaded already. A sample whose two neighbours show its own geom in one colour, near
    enough, shows it too and needs no light of its own; all others are marked in `chosen`.
    """
    shown, colour, chosen = room.shown, room.colour, room.chosen
    rows, columns = np.uint64(shown.shape[0]), np.uint64(shown.shape[1])
    one, two = np.uint64(1), np.uint64(2)
    for half in range(rows // two):
        j = two * np.uint64(half) + one
        _between_two(owner, shown, colour, chosen, j, np.uint64(0), j, one, j, one)
        for other in range(one, columns // two):
            i = two * np.uint64(other)
            _between_two(owner, shown, colour, chosen, j, i, j, i - one, j, i + one)
        _between_two(owner, shown, colour, chosen, j, columns - one, j, columns - two, j, columns - two)
    for half in range(rows // two + one):
        j = two * np.uint64(half)
        up, down = j - one if j > 0 else one, j + one if j + one < rows else j - one
        for other in range(columns):
            i = np.uint64(other)
            _between_two(owner, shown, colour, chosen, j, i, up, i, down, i)
            if chosen[up, i] or chosen[down, i]:
                chosen[j, i] = True


@_compiled
def develop(colour, fine, rgb):
    """A picture in bytes: of one sample a pixel, or, `fine`, of each centre and its eight neighbours, weighted 4, 2 and 1."""
    height, width = rgb.shape[0], rgb.shape[1]
    full = np.float32(255.0)
    for row in range(height):
        for column in range(width):
            j, i = (2 * row + 1, 2 * column + 1) if fine else (row, column)
            for k in range(3):
                value = colour[j, i, k]
                if fine:
                    sides = colour[j - 1, i, k] + colour[j + 1, i, k] + colour[j, i - 1, k] + colour[j, i + 1, k]
                    ends = colour[j - 1, i - 1, k] + colour[j - 1, i + 1, k] + colour[j + 1, i - 1, k] + colour[j + 1, i + 1, k]
                    value = np.float32(0.25) * value + np.float32(0.125) * sides + np.float32(0.0625) * ends
                rgb[row, column, k] = np.uint8(value * full + _HALF)


@_compiled
def read(fine, solids, room, depth, geoms):
    """Depths [m] and geoms of the samples that are pixel centres; 0 and -1 where nothing shows."""
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            j, i = (2 * row + 1, 2 * column + 1) if fine else (row, column)
            t = room.shown[j, i]
            depth[row, column] = _ONE / room.nearness[j, i] if t >= 0 else _ZERO
            geoms[row, column] = solids.geoms[solids.owner[t]] if t >= 0 else -1
