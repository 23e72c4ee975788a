"""Kernels of the rasteriser that shade the visible samples."""

# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

import numpy as np

from embodichain.physics.raster import ambience, smoothing
from embodichain.physics.raster.parts import DEEPEST, HALF, LANES, ONE, ZERO, kernel, part

SHADOW = np.float32(0.3)
"""Share of a light that remains in its shadow."""
MIRROR = np.float32(0.45)
"""Share of a light that a fully specular material reflects at the centre of a highlight."""
_DEFAULT_SPECULAR, _DEFAULT_SHININESS = np.float32(0.5), np.float32(0.5)
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
_MIRROR = np.uint64(22 * LANES)
_OF_REFLECTION = (_X, _Y, _NX, _NY, _NZ, _RED, _GREEN, _BLUE, _GLOSS, _SHARP)
_OF_REFLECTION += (_LIGHT_R, _LIGHT_G, _LIGHT_B, _SHINE_R, _SHINE_G, _SHINE_B, _MIRROR)
# Texture coordinates are no longer needed where points in a map are: they share places.
_U, _V, _LEVEL = _PX, _PY, _PZ
_FIRST, _SECOND, _THIRD, _FOURTH = np.uint64(0), np.uint64(LANES), np.uint64(2 * LANES), np.uint64(3 * LANES)
"""Offset of each quantity in `Room.lanes`. Constant offsets into one array let the compiler vectorise the loops over samples."""
_RED_OF, _GREEN_OF, _BLUE_OF = np.uint64(0), np.uint64(1), np.uint64(2)


@kernel
def read_surfaces(solids, materials, skins):
    """Reads the colour, specular strength and texture of every visible geom from the model."""
    paint, surface = skins.paint, skins.surface
    for place in range(len(solids.geoms)):
        g = solids.geoms[place]
        material = materials.geom_matid[g]
        red, green, blue = solids.rgba[g, 0], solids.rgba[g, 1], solids.rgba[g, 2]
        gloss, shininess, surface[place, 0] = _DEFAULT_SPECULAR, _DEFAULT_SHININESS, -ONE
        exponent = shininess * np.float32(128.0)
        if material >= 0:
            if red == HALF and green == HALF and blue == HALF and solids.rgba[g, 3] == ONE:  # MuJoCo's default: use the material's
                red, green, blue = materials.rgba[material, 0], materials.rgba[material, 1], materials.rgba[material, 2]
            gloss = materials.specular[material]
            exponent = materials.shininess[material] * np.float32(128.0)
            roughness = materials.roughness[material]
            if roughness >= ZERO:  # converts roughness to a Phong exponent (Karis 2013)
                square = max(roughness * roughness, np.float32(0.03))
                exponent = max(np.float32(2.0) / (square * square) - np.float32(2.0), ONE)
            surface[place, 0] = np.float32(materials.texid[material, 1])
            kind = 1 if materials.texuniform[material] else 0
            surface[place, 1] = materials.texrepeat[material, 0] * materials.stretch[place, kind, 0]
            surface[place, 2] = materials.texrepeat[material, 1] * materials.stretch[place, kind, 1]
            surface[place, 3] = materials.offset[place]
        paint[place, 0], paint[place, 1], paint[place, 2], paint[place, 3], paint[place, 4] = red, green, blue, gloss, exponent


@part
def _row_lit(texels, i, z, part):
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    inner = np.float32(z <= texels[i + one]) + np.float32(z <= texels[i + two])
    return inner + (ONE - part) * np.float32(z <= texels[i]) + part * np.float32(z <= texels[i + three])


