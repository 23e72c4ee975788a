# ruff: noqa: D103
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportAssignmentType=false, reportAttributeAccessIssue=false, reportReturnType=false
"""The Warp kernels for visibility and shadow maps: `raster.visibility` and `raster.shadows` with one thread for each triangle.

They compute the same values in the same order and without fused products, so that pictures differ at most where the order of
triangles decides. They contain no float64 arithmetic, which `raster.views` does beforehand.
"""

from __future__ import annotations

import warp as wp

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

NEAR = wp.constant(0.001)
TIE = wp.constant(1.0 - 2e-6)
SLACK = wp.constant(0.002)
NOTHING = wp.constant(65535)


@wp.struct
class Plane:
    """A triangle before a camera: edge functions, its plane in inverse depth, and bounds [samples]; empty when `first > last`."""

    a: wp.vec3
    b: wp.vec3
    c: wp.vec3
    n: wp.vec3
    left: int
    right: int
    first: int
    last: int


@wp.func
def turned(turn: wp.mat33, v: wp.vec3, shift: wp.vec3) -> wp.vec3:
    return wp.vec3(
        turn[0, 0] * v[0] + turn[0, 1] * v[1] + turn[0, 2] * v[2] + shift[0],
        turn[1, 0] * v[0] + turn[1, 1] * v[1] + turn[1, 2] * v[2] + shift[1],
        turn[2, 0] * v[0] + turn[2, 1] * v[1] + turn[2, 2] * v[2] + shift[2],
    )


@wp.func
def cross(p: wp.vec3, q: wp.vec3) -> wp.vec3:
    return wp.vec3(p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0])


@wp.func
def column(v: wp.vec3, scale: wp.vec4) -> float:
    return scale[2] - v[0] / v[2] * scale[0]


@wp.func
def row(v: wp.vec3, scale: wp.vec4) -> float:
    return scale[3] - v[1] / v[2] * (-scale[1])


@wp.func
def grown(bounds: wp.vec4, x: float, y: float) -> wp.vec4:
    return wp.vec4(wp.min(bounds[0], x), wp.max(bounds[1], x), wp.min(bounds[2], y), wp.max(bounds[3], y))


@wp.func
def clipped(bounds: wp.vec4, v: wp.vec3, w: wp.vec3, scale: wp.vec4) -> wp.vec4:
    """Bounds enlarged to contain the part of an edge in front of the near plane."""
    # Only bounds are clipped at the near plane, not the triangle: edge functions are valid behind the camera as well.
    ahead = v[2] <= -NEAR
    if ahead:
        bounds = grown(bounds, scale[2] - v[0] / v[2] * scale[0], scale[3] + v[1] / v[2] * scale[1])
    if ahead != (w[2] <= -NEAR):
        part = (-NEAR - v[2]) / (w[2] - v[2])
        x = scale[2] + (v[0] + part * (w[0] - v[0])) / NEAR * scale[0]
        y = scale[3] - (v[1] + part * (w[1] - v[1])) / NEAR * scale[1]
        bounds = grown(bounds, x, y)
    return bounds


@wp.func
def corner(view: int, place: int, v: wp.vec3, turns: wp.array2d[wp.mat33], shifts: wp.array2d[wp.vec3]) -> wp.vec3:
    return turned(turns[view, place], v, shifts[view, place])


