"""Cuts the hulls of curved walls back, halfway into the hollow that they fill.

The hull of a piece of a curved wall bulges into the hollow by the height between an arc and its chord. A plane halfway up removes
most of the bulge and little of the wall: for a parabola, 65% of what the chord adds, for a tenth of that left out. No surface is
then farther off than half as much as before, and the number of hulls does not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.geometry.shapes import Solid, diagonal, to_mesh, to_solid
from embodichain.types import Mesh

_WEIGHT = 2.0
"""Weight of volume left out relative to volume added; for an arc, both surfaces are then about equally far off."""
_ROUNDS = 4
_FACETS = 6
"""Most planes tried in a round, along the largest facets above a bulge."""
_ALIKE = 0.995
"""Facets whose normals have at least this cosine count as one, because the chord of an arc consists of several triangles."""
_DEPTHS = np.linspace(0.1, 0.9, 9)
"""Positions of trial planes, as shares of the depth of the bulge below its facet."""
_LEAST = 1e-4
"""Smallest gain of a cut, as a share of the hull's volume."""
_DIRECTIONS = 256
_REACH = 0.001
"""Largest loss of extent of the whole object in any direction, as a share of its diagonal."""

Vectors = NDArray[np.float64]


def trimmed(hulls: Sequence[Mesh], solid: Solid) -> list[Mesh]:
    """Cuts bulges out of the solid off the hulls, where a cut removes at least twice as much as it leaves out.

    Surfaces on which the solid stands or touches planes are kept: a hull that reaches as far as the solid in a direction still
    does.
    """
    whole = to_mesh(solid)
    ways = _ways()
    reach = (whole.vertices @ ways.T).max(axis=0) - _REACH * diagonal(whole)
    return [_cut_back(to_solid(hull), solid, ways, reach) for hull in hulls]


def _cut_back(hull: Solid, solid: Solid, ways: Vectors, reach: Vectors) -> Mesh:
    farthest = _farthest(hull, ways) >= reach
    ways, reach = ways[farthest], reach[farthest]
    for _ in range(_ROUNDS):
        bulge, filled = hull - solid, hull ^ solid
        best, better = _LEAST * hull.volume(), None
        if bulge.volume() <= best:
            break
        for normal, offset in _planes(hull, bulge):
            gain = _above(bulge, normal, offset) - _WEIGHT * _above(filled, normal, offset)
            if gain > best:
                rest = hull.trim_by_plane(tuple(-normal), -offset)
                if (_farthest(rest, ways) >= reach).all():
                    best, better = gain, rest
        if better is None:
            break
        hull = better
    return to_mesh(hull.hull())


def _planes(hull: Solid, bulge: Solid) -> Iterator[tuple[Vectors, float]]:
    """Planes (normal, offset) below the largest facets of the hull above a bulge, at several depths."""
    points, mesh = to_mesh(hull).vertices, to_mesh(bulge)
    corners = mesh.vertices[mesh.faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(crosses, axis=1)
    normals = crosses / np.maximum(areas, 1e-300)[:, None]
    tops = (points @ normals.T).max(axis=0)
    on_hull = np.einsum("ijk,ik->ij", corners, normals).min(axis=1) > tops - 1e-6 * np.ptp(points, axis=0).max()
    normals, areas = normals[on_hull], areas[on_hull]
    for _ in range(_FACETS):
        if not len(normals):
            return
        alike = normals @ normals[int(areas.argmax())] > _ALIKE
        normal = areas[alike] @ normals[alike]
        normal /= np.linalg.norm(normal)
        top, deepest = float((points @ normal).max()), float(np.ptp(mesh.vertices @ normal))
        for share in _DEPTHS:
            yield normal, top - float(share) * deepest
        normals, areas = normals[~alike], areas[~alike]


def _above(solid: Solid, normal: Vectors, offset: float) -> float:
    """Volume of the part of a solid above a plane [m^3]."""
    return solid.trim_by_plane(tuple(normal), offset).volume()


def _farthest(solid: Solid, ways: Vectors) -> Vectors:
    """How far a solid extends in each direction [m]."""
    return (to_mesh(solid).vertices @ ways.T).max(axis=0)


def _ways() -> Vectors:
    """Unit vectors spread evenly over the sphere, and both directions of each axis, shape [N, 3]."""
    steps = np.arange(_DIRECTIONS)
    heights, turns = 1.0 - (2.0 * steps + 1.0) / _DIRECTIONS, steps * np.pi * (3.0 - np.sqrt(5.0))
    flat = np.sqrt(1.0 - heights**2)
    spread = np.stack([flat * np.cos(turns), flat * np.sin(turns), heights], axis=1)
    return np.concatenate([spread, np.eye(3), -np.eye(3)])