@part
def _lit(texels, start, size, x, y, z):
    """Share of a light that reaches a point in its map's space: percentage-closer filtering, 3 x 3 texels with linear weights.

    The map is the [size, size] texels from `start` on.
    """
    left, low = np.floor(x), np.floor(y)
    inner = np.float32(size - 3)
    reaches = ONE
    if left >= ONE and low >= ONE and left <= inner and low <= inner:
        width = np.uint64(size)
        i = np.uint64(start) + (np.uint64(np.int64(low)) - np.uint64(1)) * width + np.uint64(np.int64(left)) - np.uint64(1)
        j, k, m = i + width, i + width + width, i + width + width + width
        one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
        z = np.int32(min(max(z, ZERO), DEEPEST))
        # Away from shadow edges, all 16 texels agree. Six spread samples decide that well enough, and skip the filter.
        agree = np.uint8(z <= texels[i]) + np.uint8(z <= texels[i + three]) + np.uint8(z <= texels[j + one])
        agree += np.uint8(z <= texels[k + two]) + np.uint8(z <= texels[m]) + np.uint8(z <= texels[m + three])
        if agree == 0:
            reaches = ZERO
        elif agree < 6:
            fx, fy = x - left, y - low
            total = (ONE - fy) * _row_lit(texels, i, z, fx) + _row_lit(texels, j, z, fx)
            total += _row_lit(texels, k, z, fx) + fy * _row_lit(texels, m, z, fx)
            reaches = total * np.float32(1.0 / 9.0)
    return reaches


@kernel
def _face(n, lanes, ambient, head):
    """Normalises normals, and initialises light with the ambient light and headlight, and highlights with zero."""
    ambient_r, ambient_g, ambient_b, head_r, head_g, head_b = ambient[0], ambient[1], ambient[2], head[0], head[1], head[2]
    for lane in range(n):
        k = np.uint64(lane)
        length = ONE / np.sqrt(
            lanes[_NX + k] * lanes[_NX + k] + lanes[_NY + k] * lanes[_NY + k] + lanes[_NZ + k] * lanes[_NZ + k] + np.float32(1e-30)
        )
        lanes[_NX + k] *= length
        lanes[_NY + k] *= length
        lanes[_NZ + k] *= length
        facing = max(lanes[_NZ + k], ZERO)
        lanes[_LIGHT_R + k] = ambient_r + head_r * facing
        lanes[_LIGHT_G + k] = ambient_g + head_g * facing
        lanes[_LIGHT_B + k] = ambient_b + head_b * facing
        lanes[_SHINE_R + k] = lanes[_SHINE_G + k] = lanes[_SHINE_B + k] = ZERO


@kernel
def _aim(n, lanes, lx, ly, lz, texel, m):
    """Computes diffuse and specular factors of a light, and the point at which to look up its shadow map.

    To avoid self-shadowing, the point is moved off its surface, farther on slanted surfaces. The Blinn-Phong highlight
    (N . H) ** e is approximated by exp(-y) with y = e * (1 - (N . H) ** 2) / 2, and that by (1 - y / 8) ** 8.
    """
    m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23 = (
        m[0, 0], m[0, 1], m[0, 2], m[0, 3], m[1, 0], m[1, 1], m[1, 2], m[1, 3], m[2, 0], m[2, 1], m[2, 2], m[2, 3],
    )  # fmt: skip
    for lane in range(n):
        k = np.uint64(lane)
        # (x, y, -1) is the ray through the sample at depth 1; times depth it is the point in camera space.
        x, y, depth = lanes[_X + k], lanes[_Y + k], lanes[_DEPTH + k]
        nx, ny, nz = lanes[_NX + k], lanes[_NY + k], lanes[_NZ + k]
        toward = nx * lx + ny * ly + nz * lz
        lanes[_TURNED + k] = max(toward, ZERO)
        back = ONE / np.sqrt(x * x + y * y + ONE)
        hx, hy, hz = lx - x * back, ly - y * back, lz + back
        half = max(nx * hx + ny * hy + nz * hz, ZERO)
        fall = max(ONE - (ONE - half * half / (hx * hx + hy * hy + hz * hz)) * lanes[_SHARP + k] * np.float32(1.0 / 16.0), ZERO)
        fall *= fall
        fall *= fall
        lanes[_GLEAM + k] = fall * fall * lanes[_GLOSS + k] * MIRROR
        off = texel * (np.float32(0.4) + np.float32(2.2) * np.sqrt(max(ONE - toward * toward, ZERO)))
        wx, wy, wz = depth * x + off * nx, depth * y + off * ny, off * nz - depth
        lanes[_PX + k] = m00 * wx + m01 * wy + m02 * wz + m03
        lanes[_PY + k] = m10 * wx + m11 * wy + m12 * wz + m13
        lanes[_PZ + k] = m20 * wx + m21 * wy + m22 * wz + m23


