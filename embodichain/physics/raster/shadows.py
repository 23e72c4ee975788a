"""Kernels of the rasteriser that draw shadow maps."""

# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

import numpy as np

from embodichain.physics.raster.parts import DEEPEST, ONE, ZERO, kernel, narrowed, part, transform

_STEP = 0.05
"""Borders of a shadow map are multiples of this [m], so that the map does not shift with every small motion of a caster."""
_NOTHING = np.uint16(65535)


@kernel
def find(active, casting, diffuse, shadows, direction, rotation, position, aabb, solids, lights):
    """Finds the active lights and the spaces of their shadow maps."""
    count = 0
    size = lights.maps.shape[1]
    for light in range(len(active)):
        if not active[light]:
            continue
        for k in range(3):
            lights.colour[count, k] = diffuse[light, k]
        length = np.sqrt(direction[light, 0] ** 2 + direction[light, 1] ** 2 + direction[light, 2] ** 2)
        for k in range(3):
            lights.towards[count, k] = -direction[light, k] / length
        lights.mapped[count] = shadows and casting[light] and len(lights.still) + len(lights.moving) > 0
        if lights.mapped[count]:
            frame = lights.frames[count]
            _frame(lights.towards[count], rotation, position, aabb, solids, lights, size, frame)
            lights.texel[count] = ONE / np.float32(np.sqrt(frame[0, 0] ** 2 + frame[0, 1] ** 2 + frame[0, 2] ** 2))
        count += 1
    lights.count[0] = count


@kernel
def light_up(active, rotation, position, solids, lights, room):
    """Draws the shadow maps of the lights that `find` found: still casters from the cached base if unchanged, then moving ones."""
    count = 0
    size = lights.maps.shape[1]
    for light in range(len(active)):
        if not active[light]:
            continue
        if lights.mapped[count]:
            frame, shade, base = lights.frames[count], lights.maps[count], lights.bases[light]
            if _changed(rotation, position, solids, lights, frame, lights.kept[light]):
                base[:] = _NOTHING
                cast(lights.still, rotation, position, solids, frame, room, base)
            for j in range(size):
                for i in range(size):
                    shade[j, i] = base[j, i]
            cast(lights.moving, rotation, position, solids, frame, room, shade)
        count += 1


@part
def _frame(towards, rotation, position, aabb, solids, lights, size, frame):
    """Computes the transformation to a shadow map, [3, 4], such that the map covers all casters."""
    # Start from the axis most perpendicular to the light: the cross product is then far from zero.
    least = 0
    for k in range(3):
        if abs(towards[k]) < abs(towards[least]):
            least = k
    x, y, z = -towards[0], -towards[1], -towards[2]
    if least == 0:
        rx, ry, rz = 0.0, z, -y
    elif least == 1:
        rx, ry, rz = -z, 0.0, x
    else:
        rx, ry, rz = y, -x, 0.0
    length = np.sqrt(rx * rx + ry * ry + rz * rz)
    rx, ry, rz = rx / length, ry / length, rz / length
    frame[0, 0], frame[0, 1], frame[0, 2] = rx, ry, rz
    frame[1, 0], frame[1, 1], frame[1, 2] = ry * z - rz * y, rz * x - rx * z, rx * y - ry * x
    frame[2, 0], frame[2, 1], frame[2, 2] = x, y, z
    texel = 0.0
    for axis in range(3):
        lowest, highest = np.inf, -np.inf
        for group in range(2):
            for place in lights.still if group == 0 else lights.moving:
                g = solids.geoms[place]
                centre, reach = 0.0, 0.0
                for k in range(3):
                    centre += frame[axis, k] * position[g, k]
                    along = 0.0
                    for m in range(3):
                        along += frame[axis, m] * rotation[g, 3 * m + k]
                    centre += along * aabb[g, k]
                    reach += abs(along) * aabb[g, 3 + k]
                lowest, highest = min(lowest, centre - reach), max(highest, centre + reach)
        # Snap to the grid, with a margin: while casters move within it, the frame, and so the cached base, stay valid.
        lowest = np.floor(lowest / _STEP - 0.1) * _STEP
        extent = np.ceil(highest / _STEP + 0.1) * _STEP - lowest
        frame[axis, 3] = -lowest
        if axis < 2:
            texel = max(texel, extent / size)  # square texels: the larger extent decides
        else:
            for k in range(4):
                frame[2, k] *= DEEPEST / extent
    for axis in range(2):
        for k in range(4):
            frame[axis, k] /= texel
        frame[axis, 3] -= 0.5


