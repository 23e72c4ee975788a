"""Which points are inside a triangle soup (generalised winding numbers), surface distances, and a watertight remesh from both."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from embodichain.assets.geometry.shapes import face_areas
from embodichain.errors import AssetError
from embodichain.machine_code import compiled
from embodichain.types import Mesh

_LEAF = 8
"""Faces in a smallest group; a group of the next level holds eight groups."""
_LEVELS = 3
_FAR = 3.0
"""Ratio of distance to radius above which a group counts as one dipole: the error at a point then stays near 0.1 at most."""
_SMALL = math.tan(math.pi / _LEAF) * 0.999
"""Largest tangent of a half solid angle for which the sum over a smallest group stays below half a turn."""


def winding_numbers(points: NDArray[np.float64], mesh: Mesh) -> NDArray[np.float64]:
    """Generalised winding number of each point, shape [N]: 1 inside, 0 outside, between them near holes (Jacobson et al. 2013).

    Distant groups of faces count as one dipole each (Barill et al. 2018); groups are runs of faces along a space-filling curve.
    """
    triangles = mesh.vertices[mesh.faces]
    triangles = np.ascontiguousarray(triangles[np.argsort(_morton(triangles.mean(axis=1)), kind="stable")])
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]) / 2
    weights = np.maximum(np.linalg.norm(normals, axis=1), 1e-300)
    weighted = triangles.mean(axis=1) * weights[:, None]
    groups, first, size = [], [], _LEAF
    for _ in range(_LEVELS):
        starts = np.arange(0, len(triangles), size)
        middle = np.add.reduceat(weighted, starts) / np.add.reduceat(weights, starts)[:, None]
        reach = np.linalg.norm(triangles - np.repeat(middle, size, axis=0)[: len(triangles), None], axis=2).max(axis=1)
        first.append(sum(len(group) for group in groups))
        groups.append(np.column_stack([middle, np.add.reduceat(normals, starts), np.maximum.reduceat(reach, starts)]))
        size *= 8
    return _winding(np.ascontiguousarray(points, np.float64), triangles, np.concatenate(groups), np.array(first), len(groups[-1]))


def _morton(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Position of each point along a Z-order curve of 2^10 cells a side."""
    low, span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-300)
    cells = ((points - low) / span * 1023).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code


@compiled()
def _winding(points, triangles, groups, first, num_top):  # noqa: ANN001, ANN202 - compiled, see winding_numbers
    result = np.zeros(len(points))
    stack_level, stack_group = np.empty(64, np.int64), np.empty(64, np.int64)
    for p in range(len(points)):
        x, y, z = points[p]
        total = 0.0
        for top in range(num_top):
            # An explicit stack in place of recursion, which would cost a call for each group; three levels of eight fit into 64.
            stack_level[0], stack_group[0] = _LEVELS - 1, top
            depth = 1
            while depth > 0:
                depth -= 1
                level, group = stack_level[depth], stack_group[depth]
                row = first[level] + group
                dx, dy, dz = groups[row, 0] - x, groups[row, 1] - y, groups[row, 2] - z
                square = dx * dx + dy * dy + dz * dz
                if square > (_FAR * groups[row, 6]) ** 2:
                    total += (dx * groups[row, 3] + dy * groups[row, 4] + dz * groups[row, 5]) / (square * math.sqrt(square))
                elif level > 0:
                    size = first[level] - first[level - 1]
                    for child in range(8 * group, min(8 * group + 8, size)):
                        stack_level[depth], stack_group[depth] = level - 1, child
                        depth += 1
                else:
                    # Multiplying complex numbers adds their angles, so one arctangent serves all small angles of a group: the sum
                    # of eight of them stays below half a turn, where the arctangent is still unique.
                    real, imaginary = 1.0, 0.0
                    for f in range(group * _LEAF, min((group + 1) * _LEAF, len(triangles))):
                        det, dot = _half_angle(triangles, f, x, y, z)
                        if abs(det) < _SMALL * dot:
                            real, imaginary = real * dot - imaginary * det, real * det + imaginary * dot
                        else:
                            total += 2.0 * math.atan2(det, dot)
                    total += 2.0 * math.atan2(imaginary, real)
        result[p] = total / (4.0 * math.pi)
    return result


