"""Kernels of the rasteriser for scenes with a setting: light from an environment map, reflections, and shadows of wide lights."""

# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.physics.raster.parts import DEEPEST, HALF, ONE, ZERO, kernel, part

_TAPS = 6
"""Samples of a soft shadow along each axis."""
_WIDEST = np.float32(11.0)
"""Largest radius of a penumbra [texels]."""
_RED_OF, _GREEN_OF, _BLUE_OF = np.uint64(0), np.uint64(1), np.uint64(2)
_TWO = np.float32(2.0)


class Ambience(NamedTuple):
    """What surrounds a scene, in the world frame. Nothing of it is used while `on[0]` is 0."""

    on: NDArray[np.int64]
    """Whether there is an environment, and whether something is translucent, [2]."""
    diffuse: NDArray[np.float32]
    """Spherical harmonics of the map's irradiance over pi, times its strength, [9, 3]."""
    tables: NDArray[np.float32]
    """Octahedral tables of the map, ever blurrier, [4 * N * N, 3]."""
    size: NDArray[np.int64]
    """N, [1]."""
    numbers: NDArray[np.float32]
    """Strength of the map, cosine and sine of its turn, tangent of the lights' radius, share of a light left in its shadow, [5]."""
    mirror: NDArray[np.float32]
    """Share of light that each visible geom reflects like a metal, [G]."""


@part
def turned(x, y, z, axes):
    """A direction in camera space, in the world frame."""
    return (
        np.float32(axes[0, 0]) * x + np.float32(axes[0, 1]) * y + np.float32(axes[0, 2]) * z,
        np.float32(axes[1, 0]) * x + np.float32(axes[1, 1]) * y + np.float32(axes[1, 2]) * z,
        np.float32(axes[2, 0]) * x + np.float32(axes[2, 1]) * y + np.float32(axes[2, 2]) * z,
    )


@kernel
def face(n, lanes, nx_at, ny_at, nz_at, red_at, green_at, blue_at, axes, around):
    """Replaces the light of each sample, whose normals are of length 1, by that of the environment."""
    d = around.diffuse
    cos, sin = around.numbers[1], around.numbers[2]
    for lane in range(n):
        k = np.uint64(lane)
        wx, wy, z = turned(lanes[nx_at + k], lanes[ny_at + k], lanes[nz_at + k], axes)
        x, y = cos * wx + sin * wy, cos * wy - sin * wx
        b1, b2, b3 = np.float32(0.488603) * x, np.float32(0.488603) * y, np.float32(0.488603) * z
        b4, b5, b6 = np.float32(1.092548) * x * y, np.float32(1.092548) * y * z, np.float32(1.092548) * x * z
        b7 = np.float32(0.315392) * (np.float32(3.0) * z * z - ONE)
        b8 = np.float32(0.546274) * (x * x - y * y)
        b0 = np.float32(0.282095)
        red = b0 * d[0, 0] + b1 * d[1, 0] + b2 * d[2, 0] + b3 * d[3, 0] + b4 * d[4, 0] + b5 * d[5, 0] + b6 * d[6, 0]
        green = b0 * d[0, 1] + b1 * d[1, 1] + b2 * d[2, 1] + b3 * d[3, 1] + b4 * d[4, 1] + b5 * d[5, 1] + b6 * d[6, 1]
        blue = b0 * d[0, 2] + b1 * d[1, 2] + b2 * d[2, 2] + b3 * d[3, 2] + b4 * d[4, 2] + b5 * d[5, 2] + b6 * d[6, 2]
        lanes[red_at + k] = max(red + b7 * d[7, 0] + b8 * d[8, 0], ZERO)
        lanes[green_at + k] = max(green + b7 * d[7, 1] + b8 * d[8, 1], ZERO)
        lanes[blue_at + k] = max(blue + b7 * d[7, 2] + b8 * d[8, 2], ZERO)


