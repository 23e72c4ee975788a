"""Convex pieces for physics: CoACD, then each hull reduced to few vertices, with what was added and lost measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import coacd
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from embodichain.assets.shapes import Solid, diagonal, to_mesh, to_solid
from embodichain.errors import AssetError
from embodichain.types import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionConfig:
    """CoACD's concavity threshold and tree search (Wei et al. 2022), and the budget of a hull."""

    threshold: float = 0.05
    mcts_iterations: int = 60
    mcts_max_depth: int = 2
    mcts_nodes: int = 10
    max_vertices: int = 64
    convex_fill: float = 0.985
    """Share of its hull that a solid fills to count as convex already."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionFit:
    """How well hulls cover a solid, as shares of its volume: what they add (`over`) and what they leave out (`missing`)."""

    hulls: int
    vertices: int
    over: float
    missing: float


def decompose(mesh: Mesh, config: CollisionConfig | None = None) -> tuple[Mesh, ...]:
    """Convex hulls that cover a closed mesh, deterministic by seed.

    Raises:
        AssetError: CoACD found no piece with volume.
    """
    config = config or CollisionConfig()
    solid = to_solid(mesh)
    whole = solid.hull()
    if solid.volume() >= config.convex_fill * whole.volume():
        return (reduce_hull(to_mesh(whole), config.max_vertices),)
    coacd.set_log_level("error")
    pieces = coacd.run_coacd(
        coacd.Mesh(mesh.vertices, mesh.faces),
        threshold=config.threshold,
        preprocess_mode="off",
        mcts_iterations=config.mcts_iterations,
        mcts_max_depth=config.mcts_max_depth,
        mcts_nodes=config.mcts_nodes,
        seed=config.seed,
    )
    tiny = (1e-3 * diagonal(mesh)) ** 3
    hulls = [to_mesh(Solid.hull_points(np.asarray(vertices, np.float64))) for vertices, _ in pieces]
    kept = tuple(reduce_hull(hull, config.max_vertices) for hull in hulls if len(hull.faces) and to_solid(hull).volume() > tiny)
    if not kept:
        raise AssetError(f"collision: no convex piece with volume in a mesh of {len(mesh.faces)} faces")
    return kept


def reduce_hull(hull: Mesh, max_vertices: int) -> Mesh:
    """The hull of at most `max_vertices` of a convex mesh's vertices, chosen greedily for volume.

    Starts from the extreme vertices along 14 directions and adds the vertex that raises the hull most: the sum over the facets it
    sees of facet area times height bounds the volume it gains.
    """
    points = np.unique(hull.vertices, axis=0)
    if len(points) <= max_vertices:
        return convex_hull(points)
    directions = np.array(
        [[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if abs(x) + abs(y) + abs(z) in (1, 3)]
    )
    chosen = list(dict.fromkeys((points @ directions.T).argmax(axis=0).tolist()))
    while len(chosen) < max_vertices:
        facets = ConvexHull(points[chosen])
        corners = points[chosen][facets.simplices]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        gains = np.maximum(points @ facets.equations[:, :3].T + facets.equations[:, 3], 0.0) @ areas
        best = int(gains.argmax())
        if gains[best] <= 1e-9 * facets.volume:
            break
        chosen.append(best)
    return convex_hull(points[chosen])


def convex_hull(points: NDArray[np.float64]) -> Mesh:
    """The hull of points, shape [N, 3], with only the vertices on it and faces turned outwards.

    Raises:
        AssetError: the points span no volume.
    """
    try:
        hull = ConvexHull(points)
    except QhullError as error:
        raise AssetError(f"collision: {len(points)} points span no volume") from error
    used = np.sort(hull.vertices)
    renumber = np.full(len(points), -1, np.int32)
    renumber[used] = np.arange(len(used), dtype=np.int32)
    faces = hull.simplices
    corners = points[faces]
    outward = (
        np.einsum("ij,ij->i", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), hull.equations[:, :3]) > 0
    )
    faces = np.where(outward[:, None], faces, faces[:, ::-1])
    return Mesh(vertices=points[used], faces=renumber[faces])


def measure(mesh: Mesh, hulls: Sequence[Mesh]) -> CollisionFit:
    """Compares the union of the hulls with the solid they stand for."""
    solid = to_solid(mesh)
    cover = Solid.compose([])
    for hull in hulls:
        cover = cover + to_solid(hull)
    volume = solid.volume()
    return CollisionFit(
        hulls=len(hulls),
        vertices=max(len(hull.vertices) for hull in hulls),
        over=(cover - solid).volume() / volume,
        missing=(solid - cover).volume() / volume,
    )
