# ruff: noqa: D103, RUF046, UP018 (a number that changes in a loop is declared by its type)
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportAssignmentType=false, reportAttributeAccessIssue=false, reportReturnType=false
"""The Warp kernel that shades visible samples and writes final pictures: `raster.shading` and the film, one thread for each pixel.

It computes the same as `raster.shading`, `Film.expose` and `noise.develop`, in the same order and without fused products.
"""

from __future__ import annotations

import warp as wp

from embodichain.physics import noise
from embodichain.physics.raster import parts, shading
from embodichain.physics.warp.drawing import Plane, corner, nearness, set_up

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

SHADOW = wp.constant(float(shading.SHADOW))
MIRROR = wp.constant(float(shading.MIRROR))
DEEPEST = wp.constant(float(parts.DEEPEST))
STEP, FIRST, SECOND = (wp.constant(wp.uint64(value)) for value in (noise.STEP, noise.FIRST, noise.SECOND))
MEAN = wp.constant(wp.int64(noise.MEAN))
HALF = wp.constant(wp.int64(1 << (noise.BITS - 1)))
BITS = wp.constant(wp.int64(noise.BITS))


@wp.func
def reached(texel: int, z: int) -> float:
    return wp.where(z <= texel, 1.0, 0.0)


@wp.func
def row_lit(maps: wp.array4d[int], frame: int, light: int, j: int, i: int, z: int, part: float) -> float:
    inner = reached(maps[frame, light, j, i + 1], z) + reached(maps[frame, light, j, i + 2], z)
    return inner + (1.0 - part) * reached(maps[frame, light, j, i], z) + part * reached(maps[frame, light, j, i + 3], z)


@wp.func
def lit(maps: wp.array4d[int], frame: int, light: int, p: wp.vec3) -> float:
    """As `shading._lit`. Where all 16 texels agree, the filter would give almost 0 or 1, so it is skipped here as on the CPU."""
    left, low = wp.floor(p[0]), wp.floor(p[1])
    inner = float(maps.shape[2] - 3)
    # Outside the map nothing can cast a shadow, because the map covers all casters.
    if not (left >= 1.0 and low >= 1.0 and left <= inner and low <= inner):
        return 1.0
    i, j = int(left) - 1, int(low) - 1
    z = int(wp.min(wp.max(p[2], 0.0), DEEPEST))
    agree = reached(maps[frame, light, j, i], z) + reached(maps[frame, light, j, i + 3], z)
    agree += reached(maps[frame, light, j + 1, i + 1], z) + reached(maps[frame, light, j + 2, i + 2], z)
    agree += reached(maps[frame, light, j + 3, i], z) + reached(maps[frame, light, j + 3, i + 3], z)
    if agree == 0.0:
        return 0.0
    if agree == 6.0:
        return 1.0
    fx, fy = p[0] - left, p[1] - low
    total = (1.0 - fy) * row_lit(maps, frame, light, j, i, z, fx) + row_lit(maps, frame, light, j + 1, i, z, fx)
    total += row_lit(maps, frame, light, j + 2, i, z, fx) + fy * row_lit(maps, frame, light, j + 3, i, z, fx)
    return total * (1.0 / 9.0)


