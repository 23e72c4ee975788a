"""Convex pieces for physics: the solid is cut into nearly convex pieces, cheap joins are made, and hulls get few vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from embodichain.assets.geometry.cuts import CutConfig, Piece, pieces
from embodichain.assets.geometry.shapes import Solid, to_mesh, to_solid
from embodichain.assets.geometry.trimming import trimmed
from embodichain.errors import AssetError, ConfigError
from embodichain.types import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionConfig:
    """The budget: the added volume that one more hull is worth, as a share of the solid's, and the vertices of a hull."""

    hull_cost: float = 0.003
    max_vertices: int = 64
    convex_fill: float = 0.985
    """Share of its hull that a solid must fill to count as convex."""
    trim: bool = False
    """Whether hulls of curved walls are cut back halfway into the hollow that they fill, which halves what thin shells add."""

    def __post_init__(self) -> None:
        if not 0.0 < self.hull_cost < 1.0:
            raise ConfigError(f"hull_cost is a share of the volume, between 0 and 1, got {self.hull_cost}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionFit:
    """How well hulls fit a solid, as shares of its volume: what they add (`over`) and what they leave out (`missing`)."""

    hulls: int
    vertices: int
    over: float
    missing: float


def decompose(mesh: Mesh, config: CollisionConfig | None = None, seams: Sequence[float] = ()) -> tuple[Mesh, ...]:
    """Convex hulls that cover a closed mesh; none crosses a seam, given as a height [m].

    Raises:
        AssetError: no piece has a volume.
    """
    config = config or CollisionConfig()
    solid = to_solid(mesh)
    whole = solid.hull()
    if not seams and solid.volume() >= config.convex_fill * whole.volume():
        return (reduce_hull(to_mesh(whole), config.max_vertices),)
    joined: list[Solid] = []
    for layer in _layers(solid, seams):
        cuts = CutConfig(hull_cost=config.hull_cost * (solid.volume() / layer.volume()))
        joined += join(pieces(layer, cuts), config.hull_cost * solid.volume())
    if not joined:
        raise AssetError(f"collision: no convex piece with volume in a mesh of {len(mesh.faces)} faces")
    reduced = [reduce_hull(to_mesh(hull), config.max_vertices) for hull in joined]
    if config.trim:
        reduced = [reduce_hull(hull, config.max_vertices) for hull in trimmed(reduced, solid)]
    return tuple(reduced)


def _layers(solid: Solid, seams: Sequence[float]) -> list[Solid]:
    """The parts of a solid between the seams, from the top down; the whole solid if there are none."""
    layers = []
    for height in sorted(seams, reverse=True):
        above, solid = solid.split_by_plane((0.0, 0.0, 1.0), height)
        layers.append(above)
    return [layer for layer in (*layers, solid) if layer.volume() > 0.0]


def join(found: Sequence[Piece], price: float) -> list[Solid]:
    """The hulls of the pieces. Touching ones are joined, cheapest first, while a join adds less than `price` [m^3]."""
    hulls = {index: piece.hull for index, piece in enumerate(found)}
    numbers = count(len(hulls))
    added: dict[tuple[int, int], tuple[float, Solid]] = {}

    def consider(first: int, second: int) -> None:
        one, two = hulls[first], hulls[second]
        low, high = (
            np.maximum(one.bounding_box()[:3], two.bounding_box()[:3]),
            np.minimum(one.bounding_box()[3:], two.bounding_box()[3:]),
        )
        if (low > high + 1e-6).any():
            return
        both = Solid.batch_hull([one, two])
        gain = both.volume() - one.volume() - two.volume()
        if gain < price:
            added[first, second] = (gain, both)

    for second in hulls:
        for first in range(second):
            consider(first, second)
    while added:
        first, second = min(added, key=lambda pair: (added[pair][0], pair))
        both = added[first, second][1]
        del hulls[first], hulls[second]
        added = {pair: value for pair, value in added.items() if first not in pair and second not in pair}
        others, number = list(hulls), next(numbers)
        hulls[number] = both
        for other in others:
            consider(other, number)
    return list(hulls.values())


def reduce_hull(hull: Mesh, max_vertices: int) -> Mesh:
    """The hull of at most `max_vertices` of a convex mesh's vertices, chosen greedily by volume.

    Starts from the extreme vertices along 14 directions and repeatedly adds the vertex that extends the hull most. The sum of area
    times height over the facets that a vertex sees is an upper bound of the volume that it adds.
    """
    points = np.unique(hull.vertices, axis=0)
    if len(points) <= max_vertices:
        return convex_hull(points)
    directions = np.array(
        [[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if abs(x) + abs(y) + abs(z) in (1, 3)]
    )
    chosen = list(dict.fromkeys((points @ directions.T).argmax(axis=0).tolist()))
    # The extreme vertices of a very thin solid may lie in one plane.
    middle = points[chosen].mean(axis=0)
    flat = np.linalg.svd(points[chosen] - middle)[2][2]
    heights = (points - middle) @ flat
    chosen = list(dict.fromkeys([*chosen, int(heights.argmax()), int(heights.argmin())]))
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
    """The hull of points, shape [N, 3]: only the vertices on it, with faces turned outwards.

    Raises:
        AssetError: the hull of the points has no volume.
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
    """Compares the union of the hulls with the solid that they approximate."""
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
