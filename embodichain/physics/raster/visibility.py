"""Kernels of the rasteriser that find the visible triangle at each sample.

Cameras look along -Z, with X to the right and Y up. Triangles are rasterised with homogeneous edge functions (Olano and Greer
1997): the cross product p_j x p_k in camera space tells on which side of an edge a ray passes, even if the edge's ends are behind
the camera. So triangles need not be clipped at the near plane, and triangles that share an edge leave no gap.
"""

# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

import numpy as np

from embodichain.physics.raster.parts import ONE, ZERO, kernel, narrowed, part, transform

NEAR = np.float32(0.001)
"""Distance of the near plane [m]."""
TIE = np.float32(1.0 - 2e-6)
"""If the depths of two surfaces differ by less than this factor, the later geom is shown, as by the ray caster."""
SLACK = np.float32(0.002)
"""Margin for rounding errors of a triangle's bounding box [samples]."""


@kernel
def _project(first, end, x, z, scale, half, out):
    """Projects vertices from camera space onto an axis of the picture [samples]; meaningless for vertices behind the camera."""
    for v in range(first, end):
        out[v] = half - x[v] / z[v] * scale


@part
def outside(x, y, ahead, radius, tan_x, tan_y, far):
    """Whether a sphere in camera space [m] is completely outside of the view."""
    beside = abs(x) - ahead * tan_x > radius * np.sqrt(1.0 + tan_x * tan_x)
    above = abs(y) - ahead * tan_y > radius * np.sqrt(1.0 + tan_y * tan_y)
    return ahead + radius < 0.0 or ahead - radius > far or beside or above


@part
def rays(fovy, width, height, fine, dx, dy):
    """Writes the slopes of the rays through columns and rows of samples; returns the tangents of half the fields of view."""
    tan_y = np.tan(np.radians(fovy) / 2.0)
    tan_x = tan_y * width / height
    for i in range(len(dx)):
        dx[i] = np.float32(((i if fine else 2 * i + 1) / width - 1.0) * tan_x)
    for j in range(len(dy)):
        dy[j] = np.float32((1.0 - (j if fine else 2 * j + 1) / height) * tan_y)
    return tan_x, tan_y


@part
def offset(eye, axes, position, g, away):
    """Writes the position of a geom's origin in camera space [m], [3]."""
    for i in range(3):
        away[i] = 0.0
        for k in range(3):
            away[i] += axes[k, i] * (position[g, k] - eye[k])


@part
def turned(eye, axes, rotation, position, g, turn, local):
    """Writes the rotation from a geom's frame to camera space [3, 3], and the eye in the geom's frame [3]."""
    for i in range(3):
        here = 0.0
        for k in range(3):
            here += rotation[g, 3 * k + i] * (eye[k] - position[g, k])
            entry = 0.0
            for m in range(3):
                entry += axes[m, i] * rotation[g, 3 * m + k]
            turn[i, k] = np.float32(entry)
        local[i] = np.float32(here)