@kernel
def _look_up(n, lanes, mapped, texels, start, size):
    """Replaces the map coordinates of each sample by the share of the light that reaches it."""
    # Lookups jump in memory and cannot be vectorised: they have a loop of their own, so that `_aim` and `_add` can be.
    for lane in range(n):
        k = np.uint64(lane)
        reaches = ONE if lanes[_TURNED + k] > ZERO else ZERO
        if mapped and reaches > ZERO:
            reaches = _lit(texels, start, size, lanes[_PX + k], lanes[_PY + k], lanes[_PZ + k])
        lanes[_PX + k] = reaches


@kernel
def _add(n, lanes, light_r, light_g, light_b, remains):
    """Adds the diffuse and specular light of one light to each sample; a share of it `remains` in its shadow."""
    for lane in range(n):
        k = np.uint64(lane)
        weight = lanes[_TURNED + k] * (remains + (ONE - remains) * lanes[_PX + k])
        mirrored = lanes[_GLEAM + k] * lanes[_PX + k]
        lanes[_LIGHT_R + k] += light_r * weight
        lanes[_LIGHT_G + k] += light_g * weight
        lanes[_LIGHT_B + k] += light_b * weight
        lanes[_SHINE_R + k] += light_r * mirrored
        lanes[_SHINE_G + k] += light_g * mirrored
        lanes[_SHINE_B + k] += light_b * mirrored


@kernel
def _mix(n, lanes):
    """Multiplies surface colours by their light and adds highlights."""
    for lane in range(n):
        k = np.uint64(lane)
        lanes[_RED + k] = min(lanes[_RED + k] * lanes[_LIGHT_R + k] + lanes[_SHINE_R + k], ONE)
        lanes[_GREEN + k] = min(lanes[_GREEN + k] * lanes[_LIGHT_G + k] + lanes[_SHINE_G + k], ONE)
        lanes[_BLUE + k] = min(lanes[_BLUE + k] * lanes[_LIGHT_B + k] + lanes[_SHINE_B + k], ONE)


@kernel
def aim(axes, eye, lights):
    """Computes each light's direction, and the transformation to its shadow map, from camera space."""
    aims, matrices = lights.aims, lights.matrices
    for number in range(lights.count[0]):
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


@part
def _cover(n, run, lanes, y, ax, ay, az, bx, by, bz, cx, cy, cz, smooth, paint):
    """Writes the interpolated normals and the colours of `run` samples of one triangle and one row, from lane `n` on."""
    ax_, ay_, az_ = smooth[0, 0], smooth[0, 1], smooth[0, 2]
    bx_, by_, bz_ = smooth[1, 0], smooth[1, 1], smooth[1, 2]
    cx_, cy_, cz_ = smooth[2, 0], smooth[2, 1], smooth[2, 2]
    red, green, blue, gloss, sharp = paint[0], paint[1], paint[2], paint[3], paint[4]
    for lane in range(n, n + run):
        k = np.uint64(lane)
        x = lanes[_X + k]
        lanes[_Y + k] = y
        ea, eb, ec = ax * x + ay * y - az, bx * x + by * y - bz, cx * x + cy * y - cz
        lanes[_NX + k] = ea * ax_ + eb * bx_ + ec * cx_
        lanes[_NY + k] = ea * ay_ + eb * by_ + ec * cy_
        lanes[_NZ + k] = ea * az_ + eb * bz_ + ec * cz_
        lanes[_RED + k], lanes[_GREEN + k], lanes[_BLUE + k] = red, green, blue
        lanes[_GLOSS + k], lanes[_SHARP + k] = gloss, sharp