@wp.func
def set_up(va: wp.vec3, vb: wp.vec3, vc: wp.vec3, around: bool, scale: wp.vec4, width: int, height: int) -> Plane:
    plane = Plane()
    plane.first = 1
    plane.last = 0
    # Empty bounds, which the first point replaces.
    bounds = wp.vec4(1e9, -1e9, 1e9, -1e9)
    if around and (va[2] > -NEAR or vb[2] > -NEAR or vc[2] > -NEAR):
        bounds = clipped(clipped(clipped(bounds, va, vb, scale), vb, vc, scale), vc, va, scale)
    else:
        bounds = grown(bounds, column(va, scale), row(va, scale))
        bounds = grown(bounds, column(vb, scale), row(vb, scale))
        bounds = grown(bounds, column(vc, scale), row(vc, scale))
    left = int(wp.ceil(wp.max(bounds[0] - SLACK, 0.0)))
    right = int(wp.floor(wp.min(bounds[1] + SLACK, float(width - 1))))
    first = int(wp.ceil(wp.max(bounds[2] - SLACK, 0.0)))
    last = int(wp.floor(wp.min(bounds[3] + SLACK, float(height - 1))))
    if left > right or first > last:
        return plane
    normal = cross(vb - va, vc - va)
    distance = normal[0] * va[0] + normal[1] * va[1] + normal[2] * va[2]
    if distance >= 0.0:
        return plane
    inverse = 1.0 / distance
    plane.n = wp.vec3(normal[0] * inverse, normal[1] * inverse, normal[2] * inverse)
    # The order of the factors decides the sign: inside is positive for faces that are counter-clockwise to the camera.
    plane.a = cross(vc, vb)
    plane.b = cross(va, vc)
    plane.c = cross(vb, va)
    plane.left = left
    plane.right = right
    plane.first = first
    plane.last = last
    return plane


@wp.func
def inside(plane: Plane, x: float, y: float) -> bool:
    """Whether the ray through a sample hits the triangle; sums in the same order as `visibility.see`."""
    a = plane.a[0] * x + (plane.a[1] * y - plane.a[2])
    b = plane.b[0] * x + (plane.b[1] * y - plane.b[2])
    c = plane.c[0] * x + (plane.c[1] * y - plane.c[2])
    return a >= 0.0 and b >= 0.0 and c >= 0.0


@wp.func
def nearness(plane: Plane, x: float, y: float) -> float:
    return plane.n[0] * x + (plane.n[1] * y - plane.n[2])


@wp.kernel
def clear(least: float, nearest: wp.array3d[int], shown: wp.array3d[int]) -> None:
    """Resets samples to the far plane, whose inverse depth is `least` [1/m]."""
    view, j, i = wp.tid()
    # The bits of a positive float, on which the atomic maximum of an integer works.
    nearest[view, j, i] = wp.cast(least, wp.int32)
    shown[view, j, i] = -1


@wp.kernel
def see(
    again: bool,
    start: int,
    faces: wp.array2d[wp.uint32],
    vertices: wp.array[wp.vec3],
    planes: wp.array[wp.vec4],
    owner: wp.array[wp.uint32],
    seen: wp.array2d[wp.uint8],
    turns: wp.array2d[wp.mat33],
    shifts: wp.array2d[wp.vec3],
    eyes: wp.array2d[wp.vec3],
    scales: wp.array[wp.vec4],
    dx: wp.array2d[float],
    dy: wp.array2d[float],
    nearest: wp.array3d[int],
    shown: wp.array3d[int],
) -> None:
    """The first pass keeps the nearest inverse depth at each sample; the second (`again`) the last triangle that reaches it.

    So the result does not depend on the order of threads, and of coinciding surfaces the same one is shown as by the rasteriser on
    a CPU. Inverse depths are positive floats, whose bits as integers have the same order. `start` is the first of these views.
    """
    view, t = wp.tid()
    v = start + view
    place = int(owner[t])
    if seen[v, place] == wp.uint8(0):
        return
    eye = eyes[v, place]
    flat = planes[t]
    # Back faces are decided in the geom's frame, before any vertex is transformed.
    if flat[0] * eye[0] + flat[1] * eye[1] + flat[2] * eye[2] <= flat[3]:
        return
    va = corner(v, place, vertices[int(faces[t, 0])], turns, shifts)
    vb = corner(v, place, vertices[int(faces[t, 1])], turns, shifts)
    vc = corner(v, place, vertices[int(faces[t, 2])], turns, shifts)
    plane = set_up(va, vb, vc, seen[v, place] == wp.uint8(2), scales[v], dx.shape[1], dy.shape[1])
    for j in range(plane.first, plane.last + 1):
        y = dy[v, j]
        for i in range(plane.left, plane.right + 1):
            x = dx[v, i]
            if inside(plane, x, y):
                near = nearness(plane, x, y)
                if near > 0.0 and near <= 1.0 / NEAR:
                    if not again:
                        # Threads of other triangles write the same sample, and a maximum is the same in any order.
                        wp.atomic_max(nearest, view, j, i, wp.cast(near, wp.int32))
                    elif near >= wp.cast(nearest[view, j, i], wp.float32) * TIE:
                        wp.atomic_max(shown, view, j, i, t)