@compiled()
def _half_angle(triangles, f, x, y, z):  # noqa: ANN001, ANN202 - compiled
    """(y, x) with arctan2(y, x) = half the solid angle of triangle f seen from a point (van Oosterom and Strackee 1983)."""
    ax, ay, az = triangles[f, 0, 0] - x, triangles[f, 0, 1] - y, triangles[f, 0, 2] - z
    bx, by, bz = triangles[f, 1, 0] - x, triangles[f, 1, 1] - y, triangles[f, 1, 2] - z
    cx, cy, cz = triangles[f, 2, 0] - x, triangles[f, 2, 1] - y, triangles[f, 2, 2] - z
    la = math.sqrt(ax * ax + ay * ay + az * az)
    lb = math.sqrt(bx * bx + by * by + bz * bz)
    lc = math.sqrt(cx * cx + cy * cy + cz * cz)
    det = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    dot = (
        la * lb * lc + (ax * bx + ay * by + az * bz) * lc + (bx * cx + by * cy + bz * cz) * la + (cx * ax + cy * ay + cz * az) * lb
    )
    return det, dot


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points drawn uniformly from the surface and the unit normals there, shape [count, 3] each."""
    areas = face_areas(mesh)
    chosen = rng.choice(len(areas), count, p=areas / areas.sum())
    u, v = rng.random((2, count, 1))
    root = np.sqrt(u)
    a, b, c = (mesh.vertices[mesh.faces[chosen, i]] for i in range(3))
    normals = np.cross(b - a, c - a) / (2 * areas[chosen])[:, None]
    return a * (1 - root) + b * (root * (1 - v)) + c * (root * v), normals


def surface_distances(
    points: NDArray[np.float64], mesh: Mesh, candidates: int = 12, spacing_m: float | None = None
) -> NDArray[np.float64]:
    """Distance d [m] of each point to a mesh, shape [N]: never too small, and at most sqrt(d^2 + spacing^2 / 2).

    Tests the faces of the nearest points of a sample of the surface, `spacing_m` apart; 20,000 points when it is not given.
    """
    areas = face_areas(mesh)
    spacing = spacing_m or math.sqrt(areas.sum() / 20_000)
    triangles = mesh.vertices[mesh.faces]
    edges = np.linalg.norm(triangles - np.roll(triangles, 1, axis=1), axis=2).max(axis=1)
    steps = np.clip(np.ceil(edges / spacing), 1, 400).astype(int)
    cloud, owners = [], []
    for step in np.unique(steps):
        group = np.flatnonzero(steps == step)
        u, v = np.meshgrid(np.arange(step), np.arange(step), indexing="ij")
        keep = u + v < step
        u, v = (u[keep] + 1 / 3) / step, (v[keep] + 1 / 3) / step
        corners = triangles[group]
        cloud.append(
            (
                corners[:, None, 0] * (1 - u - v)[:, None] + corners[:, None, 1] * u[:, None] + corners[:, None, 2] * v[:, None]
            ).reshape(-1, 3)
        )
        owners.append(np.repeat(group, len(u)))
    owner = np.concatenate(owners)
    count = min(candidates, len(owner))
    _, nearest = cKDTree(np.concatenate(cloud)).query(points, k=count)
    faces = owner[np.asarray(nearest).reshape(len(points), count)]
    return np.sqrt(_closest(np.ascontiguousarray(points), triangles, faces))


@compiled()
def _closest(points, triangles, faces):  # noqa: ANN001, ANN202 - compiled, see surface_distances
    """Smallest squared distance of each point to its candidate triangles (Ericson 2005, 5.1.5)."""
    result = np.full(len(points), np.inf)
    for i in range(len(points)):
        for k in range(faces.shape[1]):
            a, b, c = triangles[faces[i, k], 0], triangles[faces[i, k], 1], triangles[faces[i, k], 2]
            ab, ac, ap = b - a, c - a, points[i] - a
            d1, d2 = (ab * ap).sum(), (ac * ap).sum()
            bp, cp = points[i] - b, points[i] - c
            d3, d4 = (ab * bp).sum(), (ac * bp).sum()
            d5, d6 = (ab * cp).sum(), (ac * cp).sum()
            # The signs of these tell in which region of the triangle's plane (corner, edge or inside) the point's projection lies.
            va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
            if d1 <= 0 and d2 <= 0:
                q = a
            elif d3 >= 0 and d4 <= d3:
                q = b
            elif d6 >= 0 and d5 <= d6:
                q = c
            elif vc <= 0 and d1 >= 0 and d3 <= 0 and d1 > d3:
                q = a + ab * (d1 / (d1 - d3))
            elif vb <= 0 and d2 >= 0 and d6 <= 0 and d2 > d6:
                q = a + ac * (d2 / (d2 - d6))
            elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0 and (d4 - d3) + (d5 - d6) > 0:
                q = b + (c - b) * ((d4 - d3) / ((d4 - d3) + (d5 - d6)))
            elif va + vb + vc != 0:
                q = a + ab * (vb / (va + vb + vc)) + ac * (vc / (va + vb + vc))
            # A degenerate face: any of its points will do, because its neighbours cover the rest.
            else:
                q = a
            square = ((points[i] - q) ** 2).sum()
            result[i] = min(result[i], square)
    return result


def remesh(mesh: Mesh, resolution: int) -> Mesh:
    """A watertight surface where the signed distance to the soup is zero; the winding number gives the sign.

    The sign is computed near the surface only; each region away from the surface takes the sign of one of its points.

    Raises:
        AssetError: nothing is inside the soup.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    cell = float((high - low).max()) / resolution
    origin = low - 3 * cell
    shape = np.ceil((high - low) / cell).astype(int) + 7
    cloud = _dense_cloud(mesh, 0.7 * cell)
    near = np.zeros(shape, bool)
    near[tuple(np.round((cloud - origin) / cell).astype(int).T)] = True
    near = np.asarray(ndimage.binary_dilation(near, ndimage.generate_binary_structure(3, 3)), bool)
    values = np.full(shape, 3 * cell)
    values[near] = np.maximum(surface_distances(origin + np.argwhere(near) * cell, mesh, 6, 0.5 * cell), 1e-3 * cell)
    # Two neighbours that are both farther than half a cell from the surface are on the same side of it, so one sign serves each
    # region of such points. A true distance of half a cell is computed as at most 0.61 cells.
    clear = values > 0.65 * cell
    labels = np.zeros(shape, np.int32)
    count = int(ndimage.label(clear, output=labels))  # pyright: ignore[reportArgumentType]
    first = np.unique(labels.ravel(), return_index=True)[1][-count:] if count else np.zeros(0, int)
    seeds = np.stack(np.unravel_index(first, values.shape), axis=1)
    inner = np.concatenate([[False], winding_numbers(origin + seeds * cell, mesh) > 0.5])
    sign = np.where(inner[labels], -1.0, 1.0)
    sign[~clear] = np.where(winding_numbers(origin + np.argwhere(~clear) * cell, mesh) > 0.5, -1.0, 1.0)
    values *= sign
    if not (values < 0).any():
        raise AssetError("remesh: no point is inside the surface; it is open or of zero thickness")
    vertices, faces = marching_tetrahedra(values)
    return Mesh(vertices=origin + vertices * cell, faces=faces)