@part
def _changed(rotation, position, solids, lights, frame, kept):
    """Whether the cached base of a light is outdated; stores the present inputs in `kept`."""
    # No early return: all inputs must be stored for the next comparison.
    changed = False
    place = 0
    for i in range(3):
        for k in range(4):
            changed = changed or kept[place] != frame[i, k]
            kept[place] = frame[i, k]
            place += 1
    for still in lights.still:
        g = solids.geoms[still]
        for k in range(13):
            value = position[g, k] if k < 3 else (rotation[g, k - 3] if k < 12 else np.float64(solids.rgba[g, 3]))
            changed = changed or kept[place] != value
            kept[place] = value
            place += 1
    return changed


@part
def into_map(frame, rotation, position, g, turn, shift):
    """Writes the rotation and shift from a geom's frame to the space of a shadow map."""
    for i in range(3):
        total = frame[i, 3]
        for k in range(3):
            total += frame[i, k] * position[g, k]
            entry = 0.0
            for m in range(3):
                entry += frame[i, m] * rotation[g, 3 * m + k]
            turn[i, k] = np.float32(entry)
        shift[i] = np.float32(total)


@kernel
def cast(places, rotation, position, solids, frame, room, shade):
    """Draws the depth of the casters nearest to a light into `shade` [N, N], sampled at texel centres.

    `places` are indices of casters in `geoms`; `frame` [3, 4] transforms from the world frame to texels right, texels up, and depth
    away from the light.
    """
    size = shade.shape[0]
    faces, planes = solids.faces, solids.planes
    xs, ys, zs = room.moved[0], room.moved[1], room.moved[2]
    turn, shift = room.turn, room.shift
    for place in places:
        g = solids.geoms[place]
        if solids.rgba[g, 3] == ZERO:
            continue
        into_map(frame, rotation, position, g, turn, shift)
        transform(place, solids, turn, shift, room.moved)
        fx, fy, fz = turn[2, 0], turn[2, 1], turn[2, 2]
        for t in range(solids.first_face[place], solids.first_face[place + 1]):
            if planes[t, 0] * fx + planes[t, 1] * fy + planes[t, 2] * fz >= ZERO:
                continue  # faces away from the light: the front of a closed solid is nearer and casts the same shadow
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            x0, y0, x1, y1, x2, y2 = xs[a], ys[a], xs[b], ys[b], xs[c], ys[c]
            left, right = np.int64(np.ceil(min(x0, x1, x2))), np.int64(np.floor(max(x0, x1, x2)))
            low, high = np.int64(np.ceil(min(y0, y1, y2))), np.int64(np.floor(max(y0, y1, y2)))
            if left > right or low > high or left < 0 or low < 0 or right >= size or high >= size:
                continue
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            if area <= ZERO:
                continue
            inverse = ONE / area
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
                if right - left > 5:  # for wide triangles, solving for the ends of the row is cheaper than testing every texel
                    start, stop = np.float32(left), np.float32(right)
                    start, stop = narrowed(y0 - y1, base0, start, stop)
                    start, stop = narrowed(y1 - y2, base1, start, stop)
                    start, stop = narrowed(y2 - y0, base2, start, stop)
                    first, last = np.int64(np.ceil(start)), np.int64(np.floor(stop))
                    for i in range(first, last + 1):
                        shade[j, i] = min(shade[j, i], np.uint16(np.int32(depth + across * np.float32(i))))
                    continue
                for i in range(first, last + 1):
                    x = np.float32(i)
                    if base0 >= (y1 - y0) * x and base1 >= (y2 - y1) * x and base2 >= (y0 - y2) * x:
                        shade[j, i] = min(shade[j, i], np.uint16(np.int32(depth + across * x)))