@part
def _wrap(n, run, lanes, y, ax, ay, az, bx, by, bz, cx, cy, cz, uv, wide, high, edge):
    """Writes the texture coordinates of the same samples, and the mipmap level that suits each of them, if there are so many.

    A sample is `wide` and `high`; the texture has `edge` texels along u.
    """
    ua, ub, uc, va, vb, vc = uv[0, 0], uv[1, 0], uv[2, 0], uv[0, 1], uv[1, 1], uv[2, 1]
    # Derivatives of (u, v) by the quotient rule: numerator and denominator are linear in (x, y).
    sx, sy = ax + bx + cx, ay + by + cy
    ux, vx = ax * ua + bx * ub + cx * uc, ax * va + bx * vb + cx * vc
    uy, vy = ay * ua + by * ub + cy * uc, ay * va + by * vb + cy * vc
    for lane in range(n, n + run):
        k = np.uint64(lane)
        x = lanes[_X + k]
        ea, eb, ec = ax * x + ay * y - az, bx * x + by * y - bz, cx * x + cy * y - cz
        inverse = ONE / (ea + eb + ec)
        u, v = (ea * ua + eb * ub + ec * uc) * inverse, (ea * va + eb * vb + ec * vc) * inverse
        across_u, across_v = (ux - u * sx) * (inverse * wide), (vx - v * sx) * (inverse * wide)
        along_u, along_v = (uy - u * sy) * (inverse * high), (vy - v * sy) * (inverse * high)
        across, along = across_u * across_u + across_v * across_v, along_u * along_u + along_v * along_v
        # Texels that the sample spans, squared. Each further level has a quarter of them; two or fewer are left.
        span = max(across, along) * edge * edge
        level = np.float32(span > np.float32(2.0)) + np.float32(span > np.float32(8.0)) + np.float32(span > np.float32(32.0))
        level += np.float32(span > np.float32(128.0)) + np.float32(span > np.float32(512.0))
        level += np.float32(span > np.float32(2048.0)) + np.float32(span > np.float32(8192.0))
        lanes[_U + k], lanes[_V + k], lanes[_LEVEL + k] = u, v, level


@part
def _find_texels(n, end, lanes, corners, start, width, height):
    """Finds the four texels around each of the samples n..end in one mipmap level, and the weights of the right and lower ones.

    They begin at texel `start`. Texture coordinates become weights, the texels go to `corners` [4, LANES]; textures repeat.
    """
    wide, high = np.float32(width), np.float32(height)
    for lane in range(n, end):
        k = np.uint64(lane)
        u, v = lanes[_U + k], lanes[_V + k]
        x, y = (u - np.floor(u)) * wide - HALF, (v - np.floor(v)) * high - HALF
        left, top = np.floor(x), np.floor(y)
        lanes[_U + k], lanes[_V + k] = x - left, y - top
        i0, j0 = np.int32(left), np.int32(top)
        i1, j1 = i0 + np.int32(1), j0 + np.int32(1)
        i0, j0 = i0 if i0 >= 0 else np.int32(width - 1), j0 if j0 >= 0 else np.int32(height - 1)
        i1, j1 = i1 if i1 < width else np.int32(0), j1 if j1 < height else np.int32(0)
        upper, lower = np.int32(start + j0 * width), np.int32(start + j1 * width)
        corners[_FIRST + k], corners[_SECOND + k] = np.int32(upper + i0), np.int32(upper + i1)
        corners[_THIRD + k], corners[_FOURTH + k] = np.int32(lower + i0), np.int32(lower + i1)