@wp.func
def narrowed(ends: wp.vec2, a: float, base: float) -> wp.vec2:
    low, high = ends[0], ends[1]
    if a > 0.0:
        low = wp.max(low, -base / a)
    elif a < 0.0:
        high = wp.min(high, -base / a)
    elif base < 0.0:
        high = low - 1.0
    return wp.vec2(low, high)


@wp.kernel
def no_shadow(maps: wp.array4d[int]) -> None:
    frame, light, j, i = wp.tid()
    maps[frame, light, j, i] = NOTHING


@wp.kernel
def cast(
    start: int,
    faces: wp.array2d[wp.uint32],
    vertices: wp.array[wp.vec3],
    planes: wp.array[wp.vec4],
    owner: wp.array[wp.uint32],
    casts: wp.array[wp.uint8],
    mapped: wp.array2d[wp.uint8],
    turns: wp.array3d[wp.mat33],
    shifts: wp.array3d[wp.vec3],
    maps: wp.array4d[int],
) -> None:
    """As `shadows.cast`; `start` is the index of the first of these frames in arrays of all frames."""
    frame, light, t = wp.tid()
    f = start + frame
    place = int(owner[t])
    if mapped[f, light] == wp.uint8(0) or casts[place] == wp.uint8(0):
        return
    turn = turns[f, light, place]
    shift = shifts[f, light, place]
    flat = planes[t]
    if flat[0] * turn[2, 0] + flat[1] * turn[2, 1] + flat[2] * turn[2, 2] >= 0.0:
        return
    a = turned(turn, vertices[int(faces[t, 0])], shift)
    b = turned(turn, vertices[int(faces[t, 1])], shift)
    c = turned(turn, vertices[int(faces[t, 2])], shift)
    x0, y0, x1, y1, x2, y2 = a[0], a[1], b[0], b[1], c[0], c[1]
    left, right = int(wp.ceil(wp.min(wp.min(x0, x1), x2))), int(wp.floor(wp.max(wp.max(x0, x1), x2)))
    low, high = int(wp.ceil(wp.min(wp.min(y0, y1), y2))), int(wp.floor(wp.max(wp.max(y0, y1), y2)))
    size = maps.shape[2]
    if left > right or low > high or left < 0 or low < 0 or right >= size or high >= size:
        return
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area <= 0.0:
        return
    inverse = 1.0 / area
    dz1, dz2 = (b[2] - a[2]) * inverse, (c[2] - a[2]) * inverse
    across = dz1 * (y2 - y0) - dz2 * (y1 - y0)
    along = dz2 * (x1 - x0) - dz1 * (x2 - x0)
    for j in range(low, high + 1):
        y = float(j)
        base0 = (y - y0) * (x1 - x0) + x0 * (y1 - y0)
        base1 = (y - y1) * (x2 - x1) + x1 * (y2 - y1)
        base2 = (y - y2) * (x0 - x2) + x2 * (y0 - y2)
        depth = a[2] + along * (y - y0) - across * x0
        wide = right - left > 5
        first, last = left, right
        if wide:
            ends = narrowed(wp.vec2(float(left), float(right)), y0 - y1, base0)
            ends = narrowed(narrowed(ends, y1 - y2, base1), y2 - y0, base2)
            first, last = int(wp.ceil(ends[0])), int(wp.floor(ends[1]))
        for i in range(first, last + 1):
            x = float(i)
            if wide or (base0 >= (y1 - y0) * x and base1 >= (y2 - y1) * x and base2 >= (y0 - y2) * x):
                # As above: the nearest caster wins in any order of threads.
                wp.atomic_min(maps, frame, light, j, i, int(depth + across * x))
