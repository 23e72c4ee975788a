"""Coarser versions of visual meshes: fewer faces, with texture coordinates, normals, colours and materials kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from embodichain.assets.families.parts import Look
from embodichain.types import Mesh

_FEWEST_CELLS = 4


def reduced(look: Look, faces: int) -> Look:
    """A look of at most about `faces` faces: the vertices in each cell of a grid are merged (Rossignac and Borrel 1993).

    Positions are averaged by cell alone, so that no seam opens. Everything else is averaged by cell and connected piece of the
    surface, so that no texture coordinate is averaged across a seam.
    """
    points, size = look.mesh.vertices, np.ptp(look.mesh.vertices, axis=0)
    charts = _charts(look.mesh) if look.uv is not None else np.zeros(len(points), np.int64)
    cells = 1.5 * float(np.sqrt(faces))
    result = look
    while len(result.mesh.faces) > faces and cells > _FEWEST_CELLS:
        result = _clustered(look, charts, float(size.max()) / cells)
        cells *= 0.8
    return result


def _clustered(look: Look, charts: NDArray[np.int64], edge: float) -> Look:
    points, faces = look.mesh.vertices, look.mesh.faces
    _, cell = np.unique(np.floor((points - points.min(axis=0)) / edge).astype(np.int64), axis=0, return_inverse=True)
    cell = cell.ravel()
    corners = cell[faces]
    kept = np.flatnonzero((corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2]) & (corners[:, 2] != corners[:, 0]))
    pairs, owner = np.unique(np.stack([cell, charts], axis=1), axis=0, return_inverse=True)
    owner = owner.ravel()
    centers = _means(points, cell, int(cell.max()) + 1)
    normals = look.normals
    if normals is not None:
        normals = _means(normals, owner, len(pairs))
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    new = owner[faces[kept]].astype(np.int32)
    new, first = np.unique(np.concatenate([_rolled(new), look.finish[kept, None]], axis=1), axis=0, return_index=True)
    used, corner = np.unique(new[:, :3], return_inverse=True)  # a cell whose faces all became degenerate has no vertex left
    return replace(
        look,
        mesh=Mesh(vertices=centers[pairs[used, 0]], faces=corner.reshape(-1, 3).astype(np.int32)),
        finish=look.finish[kept][first],
        uv=None if look.uv is None else _means(look.uv, owner, len(pairs))[used],
        colors=None if look.colors is None else _means(look.colors, owner, len(pairs))[used],
        normals=None if normals is None else normals[used],
    )


def _means(values: NDArray[np.float64], owner: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    sizes = np.maximum(np.bincount(owner, minlength=count), 1)
    return np.stack([np.bincount(owner, column, count) / sizes for column in values.T], axis=1)


def _rolled(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each face rotated so that its lowest vertex comes first, so that equal faces have equal rows."""
    shift = faces.argmin(axis=1)
    return np.take_along_axis(faces, (shift[:, None] + np.arange(3)) % 3, axis=1)


def _charts(mesh: Mesh) -> NDArray[np.int64]:
    """For each vertex, the number of the connected piece of the surface that it belongs to."""
    count, faces = len(mesh.vertices), mesh.faces
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