@part
def seen(around, level, wx, wy, z):
    """Radiance of the map from a direction in the world frame, in one of its tables, bilinear."""
    size = around.size[0]
    tables = around.tables
    cos, sin = around.numbers[1], around.numbers[2]
    x, y = cos * wx + sin * wy, cos * wy - sin * wx
    whole = ONE / (abs(x) + abs(y) + abs(z) + np.float32(1e-20))
    u, v = x * whole, y * whole
    if z < ZERO:
        folded_u = (ONE - abs(v)) * (ONE if u >= ZERO else -ONE)
        v = (ONE - abs(u)) * (ONE if v >= ZERO else -ONE)
        u = folded_u
    edge = np.float32(size - 1)
    across = min(max((u * HALF + HALF) * np.float32(size) - HALF, ZERO), edge)
    down = min(max((v * HALF + HALF) * np.float32(size) - HALF, ZERO), edge)
    left, top = np.int64(across), np.int64(down)
    fx, fy = across - np.float32(left), down - np.float32(top)
    right, low = min(left + 1, size - 1), min(top + 1, size - 1)
    first = level * size * size
    p, q = np.uint64(first + top * size + left), np.uint64(first + top * size + right)
    r, s = np.uint64(first + low * size + left), np.uint64(first + low * size + right)
    wp, wq, wr, ws = (ONE - fx) * (ONE - fy), fx * (ONE - fy), (ONE - fx) * fy, fx * fy
    strength = around.numbers[0]
    return (
        strength * (tables[p, _RED_OF] * wp + tables[q, _RED_OF] * wq + tables[r, _RED_OF] * wr + tables[s, _RED_OF] * ws),
        strength * (tables[p, _GREEN_OF] * wp + tables[q, _GREEN_OF] * wq + tables[r, _GREEN_OF] * wr + tables[s, _GREEN_OF] * ws),
        strength * (tables[p, _BLUE_OF] * wp + tables[q, _BLUE_OF] * wq + tables[r, _BLUE_OF] * wr + tables[s, _BLUE_OF] * ws),
    )


@kernel
def reflect(n, lanes, at, axes, around):
    """Adds what each sample reflects of the environment: more at grazing angles (Schlick 1994), and all of it in metals.

    `at` are the offsets of x, y, normal (3), colour (3), gloss, sharpness, light (3), shine (3) and mirror in `lanes`.
    """
    for lane in range(n):
        k = np.uint64(lane)
        x, y = lanes[at[0] + k], lanes[at[1] + k]
        nx, ny, nz = lanes[at[2] + k], lanes[at[3] + k], lanes[at[4] + k]
        back = ONE / np.sqrt(x * x + y * y + ONE)
        vx, vy, vz = -x * back, -y * back, back
        facing = max(nx * vx + ny * vy + nz * vz, ZERO)
        grazing = ONE - facing
        power = grazing * grazing
        power = power * power * grazing
        metal, gloss, sharp = lanes[at[16] + k], lanes[at[8] + k], lanes[at[9] + k]
        base = np.float32(0.04) + np.float32(0.9) * metal
        share = gloss * (base + (ONE - base) * power * min(sharp * np.float32(0.02), ONE))
        if share <= np.float32(0.004):
            continue
        level = np.int64(3)
        if sharp > np.float32(600.0):
            level = np.int64(0)
        elif sharp > np.float32(80.0):
            level = np.int64(1)
        elif sharp > np.float32(12.0):
            level = np.int64(2)
        rx, ry, rz = turned(_TWO * facing * nx - vx, _TWO * facing * ny - vy, _TWO * facing * nz - vz, axes)
        red, green, blue = seen(around, level, rx, ry, rz)
        lanes[at[13] + k] += share * red * (ONE - metal + metal * lanes[at[5] + k])
        lanes[at[14] + k] += share * green * (ONE - metal + metal * lanes[at[6] + k])
        lanes[at[15] + k] += share * blue * (ONE - metal + metal * lanes[at[7] + k])
        left = ONE - np.float32(0.75) * metal
        lanes[at[10] + k] *= left
        lanes[at[11] + k] *= left
        lanes[at[12] + k] *= left


@part
def _blocked(texels, start, size, x, y, z):
    """By how much the nearest texel's caster is nearer to the light than depth z; 0 if it is not."""
    i = min(max(np.int64(x + HALF), 0), size - 1)
    j = min(max(np.int64(y + HALF), 0), size - 1)
    return max(z - np.float32(texels[np.uint64(start + j * size + i)]), ZERO)


