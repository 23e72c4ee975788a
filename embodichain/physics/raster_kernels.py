"""Kernels of the rasteriser: shadow maps, visibility and shading. One file, because numba's cache watches each file alone.

Frames are right-handed: a camera looks along -Z with X to the right and Y up; a light looks along -Z of its own frame. What a
sample shows is found with homogeneous edge functions (Olano and Greer 1997): a point p_j x p_k of camera space says on which side
of an edge a ray lies, wherever its ends are, so nothing is cut at the near plane. Single thread, no fast arithmetic: the same bits
in any process on one kind of processor.
"""

# ruff: noqa: ANN001, ANN202  (numba infers the types)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_NEAR = np.float32(0.001)
"""Nothing nearer to a camera is drawn [m]."""
_TIE = np.float32(1.0 - 2e-6)
"""Of two surfaces whose depths differ by less the later geom shows, as by the ray caster."""
_SHADOW = np.float32(0.3)
"""What a shadow leaves of a light."""
_GLOSS = np.float32(0.45)
"""Share of a light that a wholly specular material mirrors at the centre of the highlight."""
_ONE, _ZERO, _HALF = np.float32(1.0), np.float32(0.0), np.float32(0.5)


def _compiled(function: Callable) -> Any:
    """The function compiled when first called, and kept on disk where numba finds a place for it."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder that it may write to
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compiled
def _spans_in(a, base, low, high):
    """Narrows [low, high], positions along a row, to where a * x + base >= 0."""
    if a > _ZERO:
        low = max(low, -base / a)
    elif a < _ZERO:
        high = min(high, -base / a)
    elif base < _ZERO:
        high = low - _ONE
    return low, high


# ---------------------------------------------------------------------------------------------------------------- shadows


@_compiled
def cast(geoms, rotation, position, rgba, numbers, first_vertex, first_face, vertices, faces, frame, grid, moved, shade):
    """Draws the depths of casters along a light into `shade` [N, N], nearest first found; texel centres are the samples.

    `geoms` are the casters, places in the list of visible geoms; `frame` [3, 3] the light's axes in the world as rows (right, up,
    forward); `grid` (lowest right, lowest up, texel) [m]; `moved` [V, 3] room for vertices.
    """
    size = shade.shape[0]
    for place in geoms:
        if rgba[numbers[place], 3] == _ZERO:
            continue
        turn = np.empty((3, 3), np.float32)
        shift = np.empty(3, np.float32)
        for i in range(3):
            scale = 1.0 / grid[2] if i < 2 else 1.0
            start = grid[i] if i < 2 else 0.0
            total = 0.0
            for k in range(3):
                total += frame[i, k] * position[numbers[place], k]
                entry = 0.0
                for m in range(3):
                    entry += frame[i, m] * rotation[numbers[place], 3 * m + k]
                turn[i, k] = np.float32(entry * scale)
            shift[i] = np.float32((total - start) * scale - (0.5 if i < 2 else 0.0))
        for v in range(first_vertex[place], first_vertex[place + 1]):
            x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
            for i in range(3):
                moved[v, i] = turn[i, 0] * x + turn[i, 1] * y + turn[i, 2] * z + shift[i]
        for t in range(first_face[place], first_face[place + 1]):
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            x0, y0, x1, y1, x2, y2 = moved[a, 0], moved[a, 1], moved[b, 0], moved[b, 1], moved[c, 0], moved[c, 1]
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            if area <= _ZERO:
                continue
            left = max(int(np.ceil(min(x0, x1, x2))), 0)
            right = min(int(np.floor(max(x0, x1, x2))), size - 1)
            low = max(int(np.ceil(min(y0, y1, y2))), 0)
            high = min(int(np.floor(max(y0, y1, y2))), size - 1)
            if left > right or low > high:
                continue
            z0 = moved[a, 2]
            dz1, dz2 = (moved[b, 2] - z0) / area, (moved[c, 2] - z0) / area
            across = dz1 * (y2 - y0) - dz2 * (y1 - y0)
            along = dz2 * (x1 - x0) - dz1 * (x2 - x0)
            for j in range(low, high + 1):
                y = np.float32(j)
                base0 = (y - y0) * (x1 - x0) + x0 * (y1 - y0)
                base1 = (y - y1) * (x2 - x1) + x1 * (y2 - y1)
                base2 = (y - y2) * (x0 - x2) + x2 * (y0 - y2)
                first, last = np.float32(left), np.float32(right)
                first, last = _spans_in(y0 - y1, base0, first, last)
                first, last = _spans_in(y1 - y2, base1, first, last)
                first, last = _spans_in(y2 - y0, base2, first, last)
                depth = z0 + along * (y - y0) - across * x0
                for i in range(int(np.ceil(first)), int(np.floor(last)) + 1):
                    z = depth + across * np.float32(i)
                    if z < shade[j, i]:
                        shade[j, i] = z


@_compiled
def _lit(shade, x, y, z):
    """Share of a light that reaches a point of its map's space: 3 x 3 comparisons, weighted linearly in between (PCF)."""
    size = shade.shape[0]
    i, j = int(np.floor(x)), int(np.floor(y))
    if i < 1 or j < 1 or i > size - 3 or j > size - 3:
        return _ONE
    corners = 0
    if z <= shade[j - 1, i - 1]:
        corners += 1
    if z <= shade[j - 1, i + 2]:
        corners += 1
    if z <= shade[j + 2, i - 1]:
        corners += 1
    if z <= shade[j + 2, i + 2]:
        corners += 1
    if z <= shade[j, i]:
        corners += 1
    if z <= shade[j + 1, i + 1]:
        corners += 1
    if corners == 6:
        return _ONE
    if corners == 0:
        return _ZERO
    fx, fy = x - np.float32(i), y - np.float32(j)
    total = _ZERO
    for row in range(4):
        weight = _ONE - fy if row == 0 else (fy if row == 3 else _ONE)
        line = _ZERO
        if z <= shade[j + row - 1, i - 1]:
            line += _ONE - fx
        if z <= shade[j + row - 1, i]:
            line += _ONE
        if z <= shade[j + row - 1, i + 1]:
            line += _ONE
        if z <= shade[j + row - 1, i + 2]:
            line += fx
        total += weight * line
    return total * np.float32(1.0 / 9.0)


