"""Open surfaces: the size of their holes, and walls for surfaces that are meant to be open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from embodichain.assets.geometry.bands import banded_distances
from embodichain.assets.geometry.remesh import marching_tetrahedra, surface_distances
from embodichain.assets.geometry.shapes import Solid, face_areas, inset, signed_volume, to_solid
from embodichain.assets.geometry.topology import boundary_loops, edge_table
from embodichain.errors import AssetError
from embodichain.types import Mesh

_CELLS = 2.5
"""Cells of the grid across a wall that is made as a level set."""
_MOST_CELLS = 6e6
_FLAT = 0.05
"""How far faces of such a wall may move in simplification, as a share of its thickness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A hole: its area [m^2], the length of its rim [m], and the sides of the box around it [m], largest first."""

    area: float
    rim: float
    size: tuple[float, float]


def whole_edges(mesh: Mesh) -> cKDTree | None:
    """Midpoints of the edges that one face alone has before pieces are separated, where the surface is open; None without any."""
    edges, counts, _ = edge_table(mesh.faces)
    free = np.flatnonzero(counts[edges] == 1)
    if not len(free):
        return None
    ends = mesh.vertices[np.stack([mesh.faces.ravel()[free], np.roll(mesh.faces, -1, axis=1).ravel()[free]])]
    return cKDTree(ends.mean(axis=0))


def openings(mesh: Mesh, free: cKDTree | None = None) -> list[Opening]:
    """The holes of a consistently oriented piece, largest first; with `free`, only those along the edges of `whole_edges`."""
    found = []
    for loop in boundary_loops(mesh.faces):
        rim = mesh.vertices[loop]
        following = np.roll(rim, -1, axis=0)
        if free is not None and np.median(free.query((rim + following) / 2)[0]) > 1e-9:
            continue
        middle = rim.mean(axis=0)
        area = float(np.linalg.norm(np.cross(rim - middle, following - middle), axis=1).sum()) / 2
        sides = np.sort(np.ptp((rim - middle) @ np.linalg.svd(rim - middle, full_matrices=False)[2].T, axis=0))[::-1]
        length = float(np.linalg.norm(following - rim, axis=1).sum())
        found.append(Opening(area=area, rim=length, size=(float(sides[0]), float(sides[1]))))
    return sorted(found, key=lambda hole: -hole.area)


def described(hole: Opening) -> str:
    """Describes a hole in words."""
    return f"{hole.size[0] * 1e3:.1f} by {hole.size[1] * 1e3:.1f} mm"


def thickened(mesh: Mesh, wall: float) -> Solid:
    """A solid wall of this thickness [m] for an open, consistently oriented surface, which becomes its outer side.

    The inner side is the surface moved inwards and joined to the outer side along the rims. Where that would fold over itself, the
    wall is instead everything within half a thickness of the mid-surface.

    Raises:
        AssetError: no such wall can be made.
    """
    loops = boundary_loops(mesh.faces)
    count = len(mesh.vertices)
    inner = Mesh(vertices=inset(mesh, wall), faces=mesh.faces[:, ::-1] + count)
    rims = []
    for loop in loops:
        # A boundary loop runs in the direction of a filling face: the band between both sides takes the place of that face.
        ends = np.roll(loop, -1)
        rims += [np.column_stack([loop, ends, ends + count]), np.column_stack([loop, ends + count, loop + count])]
    faces = np.concatenate([mesh.faces, inner.faces, *rims]).astype(np.int32)
    solid = to_solid(Mesh(vertices=np.concatenate([mesh.vertices, inner.vertices]), faces=faces))
    expected = float(face_areas(mesh).sum()) * wall
    if not solid.is_empty() and 0.6 * expected < solid.volume() < 1.4 * expected and not _folded(mesh, inner.vertices, wall):
        return solid
    middle = Mesh(vertices=inset(mesh, wall / 2), faces=mesh.faces)
    return _level_set(middle, wall)


def _folded(mesh: Mesh, inner: NDArray[np.float64], wall: float) -> bool:
    """Whether the inner side touches the outer one, or faces turn over."""
    before, after = (v[mesh.faces] for v in (mesh.vertices, inner))
    one, other = (np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]) for c in (before, after))
    areas = np.linalg.norm(one, axis=1)
    turned = np.einsum("ij,ij->i", one, other) < 0.0
    return bool(areas[turned].sum() > 0.005 * areas.sum()) or bool(
        np.percentile(surface_distances(inner[:: max(len(inner) // 500, 1)], mesh), 5) < 0.5 * wall
    )


def _level_set(middle: Mesh, wall: float) -> Solid:
    """Everything within half a wall of a surface."""
    low, high = middle.vertices.min(axis=0) - wall, middle.vertices.max(axis=0) + wall
    edge = wall / _CELLS
    counts = np.ceil((high - low) / edge).astype(int) + 2
    if float(np.prod(counts.astype(float))) > _MOST_CELLS:
        raise AssetError(
            f"repair: a wall of {wall * 1e3:.2f} mm beside {float((high - low).max()) * 1e3:.0f} mm would need"
            f" {float(np.prod(counts.astype(float))):.1e} cells; give a thicker one"
        )
    values = banded_distances(middle, low - edge / 2, edge, counts, wall) - wall / 2
    vertices, faces = marching_tetrahedra(values)
    mesh = Mesh(vertices=vertices * edge + low - edge / 2, faces=faces)
    solid = to_solid(mesh)
    if solid.is_empty() or signed_volume(mesh) <= 0.0:
        raise AssetError(f"repair: no wall of {wall * 1e3:.2f} mm can be made of this open surface; give another thickness")
    return solid.simplify(_FLAT * wall)  # the grid makes many faces even where the surface is flat