@kernel
def look_up(n, lanes, turned_at, x_at, y_at, z_at, nx_at, ny_at, nz_at, m, texels, start, size, slope, tangent):
    """Replaces the map coordinates of each sample by the share of a wide light that reaches it.

    Blockers near the sample tell how wide its penumbra is (Fernando 2005). Each texel is compared with the depth of the sample's
    tangent plane there, so that a slanted surface does not shade itself. `m` [3, 4] transforms from camera space to the map,
    `slope` is the depth that one texel measures, and `tangent` that of the light's angular radius.
    """
    for lane in range(n):
        k = np.uint64(lane)
        reaches = ONE if lanes[turned_at + k] > ZERO else ZERO
        if reaches > ZERO:
            x, y = lanes[x_at + k], lanes[y_at + k]
            nx, ny, nz = lanes[nx_at + k], lanes[ny_at + k], lanes[nz_at + k]
            down = min(m[2, 0] * nx + m[2, 1] * ny + m[2, 2] * nz, np.float32(-1e-3))
            steepest = np.float32(3.0) * slope
            gx = -(m[0, 0] * nx + m[0, 1] * ny + m[0, 2] * nz) / down * slope * slope
            gy = -(m[1, 0] * nx + m[1, 1] * ny + m[1, 2] * nz) / down * slope * slope
            gx, gy = min(max(gx, -steepest), steepest), min(max(gy, -steepest), steepest)
            z = min(max(lanes[z_at + k], ZERO), DEEPEST) - np.float32(0.3) * (slope + abs(gx) + abs(gy))
            inside = x >= ZERO and y >= ZERO and x <= np.float32(size - 1) and y <= np.float32(size - 1)
            found, total = 0, ZERO
            if inside:
                for j in range(4):
                    for i in range(4):
                        over = (np.float32(i) - np.float32(1.5)) * np.float32(4.0)
                        up = (np.float32(j) - np.float32(1.5)) * np.float32(4.0)
                        ahead = _blocked(texels, start, size, x + over, y + up, z + gx * over + gy * up)
                        if ahead > ZERO:
                            found += 1
                            total += ahead
            # Where no neighbour blocks, the light arrives; where all do, the sample may still be in a wide penumbra.
            if found > 0:
                radius = min(max(total / np.float32(found) / slope * tangent, ONE), _WIDEST)
                step = radius * np.float32(2.0 / (_TAPS - 1))
                lit = 0
                for j in range(_TAPS):
                    for i in range(_TAPS):
                        over, up = np.float32(i) * step - radius, np.float32(j) * step - radius
                        if _blocked(texels, start, size, x + over, y + up, z + gx * over + gy * up) <= ZERO:
                            lit += 1
                reaches = np.float32(lit) * np.float32(1.0 / (_TAPS * _TAPS))
        lanes[x_at + k] = reaches


@kernel
def keep(colour, behind):
    """Copies colours [m, n, 3]; a plain assignment of arrays would need numba's memory manager."""
    for j in range(colour.shape[0]):
        for i in range(colour.shape[1]):
            for c in range(3):
                behind[j, i, c] = colour[j, i, c]


@kernel
def veil(rgba, owner, geoms, shown, colour, behind):
    """Mixes what is seen through translucent geoms, `behind`, with their own colours."""
    for j in range(shown.shape[0]):
        for i in range(shown.shape[1]):
            t = shown[j, i]
            if t < 0:
                continue
            opacity = rgba[geoms[owner[t]], 3]
            if opacity < ONE:
                for c in range(3):
                    colour[j, i, c] = opacity * colour[j, i, c] + (ONE - opacity) * behind[j, i, c]


def plain(geoms: int) -> Ambience:
    """No ambience, for this many visible geoms."""
    return Ambience(
        on=np.zeros(2, np.int64),
        diffuse=np.zeros((9, 3), np.float32),
        tables=np.zeros((4, 3), np.float32),
        size=np.ones(1, np.int64),
        numbers=np.array((0.0, 1.0, 0.0, 0.0, 0.3), np.float32),
        mirror=np.zeros(geoms, np.float32),
    )