@kernel
def see(rotation, position, solids, eye, axes, fovy, far, cull, fine, least, room):
    """Finds the visible triangle and inverse depth at each sample, of geoms that are more opaque than `least`.

    `eye` [3], `axes` [3, 3] (columns X, Y, Z) and `fovy` [degrees] are the camera's. Samples are the pixel centres or, with `fine`,
    also the points halfway between them and at the border; the ray through a centre is bitwise the same in both cases.
    """
    nearness, shown, dx, dy = room.nearness, room.shown, room.dx, room.dy
    rows, columns = nearness.shape
    height, width = (rows // 2, columns // 2) if fine else (rows, columns)
    tan_x, tan_y = rays(fovy, width, height, fine, dx, dy)
    nearness[:] = np.float32(1.0 / far)
    shown[:] = -1
    half_x, half_y = np.float32(0.5 * (columns - 1)), np.float32(0.5 * (rows - 1))
    scale_x = ONE / (dx[1] - dx[0])
    scale_y = ONE / (dy[0] - dy[1])
    turn, shift, away, local = room.turn, room.shift, room.away, room.local
    xs, ys, zs, across, down = room.moved[0], room.moved[1], room.moved[2], room.spots[0], room.spots[1]
    planes, faces = solids.planes, solids.faces
    most_x, most_y = np.float32(columns - 1), np.float32(rows - 1)
    for place in range(len(solids.geoms)):
        g = solids.geoms[place]
        if solids.rgba[g, 3] <= least:
            continue
        offset(eye, axes, position, g, away)
        radius = solids.rbound[g]
        if cull and radius > 0.0 and outside(away[0], away[1], -away[2], radius, tan_x, tan_y, far):
            continue
        turned(eye, axes, rotation, position, g, turn, local)
        for i in range(3):
            for k in range(3):
                room.turns[place, i, k] = turn[i, k]
            shift[i] = np.float32(away[i])
        transform(place, solids, turn, shift, room.moved)
        begin, end = solids.first_vertex[place], solids.first_vertex[place + 1]
        _project(begin, end, xs, zs, scale_x, half_x, across)
        _project(begin, end, ys, zs, -scale_y, half_y, down)
        # Only geoms whose bounding sphere crosses the near plane can have vertices that must not be projected.
        behind = radius == 0.0 or -away[2] - radius < NEAR
        ex, ey, ez = local[0], local[1], local[2]
        for t in range(solids.first_face[place], solids.first_face[place + 1]):
            if planes[t, 0] * ex + planes[t, 1] * ey + planes[t, 2] * ez <= planes[t, 3]:
                continue  # back face
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            if behind and (zs[a] > -NEAR or zs[b] > -NEAR or zs[c] > -NEAR):
                lowest, highest, top, bottom = _clipped(t, faces, xs, ys, zs, scale_x, scale_y, half_x, half_y)
            else:
                x0, x1, x2, y0, y1, y2 = across[a], across[b], across[c], down[a], down[b], down[c]
                lowest, highest = min(x0, x1, x2), max(x0, x1, x2)
                top, bottom = min(y0, y1, y2), max(y0, y1, y2)
            left = np.int64(np.ceil(max(lowest - SLACK, ZERO)))
            right = np.int64(np.floor(min(highest + SLACK, most_x)))
            first = np.int64(np.ceil(max(top - SLACK, ZERO)))
            last = np.int64(np.floor(min(bottom + SLACK, most_y)))
            if left > right or first > last:
                continue
            xa, ya, za, xb, yb, zb, xc, yc, zc = xs[a], ys[a], zs[a], xs[b], ys[b], zs[b], xs[c], ys[c], zs[c]
            ux, uy, uz, vx, vy, vz = xb - xa, yb - ya, zb - za, xc - xa, yc - ya, zc - za
            nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            # Scale the plane's equation so that n . ray is the inverse depth, which is linear over the picture.
            distance = nx * xa + ny * ya + nz * za
            if distance >= ZERO:
                continue
            inverse = ONE / distance
            nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
            ax, ay, az = yc * zb - zc * yb, zc * xb - xc * zb, xc * yb - yc * xb
            bx, by, bz = ya * zc - za * yc, za * xc - xa * zc, xa * yc - ya * xc
            cx, cy, cz = yb * za - zb * ya, zb * xa - xb * za, xb * ya - yb * xa
            wide = right - left > 7  # then solving for the ends of each row is cheaper than testing every sample
            for j in range(first, last + 1):
                y = dy[j]
                ea, eb, ec, near_y = ay * y - az, by * y - bz, cy * y - cz, ny * y - nz
                start, stop = left, right
                if wide:
                    low, high = dx[left], dx[right]
                    low, high = narrowed(ax, ea, low, high)
                    low, high = narrowed(bx, eb, low, high)
                    low, high = narrowed(cx, ec, low, high)
                    start = max(left, np.int64(low * scale_x + half_x) - 1)
                    stop = min(right, np.int64(high * scale_x + half_x) + 2)
                for i in range(start, stop + 1):
                    x = dx[i]
                    if ax * x + ea >= ZERO and bx * x + eb >= ZERO and cx * x + ec >= ZERO:
                        near = nx * x + near_y
                        # Of two surfaces in one place the later one is shown, as by the ray caster; else rounding would decide.
                        if near >= nearness[j, i] * TIE and near <= ONE / NEAR:
                            nearness[j, i] = near
                            shown[j, i] = t


@part
def _clipped(t, faces, xs, ys, zs, scale_x, scale_y, half_x, half_y):
    """Bounds in the picture [samples] of the part of a triangle in front of the near plane; empty if there is none."""
    lowest = top = np.float32(1e9)
    highest = bottom = np.float32(-1e9)
    for edge in range(3):
        v, w = faces[t, edge], faces[t, (edge + 1) % 3]
        ahead = zs[v] <= -NEAR
        if ahead:
            x, y = half_x - xs[v] / zs[v] * scale_x, half_y + ys[v] / zs[v] * scale_y
            lowest, highest, top, bottom = min(lowest, x), max(highest, x), min(top, y), max(bottom, y)
        if ahead != (zs[w] <= -NEAR):
            part = (-NEAR - zs[v]) / (zs[w] - zs[v])
            x = half_x + (xs[v] + part * (xs[w] - xs[v])) / NEAR * scale_x
            y = half_y - (ys[v] + part * (ys[w] - ys[v])) / NEAR * scale_y
            lowest, highest, top, bottom = min(lowest, x), max(highest, x), min(top, y), max(bottom, y)
    return lowest, highest, top, bottom


@kernel
def read(fine, solids, room, depth, geoms):
    """Writes depths [m] and geoms at pixel centres; 0 and -1 where nothing is visible."""
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            j, i = (2 * row + 1, 2 * column + 1) if fine else (row, column)
            t = room.shown[j, i]
            depth[row, column] = ONE / room.nearness[j, i] if t >= 0 else ZERO
            geoms[row, column] = solids.geoms[solids.owner[t]] if t >= 0 else -1