def _dense_cloud(mesh: Mesh, spacing: float) -> NDArray[np.float64]:
    """Surface points at most about `spacing` [m] apart: a grid on every face."""
    triangles = mesh.vertices[mesh.faces]
    edges = np.linalg.norm(triangles - np.roll(triangles, 1, axis=1), axis=2).max(axis=1)
    steps = np.maximum(np.ceil(edges / spacing), 1).astype(int)
    clouds = [mesh.vertices]
    for step in np.unique(steps):
        u, v = np.meshgrid(np.arange(step + 1), np.arange(step + 1), indexing="ij")
        keep = u + v <= step
        u, v = u[keep] / step, v[keep] / step
        corners = triangles[steps == step]
        clouds.append(
            (
                corners[:, None, 0] * (1 - u - v)[:, None] + corners[:, None, 1] * u[:, None] + corners[:, None, 2] * v[:, None]
            ).reshape(-1, 3)
        )
    return np.concatenate(clouds)


_TETRAHEDRA = np.array([[0, 1, 3, 7], [0, 3, 2, 7], [0, 2, 6, 7], [0, 6, 4, 7], [0, 4, 5, 7], [0, 5, 1, 7]])
"""Six tetrahedra that fill a cube along its diagonal 0-7, all with positive volume; corner number = x + 2 y + 4 z."""


def marching_tetrahedra(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The closed surface of zero values on a grid, in grid units, with the negative side inside (Doi and Koide 1991)."""
    shape = np.array(values.shape)
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    corners = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)])
    inside = values < 0
    count = np.zeros(shape - 1, np.int8)
    for x, y, z in corners.tolist():
        count += inside[x : shape[0] - 1 + x, y : shape[1] - 1 + y, z : shape[2] - 1 + z]
    cells = np.stack(np.nonzero((count > 0) & (count < 8)), axis=1)
    ids = (cells @ strides)[:, None] + corners @ strides
    tetrahedra = ids[:, _TETRAHEDRA].reshape(-1, 4)
    flat = values.ravel()
    negative = flat[tetrahedra] < 0
    order = np.argsort(~negative, axis=1, kind="stable")
    # Sorting the inside corners first may mirror a tetrahedron: for an odd permutation the faces have to be turned round.
    odd = np.array([_parity(permutation) for permutation in np.ndindex(4, 4, 4, 4)]).reshape(4, 4, 4, 4)[tuple(order.T)]
    ranked = np.take_along_axis(tetrahedra, order, axis=1)
    number = negative.sum(axis=1)
    pieces = []
    for kept, triangles in {
        1: [[(0, 1), (0, 2), (0, 3)]],
        2: [[(0, 2), (1, 3), (1, 2)], [(0, 2), (0, 3), (1, 3)]],
        3: [[(3, 0), (3, 1), (3, 2)]],
    }.items():
        chosen = number == kept
        for triangle in triangles:
            ends = np.stack([np.sort(ranked[chosen][:, list(pair)], axis=1) for pair in triangle], axis=1)
            ends[odd[chosen]] = ends[odd[chosen]][:, ::-1]
            pieces.append(ends)
    pairs = np.concatenate(pieces)
    keys = pairs[..., 0] * flat.size + pairs[..., 1]
    unique, faces = np.unique(keys, return_inverse=True)
    a, b = unique // flat.size, unique % flat.size
    share = flat[a] / (flat[a] - flat[b])
    first = np.stack(np.unravel_index(a, values.shape), axis=1)
    second = np.stack(np.unravel_index(b, values.shape), axis=1)
    return first + (second - first) * share[:, None], faces.reshape(-1, 3).astype(np.int32)


def _parity(permutation: tuple[int, ...]) -> bool:
    return sum(permutation[i] > permutation[j] for i in range(len(permutation)) for j in range(i + 1, len(permutation))) % 2 == 1