@part
def _paint(n, run, lanes, levels, texels, corners):
    """Multiplies the colours of these samples by their texture, with bilinear interpolation in the mipmap level of each."""
    deepest = 0
    while deepest + 1 < levels.shape[0] and levels[deepest + 1, 1] > 0:
        deepest += 1
    end = n + run
    begin = n
    while begin < end:  # neighbours mostly take the same level
        level = lanes[_LEVEL + np.uint64(begin)]
        stop = begin + 1
        while stop < end and lanes[_LEVEL + np.uint64(stop)] == level:
            stop += 1
        taken = min(np.int64(level), deepest)
        _find_texels(begin, stop, lanes, corners, levels[taken, 0], levels[taken, 1], levels[taken, 2])
        begin = stop
    for lane in range(n, end):
        k = np.uint64(lane)
        fx, fy = lanes[_U + k], lanes[_V + k]
        wp, wq, wr, ws = (ONE - fx) * (ONE - fy), fx * (ONE - fy), (ONE - fx) * fy, fx * fy
        p, q, r, s = corners[_FIRST + k], corners[_SECOND + k], corners[_THIRD + k], corners[_FOURTH + k]
        p, q, r, s = np.uint64(p), np.uint64(q), np.uint64(r), np.uint64(s)
        red = texels[p, _RED_OF] * wp + texels[q, _RED_OF] * wq + texels[r, _RED_OF] * wr + texels[s, _RED_OF] * ws
        green = texels[p, _GREEN_OF] * wp + texels[q, _GREEN_OF] * wq + texels[r, _GREEN_OF] * wr + texels[s, _GREEN_OF] * ws
        blue = texels[p, _BLUE_OF] * wp + texels[q, _BLUE_OF] * wq + texels[r, _BLUE_OF] * wr + texels[s, _BLUE_OF] * ws
        lanes[_RED + k] *= red
        lanes[_GREEN + k] *= green
        lanes[_BLUE + k] *= blue


