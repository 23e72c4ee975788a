"""Operations on triangle soups that need only edges and loops: weld, drop, split, orient, fill. No geometry library is used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from embodichain.assets.geometry.shapes import face_areas
from embodichain.types import Mesh

_SMALL_HOLE = 0.25
"""Ratio of perimeter to diagonal up to which a hole is filled following the curvature around it; larger ones are filled flat."""


def clean(mesh: Mesh, weld_m: float) -> Mesh:
    """Welds vertices closer than `weld_m`, then drops degenerate and duplicate faces and fins."""
    merged = weld(mesh, weld_m)
    faces = merged.faces
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    faces = drop_fins(faces[np.sort(first)])
    return compact(Mesh(vertices=merged.vertices, faces=faces))


def weld(mesh: Mesh, distance_m: float) -> Mesh:
    """Merges vertices that are connected by steps of at most `distance_m`; the first of each group is kept."""
    points, inverse = np.unique(mesh.vertices, axis=0, return_inverse=True)
    pairs = cKDTree(points).query_pairs(distance_m, output_type="ndarray")
    faces = inverse.reshape(-1)[mesh.faces]
    if len(pairs):
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
        labels = connected_components(graph, directed=False)[1]
        _, first = np.unique(labels, return_index=True)
        points, faces = points[first], labels[faces]
    return Mesh(vertices=points, faces=faces.astype(np.int32))


def compact(mesh: Mesh) -> Mesh:
    """The same faces without unused vertices."""
    used, faces = np.unique(mesh.faces, return_inverse=True)
    return Mesh(vertices=mesh.vertices[used], faces=faces.reshape(-1, 3).astype(np.int32))


def edge_table(faces: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Edge number of each half-edge, faces of each edge, and whether each half-edge runs from the lower to the higher vertex.

    Half-edge h belongs to face h // 3 and starts at its corner h % 3.
    """
    starts, ends = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel().astype(np.int64)
    keys = np.minimum(starts, ends) * (int(faces.max(initial=0)) + 1) + np.maximum(starts, ends)
    _, edges, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return edges.reshape(-1), counts, starts < ends


def drop_fins(faces: NDArray[np.int32], rounds: int = 8) -> NDArray[np.int32]:
    """Removes faces that hang on an edge of three or more faces and have a free edge."""
    for _ in range(rounds):
        edges, counts, _ = edge_table(faces)
        per_face = counts[edges].reshape(-1, 3)
        fins = (per_face > 2).any(axis=1) & (per_face == 1).any(axis=1)
        if not fins.any():
            break
        faces = faces[~fins]
    return faces