# ------------------------------------------------------------------------------------------------------------- visibility


@_compiled
def _outside(centre, radius, tan_x, tan_y, far):
    """Whether a ball of camera space [m] is out of sight."""
    ahead = -centre[2]
    if ahead + radius < 0.0 or ahead - radius > far:
        return True
    if abs(centre[0]) - ahead * tan_x > radius * np.sqrt(1.0 + tan_x * tan_x):
        return True
    return abs(centre[1]) - ahead * tan_y > radius * np.sqrt(1.0 + tan_y * tan_y)


@_compiled
def see(
    rotation, position, rbound, rgba, numbers, first_vertex, first_face, vertices, faces,
    eye, axes, tan_x, tan_y, far, cull, dx, dy, moved, spots, turns, nearness, shown,
):  # fmt: skip
    """Finds the triangle that each sample shows, and the inverse of its depth.

    `eye` [3] and `axes` [3, 3] (columns X, Y, Z) are the camera's; `dx` [n], `dy` [m] the samples' directions at unit depth.
    Fills `moved` [V, 3] (camera space), `spots` [V, 2] (sample coordinates), `turns` [G, 3, 3]
    (camera from geom) of the geoms in sight, `nearness` [m, n] and `shown` [m, n] (-1: nothing).
    """
    rows, columns = nearness.shape
    nearness[:] = np.float32(1.0 / far)
    shown[:] = -1
    half_x, half_y = np.float32(0.5 * (columns - 1)), np.float32(0.5 * (rows - 1))
    scale_x = np.float32(1.0) / (dx[1] - dx[0])
    scale_y = np.float32(1.0) / (dy[0] - dy[1])
    turn = np.empty((3, 3), np.float32)
    centre = np.empty(3)
    for place in range(len(numbers)):
        g = numbers[place]
        if rgba[g, 3] == _ZERO:
            continue
        for i in range(3):
            centre[i] = 0.0
            for k in range(3):
                centre[i] += axes[k, i] * (position[g, k] - eye[k])
        if cull and rbound[g] > 0.0 and _outside(centre, rbound[g], tan_x, tan_y, far):
            continue
        for i in range(3):
            for k in range(3):
                entry = 0.0
                for m in range(3):
                    entry += axes[m, i] * rotation[g, 3 * m + k]
                turn[i, k] = np.float32(entry)
                turns[place, i, k] = turn[i, k]
        shift_x, shift_y, shift_z = np.float32(centre[0]), np.float32(centre[1]), np.float32(centre[2])
        for v in range(first_vertex[place], first_vertex[place + 1]):
            lx, ly, lz = vertices[v, 0], vertices[v, 1], vertices[v, 2]
            x = turn[0, 0] * lx + turn[0, 1] * ly + turn[0, 2] * lz + shift_x
            y = turn[1, 0] * lx + turn[1, 1] * ly + turn[1, 2] * lz + shift_y
            z = turn[2, 0] * lx + turn[2, 1] * ly + turn[2, 2] * lz + shift_z
            moved[v, 0], moved[v, 1], moved[v, 2] = x, y, z
            if z < -_NEAR:
                inverse = _ONE / -z
                spots[v, 0] = x * inverse * scale_x + half_x
                spots[v, 1] = half_y - y * inverse * scale_y
        for t in range(first_face[place], first_face[place + 1]):
            _see_triangle(t, faces, moved, spots, dx, dy, scale_x, scale_y, half_x, half_y, nearness, shown)