@kernel
def shade(start, step, grain, axes, eye, solids, skins, lights, around, room, use_chosen):
    """Writes the colours, 0 to 1, of every `step`-th sample from `start` on; with `use_chosen`, only of those in `chosen`.

    A pixel is `grain` samples wide. Samples are collected one by one until LANES of them can be shaded together.
    """
    shown, nearness, colour, dx, dy = room.shown, room.nearness, room.colour, room.dx, room.dy
    normals, coordinates, faces = skins.normals, skins.coordinates, solids.faces
    xs, ys, zs = room.moved[0], room.moved[1], room.moved[2]
    lanes, places = room.lanes, room.places
    texels, size = lights.maps.reshape(-1), lights.maps.shape[1]
    count = lights.count[0]
    aims, matrices = lights.aims, lights.matrices
    aim(axes, eye, lights)
    smooth, uv = room.smooth, room.uv
    paint, surface, levels, pixels, turns = skins.paint, skins.surface, skins.levels, skins.texels, room.turns
    chosen, owner = room.chosen, solids.owner
    lit, remains = around.on[0] != 0, around.numbers[4]
    # Edge functions of the current triangle, linear in a sample's ray (x, y): they are the unnormalised weights of its corners.
    ax = ay = az = bx = by = bz = cx = cy = cz = ZERO
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
                if lit:
                    wx, wy, wz = ambience.turned(dx[i], dy[j], -ONE, axes)
                    red, green, blue = ambience.seen(around, 0, wx, wy, wz)
                    colour[j, i, 0], colour[j, i, 1], colour[j, i, 2] = min(red, ONE), min(green, ONE), min(blue, ONE)
                continue
            if t != last:  # neighbouring samples mostly show the same triangle: set it up only once
                last = t
                place = owner[t]
                texture = int(surface[place, 0])
                a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
                xa, ya, za, xb, yb, zb, xc, yc, zc = xs[a], ys[a], zs[a], xs[b], ys[b], zs[b], xs[c], ys[c], zs[c]
                ax, ay, az = yc * zb - zc * yb, zc * xb - xc * zb, xc * yb - yc * xb
                bx, by, bz = ya * zc - za * yc, za * xc - xa * zc, xa * yc - ya * xc
                cx, cy, cz = yb * za - zb * ya, zb * xa - xb * za, xb * ya - yb * xa
                # The edge functions grow with the triangle's volume: divide by it, so that normals stay within the range of
                # float32.
                whole = ONE / max(abs(xa * ax + ya * ay + za * az), np.float32(1e-30))
                for corner in range(3):
                    for axis in range(3):
                        smooth[corner, axis] = whole * (
                            turns[place, axis, 0] * normals[t, corner, 0]
                            + turns[place, axis, 1] * normals[t, corner, 1]
                            + turns[place, axis, 2] * normals[t, corner, 2]
                        )
                    uv[corner, 0] = coordinates[t, corner, 0] * surface[place, 1] + surface[place, 3]
                    uv[corner, 1] = coordinates[t, corner, 1] * surface[place, 2] + surface[place, 3]
            # The samples that follow in this row and show the same triangle need no set-up of their own.
            run = 1
            while n + run < LANES and i + run * step < columns and shown[j, i + run * step] == t:
                if use_chosen and not chosen[j, i + run * step]:
                    break
                run += 1
            for m in range(run):
                places[n + m, 0], places[n + m, 1] = j, i + m * step
                lanes[_X + np.uint64(n + m)] = dx[i + m * step]
                lanes[_DEPTH + np.uint64(n + m)] = ONE / nearness[j, i + m * step]
            y = dy[j]
            _cover(n, run, lanes, y, ax, ay, az, bx, by, bz, cx, cy, cz, smooth, paint[place])
            if texture >= 0:
                edge = np.float32(levels[texture, 0, 1])
                _wrap(n, run, lanes, y, ax, ay, az, bx, by, bz, cx, cy, cz, uv, wide, high, edge)
                _paint(n, run, lanes, levels[texture], pixels, room.corners)
            if lit:
                for m in range(run):
                    lanes[_MIRROR + np.uint64(n + m)] = around.mirror[place]
            i += (run - 1) * step
            n += run
        _face(n, lanes, lights.ambient, lights.head)
        if lit:
            ambience.face(n, lanes, _NX, _NY, _NZ, _LIGHT_R, _LIGHT_G, _LIGHT_B, axes, around)
        for number in range(count):
            _aim(n, lanes, aims[number, 0], aims[number, 1], aims[number, 2], lights.texel[number], matrices[number])
            if lit and lights.mapped[number]:
                # The depth of the map that is as long as one of its texels is wide.
                depth = lights.frames[number, 2]
                unit = np.sqrt(depth[0] * depth[0] + depth[1] * depth[1] + depth[2] * depth[2])
                slope = np.float32(unit * lights.texel[number])
                ambience.look_up(
                    n, lanes, _TURNED, _PX, _PY, _PZ, _NX, _NY, _NZ, matrices[number], texels, number * size * size, size, slope,
                    around.numbers[3],
                )  # fmt: skip
            else:
                _look_up(n, lanes, lights.mapped[number], texels, number * size * size, size)
            _add(n, lanes, lights.colour[number, 0], lights.colour[number, 1], lights.colour[number, 2], remains)
        if lit:
            ambience.reflect(n, lanes, _OF_REFLECTION, axes, around)
        _mix(n, lanes)
        for lane in range(n):
            k = np.uint64(lane)
            row, column = places[lane, 0], places[lane, 1]
            colour[row, column, 0] = lanes[_RED + k]
            colour[row, column, 1] = lanes[_GREEN + k]
            colour[row, column, 2] = lanes[_BLUE + k]


@kernel
def colour(fine, axes, eye, solids, skins, lights, around, room):
    """Shades the samples that `visibility.see` found."""
    if fine:
        # Shade the centres first; of the samples between them, only those at edges of geoms or colours need shading.
        shade(1, 2, np.float32(2.0), axes, eye, solids, skins, lights, around, room, False)
        smoothing.between(solids.owner, room)
        shade(0, 1, np.float32(2.0), axes, eye, solids, skins, lights, around, room, True)
    else:
        shade(0, 1, ONE, axes, eye, solids, skins, lights, around, room, False)