@wp.func
def texel(texels: wp.array[wp.vec4], level: wp.vec3i, u: float, v: float) -> wp.vec3:
    start, width, height = level[0], level[1], level[2]
    x = (u - wp.floor(u)) * float(width) - 0.5
    y = (v - wp.floor(v)) * float(height) - 0.5
    left, top = wp.floor(x), wp.floor(y)
    fx, fy = x - left, y - top
    i0, j0 = int(left), int(top)
    # Textures repeat, so the neighbour beyond the border is on the opposite side.
    i1 = wp.where(i0 + 1 < width, i0 + 1, 0)
    j1 = wp.where(j0 + 1 < height, j0 + 1, 0)
    i0 = wp.where(i0 >= 0, i0, width - 1)
    j0 = wp.where(j0 >= 0, j0, height - 1)
    p, q = texels[start + j0 * width + i0], texels[start + j0 * width + i1]
    r, s = texels[start + j1 * width + i0], texels[start + j1 * width + i1]
    wp_, wq, wr, ws = (1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy
    return wp.vec3(
        p[0] * wp_ + q[0] * wq + r[0] * wr + s[0] * ws,
        p[1] * wp_ + q[1] * wq + r[1] * wr + s[1] * ws,
        p[2] * wp_ + q[2] * wq + r[2] * wr + s[2] * ws,
    )


@wp.func
def mixed(moment: wp.uint64, place: int) -> wp.int64:
    """The noise of a value, as in `noise.develop`."""
    drawn = moment + wp.uint64(place + 1) * STEP
    drawn = (drawn ^ (drawn >> wp.uint64(30))) * FIRST
    drawn = (drawn ^ (drawn >> wp.uint64(27))) * SECOND
    drawn = drawn ^ (drawn >> wp.uint64(31))
    total = wp.uint64(0)
    for _ in range(8):
        total += drawn & wp.uint64(255)
        drawn = drawn >> wp.uint64(8)
    return wp.int64(total) - MEAN


@wp.func
def developed(value: float, gain: float, whole: wp.int64, amplitude: wp.int64, moment: wp.uint64, place: int) -> wp.uint8:
    """The byte in the final picture for a colour value, 0 to 1."""
    byte = int(value * 255.0 + 0.5)
    if amplitude == wp.int64(0):
        return wp.uint8(wp.rint(wp.min(wp.max(float(byte) * gain, 0.0), 255.0)))
    shifted = (wp.int64(byte) * whole + mixed(moment, place) * amplitude + HALF) >> BITS
    return wp.uint8(wp.min(wp.max(shifted, wp.int64(0)), wp.int64(255)))


@wp.func
def ground(
    plane: Plane,
    x: float,
    y: float,
    size: wp.vec2,
    uv_a: wp.vec2,
    uv_b: wp.vec2,
    uv_c: wp.vec2,
    texture: int,
    levels: wp.array2d[wp.vec3i],
    texels: wp.array[wp.vec4],
) -> wp.vec3:
    """The colour of a texture where a ray hits a triangle, from the mipmap level with sufficient resolution."""
    a = plane.a[0] * x + plane.a[1] * y - plane.a[2]
    b = plane.b[0] * x + plane.b[1] * y - plane.b[2]
    c = plane.c[0] * x + plane.c[1] * y - plane.c[2]
    inverse = 1.0 / (a + b + c)
    u = (a * uv_a[0] + b * uv_b[0] + c * uv_c[0]) * inverse
    v = (a * uv_a[1] + b * uv_b[1] + c * uv_c[1]) * inverse
    sx, sy = plane.a[0] + plane.b[0] + plane.c[0], plane.a[1] + plane.b[1] + plane.c[1]
    across_u = (plane.a[0] * uv_a[0] + plane.b[0] * uv_b[0] + plane.c[0] * uv_c[0] - u * sx) * (inverse * size[0])
    across_v = (plane.a[0] * uv_a[1] + plane.b[0] * uv_b[1] + plane.c[0] * uv_c[1] - v * sx) * (inverse * size[0])
    along_u = (plane.a[1] * uv_a[0] + plane.b[1] * uv_b[0] + plane.c[1] * uv_c[0] - u * sy) * (inverse * size[1])
    along_v = (plane.a[1] * uv_a[1] + plane.b[1] * uv_b[1] + plane.c[1] * uv_c[1] - v * sy) * (inverse * size[1])
    edge = float(levels[texture, 0][1])
    stretch = wp.max(across_u * across_u + across_v * across_v, along_u * along_u + along_v * along_v) * edge * edge
    level = int(0)
    # Up to the level at which a pixel spans at most 1.4 texels: a finer one flickers, a coarser one blurs.
    while stretch > 2.0 and level + 1 < levels.shape[1] and levels[texture, level + 1][1] > 0:
        stretch *= 0.25
        level += 1
    return texel(texels, levels[texture, level], u, v)


@wp.kernel
def shade(
    start: int,
    cameras: int,
    num_frames: int,
    faces: wp.array2d[wp.uint32],
    vertices: wp.array[wp.vec3],
    normals: wp.array2d[wp.vec3],
    coordinates: wp.array2d[wp.vec2],
    owner: wp.array[wp.uint32],
    labels: wp.array[wp.uint8],
    paint: wp.array2d[float],
    surface: wp.array[wp.vec4],
    texels: wp.array[wp.vec4],
    levels: wp.array2d[wp.vec3i],
    ambient: wp.vec3,
    head: wp.vec3,
    background: wp.vec3,
    seen: wp.array2d[wp.uint8],
    turns: wp.array2d[wp.mat33],
    shifts: wp.array2d[wp.vec3],
    scales: wp.array[wp.vec4],
    dx: wp.array2d[float],
    dy: wp.array2d[float],
    aims: wp.array2d[wp.vec3],
    matrices: wp.array4d[float],
    count: wp.array[int],
    colours: wp.array2d[wp.vec3],
    mapped: wp.array2d[wp.uint8],
    grain: wp.array2d[float],
    maps: wp.array4d[int],
    gain: wp.array[float],
    whole: wp.array[wp.int64],
    amplitude: wp.array[wp.int64],
    moment: wp.array[wp.uint64],
    shown: wp.array3d[int],
    rgb: wp.array2d[wp.uint8],
    depth: wp.array2d[float],
    segmentation: wp.array2d[wp.uint8],
) -> None:
    """Writes one pixel of a view into rgb [F, C h w 3], depth and segmentation [F, C h w]; the last two may be empty.

    `start` is the index of the first of these frames in all arrays except `shown` and `maps`.
    """
    view, j, i = wp.tid()
    v = start * cameras + view
    # Arrays of the whole shot are indexed by frame, working memory only by place in this batch (`chart`, `view`).
    frame = start + view // cameras
    chart = view // cameras
    place = ((view % cameras) * shown.shape[1] + j) * shown.shape[2] + i
    if frame >= num_frames:
        return
    t = shown[view, j, i]
    colour = background
    away = float(0.0)
    label = wp.uint8(0)
    if t >= 0:
        g = int(owner[t])
        turn = turns[v, g]
        va = corner(v, g, vertices[int(faces[t, 0])], turns, shifts)
        vb = corner(v, g, vertices[int(faces[t, 1])], turns, shifts)
        vc = corner(v, g, vertices[int(faces[t, 2])], turns, shifts)
        # The plane is computed again instead of stored: memory for each triangle in each view would cost more than this.
        plane = set_up(va, vb, vc, seen[v, g] == wp.uint8(2), scales[v], dx.shape[1], dy.shape[1])
        x = dx[v, i]
        y = dy[v, j]
        away = 1.0 / nearness(plane, x, y)
        label = labels[g]
        a = plane.a[0] * x + plane.a[1] * y - plane.a[2]
        b = plane.b[0] * x + plane.b[1] * y - plane.b[2]
        c = plane.c[0] * x + plane.c[1] * y - plane.c[2]
        # Edge functions grow with this volume: divided by it, normals stay within the range of float32.
        volume = wp.abs(va[0] * plane.a[0] + va[1] * plane.a[1] + va[2] * plane.a[2])
        share = 1.0 / wp.max(volume, 1e-30)
        n = wp.vec3(0.0)
        for axis in range(3):
            at_a = share * (turn[axis, 0] * normals[t, 0][0] + turn[axis, 1] * normals[t, 0][1] + turn[axis, 2] * normals[t, 0][2])
            at_b = share * (turn[axis, 0] * normals[t, 1][0] + turn[axis, 1] * normals[t, 1][1] + turn[axis, 2] * normals[t, 1][2])
            at_c = share * (turn[axis, 0] * normals[t, 2][0] + turn[axis, 1] * normals[t, 2][1] + turn[axis, 2] * normals[t, 2][2])
            n[axis] = a * at_a + b * at_b + c * at_c
        tint = wp.vec3(paint[g, 0], paint[g, 1], paint[g, 2])
        look = surface[g]
        if int(look[0]) >= 0:
            uv_a = wp.vec2(coordinates[t, 0][0] * look[1] + look[3], coordinates[t, 0][1] * look[2] + look[3])
            uv_b = wp.vec2(coordinates[t, 1][0] * look[1] + look[3], coordinates[t, 1][1] * look[2] + look[3])
            uv_c = wp.vec2(coordinates[t, 2][0] * look[1] + look[3], coordinates[t, 2][1] * look[2] + look[3])
            size = wp.vec2(dx[v, 1] - dx[v, 0], dy[v, 1] - dy[v, 0])
            pattern = ground(plane, x, y, size, uv_a, uv_b, uv_c, int(look[0]), levels, texels)
            tint = wp.vec3(tint[0] * pattern[0], tint[1] * pattern[1], tint[2] * pattern[2])
        length = 1.0 / wp.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2] + 1e-30)
        n = wp.vec3(n[0] * length, n[1] * length, n[2] * length)
        facing = wp.max(n[2], 0.0)
        light = wp.vec3(ambient[0] + head[0] * facing, ambient[1] + head[1] * facing, ambient[2] + head[2] * facing)
        shine = wp.vec3(0.0)
        back = 1.0 / wp.sqrt(x * x + y * y + 1.0)
        for number in range(count[frame]):
            aim = aims[v, number]
            toward = n[0] * aim[0] + n[1] * aim[1] + n[2] * aim[2]
            h = wp.vec3(aim[0] - x * back, aim[1] - y * back, aim[2] + back)
            half = wp.max(n[0] * h[0] + n[1] * h[1] + n[2] * h[2], 0.0)
            square = h[0] * h[0] + h[1] * h[1] + h[2] * h[2]
            fall = wp.max(1.0 - (1.0 - half * half / square) * paint[g, 4] * (1.0 / 16.0), 0.0)
            # (1 - y / 8) ** 8 by three squarings, the approximation of exp(-y) that `shading._aim` uses too.
            fall *= fall
            fall *= fall
            gleam = fall * fall * paint[g, 3] * MIRROR
            # The point is moved off its surface before it is looked up, or the surface would shadow itself.
            off = grain[frame, number] * (0.4 + 2.2 * wp.sqrt(wp.max(1.0 - toward * toward, 0.0)))
            w = wp.vec3(away * x + off * n[0], away * y + off * n[1], off * n[2] - away)
            p = wp.vec3(0.0)
            for k in range(3):
                p[k] = (
                    matrices[v, number, k, 0] * w[0]
                    + matrices[v, number, k, 1] * w[1]
                    + matrices[v, number, k, 2] * w[2]
                    + matrices[v, number, k, 3]
                )
            reaches = wp.where(toward > 0.0, 1.0, 0.0)
            if mapped[frame, number] != wp.uint8(0) and reaches > 0.0:
                reaches = lit(maps, chart, number, p)
            weight = wp.max(toward, 0.0) * (SHADOW + (1.0 - SHADOW) * reaches)
            mirrored = gleam * reaches
            lamp = colours[frame, number]
            light = wp.vec3(light[0] + lamp[0] * weight, light[1] + lamp[1] * weight, light[2] + lamp[2] * weight)
            shine = wp.vec3(shine[0] + lamp[0] * mirrored, shine[1] + lamp[1] * mirrored, shine[2] + lamp[2] * mirrored)
        colour = wp.vec3(
            wp.min(tint[0] * light[0] + shine[0], 1.0),
            wp.min(tint[1] * light[1] + shine[1], 1.0),
            wp.min(tint[2] * light[2] + shine[2], 1.0),
        )
    for k in range(3):
        at = 3 * place + k
        rgb[frame, at] = developed(colour[k], gain[frame], whole[frame], amplitude[frame], moment[frame], at)
    if depth.shape[0] > 0:
        depth[frame, place] = away
    if segmentation.shape[0] > 0:
        segmentation[frame, place] = label