@_compiled
def _see_triangle(t, faces, moved, spots, dx, dy, scale_x, scale_y, half_x, half_y, nearness, shown):
    rows, columns = nearness.shape
    a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
    za, zb, zc = moved[a, 2], moved[b, 2], moved[c, 2]
    ahead = (1 if za < -_NEAR else 0) + (1 if zb < -_NEAR else 0) + (1 if zc < -_NEAR else 0)
    if ahead == 3:
        x0, x1, x2 = spots[a, 0], spots[b, 0], spots[c, 0]
        y0, y1, y2 = spots[a, 1], spots[b, 1], spots[c, 1]
        lowest, highest = min(x0, x1, x2), max(x0, x1, x2)
        top, bottom = min(y0, y1, y2), max(y0, y1, y2)
        if (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0) >= np.float32(1e-4):  # rows run downwards: it shows its back
            return
    elif ahead == 0:
        return
    else:
        lowest = top = np.float32(1e9)
        highest = bottom = np.float32(-1e9)
        for edge in range(3):
            v, w = faces[t, edge], faces[t, (edge + 1) % 3]
            if moved[v, 2] < -_NEAR:
                lowest, highest = min(lowest, spots[v, 0]), max(highest, spots[v, 0])
                top, bottom = min(top, spots[v, 1]), max(bottom, spots[v, 1])
            if (moved[v, 2] < -_NEAR) != (moved[w, 2] < -_NEAR):
                part = (-_NEAR - moved[v, 2]) / (moved[w, 2] - moved[v, 2])
                x = half_x + (moved[v, 0] + part * (moved[w, 0] - moved[v, 0])) / _NEAR * scale_x
                y = half_y - (moved[v, 1] + part * (moved[w, 1] - moved[v, 1])) / _NEAR * scale_y
                lowest, highest = min(lowest, x), max(highest, x)
                top, bottom = min(top, y), max(bottom, y)
    slack = np.float32(0.002)
    left = int(np.ceil(max(lowest - slack, _ZERO)))
    right = int(np.floor(min(highest + slack, np.float32(columns - 1))))
    first = int(np.ceil(max(top - slack, _ZERO)))
    last = int(np.floor(min(bottom + slack, np.float32(rows - 1))))
    if left > right or first > last:
        return
    xa, ya, xb, yb, xc, yc = moved[a, 0], moved[a, 1], moved[b, 0], moved[b, 1], moved[c, 0], moved[c, 1]
    ux, uy, uz = xb - xa, yb - ya, zb - za
    vx, vy, vz = xc - xa, yc - ya, zc - za
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    distance = nx * xa + ny * ya + nz * za
    if distance >= _ZERO:
        return
    inverse = _ONE / distance
    nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
    ax, ay, az = yc * zb - zc * yb, zc * xb - xc * zb, xc * yb - yc * xb
    bx, by, bz = ya * zc - za * yc, za * xc - xa * zc, xa * yc - ya * xc
    cx, cy, cz = yb * za - zb * ya, zb * xa - xb * za, xb * ya - yb * xa
    nearest = _ONE / _NEAR
    wide = right - left > 7
    for j in range(first, last + 1):
        y = dy[j]
        ea, eb, ec = ay * y - az, by * y - bz, cy * y - cz
        ez = ny * y - nz
        begin, end = left, right
        if wide:
            low, high = dx[left], dx[right]
            low, high = _spans_in(ax, ea, low, high)
            low, high = _spans_in(bx, eb, low, high)
            low, high = _spans_in(cx, ec, low, high)
            if high - low < -_ONE:
                continue
            begin = max(left, int(low * scale_x + half_x) - 1)
            end = min(right, int(high * scale_x + half_x) + 2)
        for i in range(begin, end + 1):
            x = dx[i]
            if ax * x + ea >= _ZERO and bx * x + eb >= _ZERO and cx * x + ec >= _ZERO:
                near = nx * x + ez
                if near >= nearness[j, i] * _TIE and near <= nearest:
                    nearness[j, i] = near
                    shown[j, i] = t


