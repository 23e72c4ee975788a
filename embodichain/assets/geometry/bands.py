"""Distances to a surface on a grid, computed only near that surface: each face visits the cells around it and no others."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from embodichain.machine_code import compiled
from embodichain.types import Mesh

_SPAN = 8.0
"""Longest side [cells] of the pieces into which large faces are cut; the box around a large face is mostly far from it."""


def banded_distances(
    mesh: Mesh, origin: NDArray[np.float64], cell: float, counts: NDArray[np.int64], reach: float
) -> NDArray[np.float64]:
    """Distance [m] from each point of a grid, shape `counts`, to a mesh: exact below `reach`, which stands for all larger
    distances.

    The grid's first point is `origin`; its points are `cell` [m] apart.
    """
    # Squared distances are compared, so that a root is taken once for each point and not once for each pair of point and face.
    values = np.full(counts, reach * reach)
    _stamp(values, _pieces(mesh, _SPAN * cell), np.ascontiguousarray(origin, np.float64), cell, reach)
    return np.sqrt(values)


def _pieces(mesh: Mesh, longest: float) -> NDArray[np.float64]:
    """The corners of all faces, shape [N, 3, 3]; faces with a side above `longest` are divided into equal smaller ones."""
    triangles = mesh.vertices[mesh.faces]
    edges = np.linalg.norm(triangles - np.roll(triangles, 1, axis=1), axis=2).max(axis=1)
    steps = np.maximum(np.ceil(edges / longest), 1).astype(int)
    found = []
    for step in np.unique(steps):
        corners = triangles[steps == step]
        first, second = (corners[:, None, None, i] - corners[:, None, None, 0] for i in (1, 2))
        u, v = (axis[..., None] for axis in np.meshgrid(np.arange(step + 1), np.arange(step + 1), indexing="ij"))
        grid = corners[:, None, None, 0] + (u * first + v * second) / step
        upward = np.stack([grid[:, :-1, :-1], grid[:, 1:, :-1], grid[:, :-1, 1:]], axis=3)
        # The parallelogram of a face also holds its mirror image: of the downward triangles only those inside the face are kept.
        downward = np.stack([grid[:, 1:, 1:], grid[:, :-1, 1:], grid[:, 1:, :-1]], axis=3)
        i, j = np.indices((step, step))
        found += [upward[:, i + j < step].reshape(-1, 3, 3), downward[:, i + j < step - 1].reshape(-1, 3, 3)]
    return np.ascontiguousarray(np.concatenate(found))


@compiled()
def _stamp(values, triangles, origin, cell, reach):  # noqa: ANN001, ANN202 - compiled, see banded_distances
    low, high = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for t in range(len(triangles)):
        for axis in range(3):
            a, b, c = triangles[t, 0, axis], triangles[t, 1, axis], triangles[t, 2, axis]
            low[axis] = max(math.ceil((min(a, b, c) - reach - origin[axis]) / cell), 0)
            high[axis] = min(math.floor((max(a, b, c) + reach - origin[axis]) / cell), values.shape[axis] - 1)
        for i in range(low[0], high[0] + 1):
            x = origin[0] + i * cell
            for j in range(low[1], high[1] + 1):
                y = origin[1] + j * cell
                for k in range(low[2], high[2] + 1):
                    square = _square_distance(triangles[t], x, y, origin[2] + k * cell)
                    if square < values[i, j, k]:
                        values[i, j, k] = square


@compiled()
def _square_distance(t, x, y, z):  # noqa: ANN001, ANN202 - compiled
    """Squared distance between a point and a triangle (Ericson 2005, 5.1.5)."""
    abx, aby, abz = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    acx, acy, acz = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    apx, apy, apz = x - t[0, 0], y - t[0, 1], z - t[0, 2]
    d1, d2 = abx * apx + aby * apy + abz * apz, acx * apx + acy * apy + acz * apz
    if d1 <= 0.0 and d2 <= 0.0:
        return apx * apx + apy * apy + apz * apz
    bpx, bpy, bpz = x - t[1, 0], y - t[1, 1], z - t[1, 2]
    d3, d4 = abx * bpx + aby * bpy + abz * bpz, acx * bpx + acy * bpy + acz * bpz
    if d3 >= 0.0 and d4 <= d3:
        return bpx * bpx + bpy * bpy + bpz * bpz
    cpx, cpy, cpz = x - t[2, 0], y - t[2, 1], z - t[2, 2]
    d5, d6 = abx * cpx + aby * cpy + abz * cpz, acx * cpx + acy * cpy + acz * cpz
    if d6 >= 0.0 and d5 <= d6:
        return cpx * cpx + cpy * cpy + cpz * cpz
    # Barycentric coordinates up to a factor: a negative one says that the point is beyond the opposite edge.
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0 and d1 > d3:
        v, w = d1 / (d1 - d3), 0.0
    elif vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0 and d2 > d6:
        v, w = 0.0, d2 / (d2 - d6)
    elif va <= 0.0 and d4 - d3 >= 0.0 and d5 - d6 >= 0.0 and (d4 - d3) + (d5 - d6) > 0.0:
        w = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        v = 1.0 - w
    elif va + vb + vc != 0.0:
        v, w = vb / (va + vb + vc), vc / (va + vb + vc)
    # A face without area has no barycentric coordinates; its first corner is then one of its points.
    else:
        v, w = 0.0, 0.0
    dx, dy, dz = apx - v * abx - w * acx, apy - v * aby - w * acy, apz - v * abz - w * acz
    return dx * dx + dy * dy + dz * dz