def _neighbours(faces: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Pairs of faces that share an edge of exactly two faces, and whether both run along it in the same way (inconsistent)."""
    edges, counts, rising = edge_table(faces)
    shared = np.flatnonzero(counts[edges] == 2)
    order = shared[np.argsort(edges[shared], kind="stable")].reshape(-1, 2)
    return order[:, 0] // 3, order[:, 1] // 3, rising[order[:, 0]] == rising[order[:, 1]]


def components(mesh: Mesh) -> list[Mesh]:
    """The pieces connected by edges of exactly two faces; solids that only touch are separated."""
    first, second, _ = _neighbours(mesh.faces)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(mesh.faces), len(mesh.faces)))
    count, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(count + 1))
    return [compact(Mesh(vertices=mesh.vertices, faces=mesh.faces[order[bounds[i] : bounds[i + 1]]])) for i in range(count)]


def oriented(mesh: Mesh) -> tuple[Mesh, bool]:
    """A connected piece with all faces oriented like most of its area, and whether such an orientation exists.

    Each face gets two copies, one for each side. Copies are linked across edges to the copy with the same orientation: the piece is
    orientable exactly when the copies fall apart into two sets.
    """
    number = len(mesh.faces)
    first, second, inconsistent = _neighbours(mesh.faces)
    rows = np.concatenate([first, first + number])
    columns = np.concatenate([second + number * inconsistent, second + number * ~inconsistent])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(2 * number, 2 * number))
    labels = connected_components(graph, directed=False)[1]
    two_sided = bool((labels[:number] != labels[number:]).all())
    keep = labels[:number] == labels[0]
    areas = face_areas(mesh)
    if areas[keep].sum() < areas[~keep].sum():
        keep = ~keep
    return Mesh(vertices=mesh.vertices, faces=np.where(keep[:, None], mesh.faces, mesh.faces[:, ::-1])), two_sided


def boundary_loops(faces: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Simple closed loops of free edges, each in the direction that a filling face must have."""
    edges, counts, _ = edge_table(faces)
    free = np.flatnonzero(counts[edges] == 1)
    starts = np.roll(faces, -1, axis=1).ravel()[free]
    ends = faces.ravel()[free]
    following: dict[int, list[int]] = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        following.setdefault(start, []).append(end)
    loops = []
    for origin in sorted(following):
        while following.get(origin):
            path, seen = [origin], {origin: 0}
            while following.get(path[-1]):
                vertex = following[path[-1]].pop()
                if vertex in seen:  # the loop is closed; at a pinch point it may close before it returns to its origin
                    cut = seen[vertex]
                    if len(path) - cut >= 3:
                        loops.append(np.array(path[cut:]))
                    for dropped in path[cut + 1 :]:
                        del seen[dropped]
                    path = path[: cut + 1]
                    if cut == 0:
                        break
                else:
                    seen[vertex] = len(path)
                    path.append(vertex)
    return loops


def close_holes(mesh: Mesh) -> tuple[Mesh, int]:
    """Fills every hole of a consistently oriented piece with a fan around a new vertex; returns the mesh and the number of holes.

    The vertex of a small hole lies on the quadratic surface fitted to its rim and the ring around it, so that filling a hole in a
    rounded surface keeps the volume. That of a large hole lies in the middle of its rim.
    """
    loops = boundary_loops(mesh.faces)
    if not loops:
        return mesh, 0
    size = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    ring = _vertex_neighbours(mesh.faces, len(mesh.vertices), np.concatenate(loops))
    centers, fans = [], []
    for loop in loops:
        rim = mesh.vertices[loop]
        lengths = np.linalg.norm(rim - np.roll(rim, -1, axis=0), axis=1)
        if len(loop) == 3:
            fans.append(loop[None, :])
            continue
        weights = lengths + np.roll(lengths, 1)
        center = (rim * weights[:, None]).sum(axis=0) / weights.sum() if weights.sum() > 0 else rim.mean(axis=0)
        if lengths.sum() < _SMALL_HOLE * size:
            around = sorted({int(n) for v in loop for n in ring[int(v)]} | {int(v) for v in loop})
            center = _on_quadric(center, rim, mesh.vertices[around])
        apex = len(mesh.vertices) + len(centers)
        centers.append(center)
        fans.append(np.column_stack([loop, np.roll(loop, -1), np.full(len(loop), apex)]))
    vertices = np.concatenate([mesh.vertices, np.array(centers).reshape(-1, 3)])
    return Mesh(vertices=vertices, faces=np.concatenate([mesh.faces, *fans]).astype(np.int32)), len(loops)


def _vertex_neighbours(faces: NDArray[np.int32], count: int, wanted: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """The neighbours by an edge of each of the wanted vertices."""
    starts, ends = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel().astype(np.int64)
    pairs = np.concatenate([np.column_stack([starts, ends]), np.column_stack([ends, starts])])
    flags = np.zeros(count, bool)
    flags[wanted] = True
    pairs = np.unique(pairs[flags[pairs[:, 0]]], axis=0)
    bounds = np.searchsorted(pairs[:, 0], np.unique(wanted)[:, None] + np.array([0, 1]))
    return {int(v): pairs[low:high, 1] for v, (low, high) in zip(np.unique(wanted), bounds, strict=True)}


def _on_quadric(center: NDArray[np.float64], rim: NDArray[np.float64], around: NDArray[np.float64]) -> NDArray[np.float64]:
    """The hole's centre moved along the rim's normal onto a quadratic height field fitted to the vertices around it."""
    normal = np.linalg.svd(rim - rim.mean(axis=0), full_matrices=False)[2]
    local = (around - center) @ normal.T
    if len(local) < 8:
        return center
    u, v, height = local.T
    basis = np.column_stack([np.ones_like(u), u, v, u * u, u * v, v * v])
    coefficients = np.linalg.lstsq(basis, height, rcond=1e-6)[0]
    reach = np.linalg.norm(rim - center, axis=1).max()
    return center + normal[2] * np.clip(coefficients[0], -0.3 * reach, 0.3 * reach)