# ---------------------------------------------------------------------------------------------------------------- shading


@_compiled
def _texel(texels, start, width, height, u, v, out):
    """Adds nothing: writes the colour of a repeating picture at (u, v), linear between its pixels."""
    x = u * np.float32(width) - _HALF
    y = v * np.float32(height) - _HALF
    i, j = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - np.float32(i), y - np.float32(j)
    i0, j0 = i % width, j % height
    i1, j1 = (i0 + 1) % width, (j0 + 1) % height
    p00, p01 = start + j0 * width + i0, start + j0 * width + i1
    p10, p11 = start + j1 * width + i0, start + j1 * width + i1
    for k in range(3):
        upper = np.float32(texels[p00, k]) * (_ONE - fx) + np.float32(texels[p01, k]) * fx
        lower = np.float32(texels[p10, k]) * (_ONE - fx) + np.float32(texels[p11, k]) * fx
        out[k] = (upper * (_ONE - fy) + lower * fy) * np.float32(1.0 / 255.0)


@_compiled
def shade(
    start, step, grain, dx, dy, shown, nearness, owner, faces, moved, turns, normals, coordinates, paint, surface,
    texels, levels, ambient, head, lights, light_to_map, maps, background, chosen, use_chosen, colour,
):  # fmt: skip
    """Writes the colours, 0 to 1, of every `step`-th sample from `start` on into `colour`, float32 [m, n, 3].

    There are `grain` samples to the width of a pixel.
    `owner` [T] places of geoms; `paint` [G, 5] red, green, blue, gloss and exponent; `surface` [G, 4] texture
    (-1: none), its two repetitions and offset; `levels` [textures, levels, 3] first texel, width, height (0: no such level);
    `lights` [L, 8] towards it in camera space, its colour, its map or -1, and a texel [m]; `light_to_map` [L, 3, 4] map space from
    camera space. With `use_chosen` only samples where `chosen` is set are written.
    """
    count = len(lights)
    last = -1
    tint = np.empty(3, np.float32)
    ax = ay = az = bx = by = bz = cx = cy = cz = _ZERO
    place = 0
    smooth = np.empty((3, 3), np.float32)
    uv = np.empty((3, 2), np.float32)
    level_of = 0
    rows, columns = shown.shape
    for j in range(start, rows, step):
        y = dy[j]
        for i in range(start, columns, step):
            if use_chosen and not chosen[j, i]:
                continue
            t = shown[j, i]
            if t < 0:
                for k in range(3):
                    colour[j, i, k] = background[k]
                continue
            x = dx[i]
            if t != last:
                last = t
                place = owner[t]
                a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
                xa, ya, za = moved[a, 0], moved[a, 1], moved[a, 2]
                xb, yb, zb = moved[b, 0], moved[b, 1], moved[b, 2]
                xc, yc, zc = moved[c, 0], moved[c, 1], moved[c, 2]
                ax, ay, az = yc * zb - zc * yb, zc * xb - xc * zb, xc * yb - yc * xb
                bx, by, bz = ya * zc - za * yc, za * xc - xa * zc, xa * yc - ya * xc
                cx, cy, cz = yb * za - zb * ya, zb * xa - xb * za, xb * ya - yb * xa
                for corner in range(3):
                    for k in range(3):
                        smooth[corner, k] = (
                            turns[place, k, 0] * normals[t, corner, 0]
                            + turns[place, k, 1] * normals[t, corner, 1]
                            + turns[place, k, 2] * normals[t, corner, 2]
                        )
                    uv[corner, 0] = coordinates[t, corner, 0] * surface[place, 1] + surface[place, 3]
                    uv[corner, 1] = coordinates[t, corner, 1] * surface[place, 2] + surface[place, 3]
            ea, eb, ec = ax * x + ay * y - az, bx * x + by * y - bz, cx * x + cy * y - cz
            total = ea + eb + ec
            inverse = _ONE / total
            pa, pb, pc = ea * inverse, eb * inverse, ec * inverse
            nx = pa * smooth[0, 0] + pb * smooth[1, 0] + pc * smooth[2, 0]
            ny = pa * smooth[0, 1] + pb * smooth[1, 1] + pc * smooth[2, 1]
            nz = pa * smooth[0, 2] + pb * smooth[1, 2] + pc * smooth[2, 2]
            length = _ONE / max(np.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-20))
            nx, ny, nz = nx * length, ny * length, nz * length
            red, green, blue = paint[place, 0], paint[place, 1], paint[place, 2]
            texture = int(surface[place, 0])
            if texture >= 0:
                u = pa * uv[0, 0] + pb * uv[1, 0] + pc * uv[2, 0]
                v = pa * uv[0, 1] + pb * uv[1, 1] + pc * uv[2, 1]
                # How far (u, v) move from this pixel to the next: numerator and denominator are linear in the picture.
                wide, high = grain * (dx[1] - dx[0]) * inverse, grain * (dy[1] - dy[0]) * inverse
                sx, sy = ax + bx + cx, ay + by + cy
                across_u = (ax * uv[0, 0] + bx * uv[1, 0] + cx * uv[2, 0] - u * sx) * wide
                across_v = (ax * uv[0, 1] + bx * uv[1, 1] + cx * uv[2, 1] - v * sx) * wide
                along_u = (ay * uv[0, 0] + by * uv[1, 0] + cy * uv[2, 0] - u * sy) * high
                along_v = (ay * uv[0, 1] + by * uv[1, 1] + cy * uv[2, 1] - v * sy) * high
                size = np.float32(levels[texture, 0, 1])
                stretch = max(across_u * across_u + across_v * across_v, along_u * along_u + along_v * along_v) * size * size
                level_of = 0
                while stretch > np.float32(2.0) and level_of + 1 < levels.shape[1] and levels[texture, level_of + 1, 1] > 0:
                    stretch *= np.float32(0.25)
                    level_of += 1
                _texel(texels, levels[texture, level_of, 0], levels[texture, level_of, 1], levels[texture, level_of, 2], u, v, tint)
                red, green, blue = red * tint[0], green * tint[1], blue * tint[2]
            facing = max(nz, _ZERO)
            light_r = ambient[0] + head[0] * facing
            light_g = ambient[1] + head[1] * facing
            light_b = ambient[2] + head[2] * facing
            shine_r = shine_g = shine_b = _ZERO
            depth = _ONE / nearness[j, i]
            for number in range(count):
                lx, ly, lz = lights[number, 0], lights[number, 1], lights[number, 2]
                turned = nx * lx + ny * ly + nz * lz
                if turned <= _ZERO:
                    continue
                reaches = _ONE
                if lights[number, 6] >= _ZERO:
                    off = lights[number, 7] * (np.float32(0.4) + np.float32(2.2) * np.sqrt(max(_ONE - turned * turned, _ZERO)))
                    px, py, pz = depth * x + off * nx, depth * y + off * ny, off * nz - depth
                    m = light_to_map[number]
                    reaches = _lit(
                        maps[int(lights[number, 6])],
                        m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3],
                        m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3],
                        m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3],
                    )
                weight = turned * (_SHADOW + (_ONE - _SHADOW) * reaches)
                light_r += lights[number, 3] * weight
                light_g += lights[number, 4] * weight
                light_b += lights[number, 5] * weight
                if paint[place, 3] > _ZERO and reaches > _ZERO:
                    back = _ONE / np.sqrt(x * x + y * y + _ONE)
                    hx, hy, hz = lx - x * back, ly - y * back, lz + back
                    half = nx * hx + ny * hy + nz * hz
                    square = half * half / (hx * hx + hy * hy + hz * hz)
                    # (N . H) ** exponent, where it is not too dark to be seen: 1 - s bounds the logarithm of s.
                    if half > _ZERO and (_ONE - square) * paint[place, 4] < np.float32(14.0):
                        gleam = _GLOSS * paint[place, 3] * reaches * np.float32(square ** (_HALF * paint[place, 4]))
                        shine_r += lights[number, 3] * gleam
                        shine_g += lights[number, 4] * gleam
                        shine_b += lights[number, 5] * gleam
            colour[j, i, 0] = min(red * light_r + shine_r, _ONE)
            colour[j, i, 1] = min(green * light_g + shine_g, _ONE)
            colour[j, i, 2] = min(blue * light_b + shine_b, _ONE)


@_compiled
def between(shown, owner, colour, chosen):
    """Colours of the samples between pixel centres: the mean of the nearest centres where these agree; the others are chosen.

    Centres are at odd rows and columns and shaded already. A sample whose centres show one geom in one colour, near enough, shows it
    too and needs no light of its own; all others are marked in `chosen`.
    """
    rows, columns = shown.shape
    tolerance = np.float32(6.0 / 255.0)
    for j in range(rows):
        for i in range(columns):
            chosen[j, i] = False
            if j % 2 == 1 and i % 2 == 1:
                continue
            j0, j1 = (j, j) if j % 2 == 1 else (j - 1, j + 1)
            i0, i1 = (i, i) if i % 2 == 1 else (i - 1, i + 1)
            if j0 < 0 or i0 < 0 or j1 >= rows or i1 >= columns:
                chosen[j, i] = True
                continue
            mine = owner[shown[j, i]] if shown[j, i] >= 0 else -1
            same = True
            for jj in (j0, j1):
                for ii in (i0, i1):
                    if (owner[shown[jj, ii]] if shown[jj, ii] >= 0 else -1) != mine:
                        same = False
            if same:
                for k in range(3):
                    a, b, c, d = colour[j0, i0, k], colour[j0, i1, k], colour[j1, i0, k], colour[j1, i1, k]
                    if max(a, b, c, d) - min(a, b, c, d) > tolerance:
                        same = False
                        break
                    colour[j, i, k] = (a + b + c + d) * np.float32(0.25)
            chosen[j, i] = not same


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
def read(shown, nearness, owner, numbers, start, step, depth, geoms):
    """Depths [m] and geoms of the samples that are pixel centres; 0 and -1 where nothing shows."""
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            j, i = start + step * row, start + step * column
            t = shown[j, i]
            depth[row, column] = _ONE / nearness[j, i] if t >= 0 else _ZERO
            geoms[row, column] = numbers[owner[t]] if t >= 0 else -1
