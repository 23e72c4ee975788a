"""Turns a triangle soup into one watertight solid: refuse, clean, close each component, unite, and compare with the input.

Being watertight proves nothing: a repaired mesh must also agree with its input about the inside and the position of the surface.
If it does not, the soup is remeshed by winding number, and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.geometry.openings import described, openings, thickened, whole_edges
from embodichain.assets.geometry.remesh import remesh, sample_surface, surface_distances, winding_numbers
from embodichain.assets.geometry.shapes import Solid, concatenate, diagonal, face_areas, signed_volume, to_mesh, to_solid
from embodichain.assets.geometry.tolerances import RepairConfig
from embodichain.assets.geometry.topology import clean, close_holes, components, oriented
from embodichain.errors import AssetError
from embodichain.types import Mesh


class RepairMethod(StrEnum):
    """How the solid was made."""

    UNION = "union"
    REMESH = "remesh"
    WALL = "wall"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """The faults that repair found and its actions: numbers before and after, and how well the result agrees with the input."""

    method: RepairMethod
    vertices_before: int
    faces_before: int
    faces_after: int
    components: int
    floaters_dropped: int
    holes_filled: int
    cavities: int
    volume: float
    solidity: float
    """Volume divided by that of the convex hull."""
    agreement: float
    distance: float
    """98th percentile of surface distances [m], the larger of both directions."""
    note: str = ""
    capped: float = 0.0
    """Share of the surface area that was added to close holes."""


def refuse(mesh: Mesh, config: RepairConfig | None = None) -> None:
    """Raises AssetError, with the reason, when no repair could make a solid of `mesh`."""
    config = config or RepairConfig()
    vertices, faces = mesh.vertices, mesh.faces
    if len(vertices) == 0:
        raise AssetError("read: the mesh is empty; some readers return an empty scene for a truncated file")
    if len(faces) == 0:
        raise AssetError(f"read: a point cloud of {len(vertices)} points without faces; reconstruct a surface first")
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise AssetError(f"read: vertices {vertices.shape} and faces {faces.shape} must be [V, 3] and [F, 3]; triangulate the mesh")
    if len(faces) > config.max_faces:
        raise AssetError(f"read: {len(faces)} faces exceed the limit of {config.max_faces}; decimate the mesh first")
    bad = int((~np.isfinite(vertices)).any(axis=1).sum())
    if bad:
        raise AssetError(f"read: {bad} of {len(vertices)} vertices are NaN or infinite")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise AssetError(f"read: face indices {faces.min()}..{faces.max()} reach outside 0..{len(vertices) - 1}")
    used = vertices[np.unique(faces)]
    extent = np.ptp(used, axis=0)
    if extent.max() <= 0.0 or float(face_areas(mesh).sum()) <= 0.0:
        raise AssetError("read: every face is degenerate, the mesh has no area")
    spread = np.linalg.svd(used - used.mean(axis=0), compute_uv=False)
    if spread[2] < 1e-7 * spread[0]:
        raise AssetError(f"read: all {len(used)} vertices lie in one plane, so the mesh encloses no volume; give it thickness")


def repair(mesh: Mesh, config: RepairConfig | None = None, wall: float = 0.0) -> tuple[Mesh, RepairReport]:
    """One watertight, outward-facing mesh for a soup, and the report.

    Args:
        mesh: the soup.
        config: tolerances.
        wall: thickness [m] that an open surface gets; 0 refuses open surfaces.

    Raises:
        AssetError: the soup is refused or open, or neither the union nor the remesh agrees with it.
    """
    config = config or RepairConfig()
    shells, caps, total, dropped, notes = _shells(mesh, config)
    if sum(caps) > config.capped * total:
        return _walled(mesh, shells, caps, wall, config, dropped, notes)
    shells = [_turned_outwards(shell, [other for other in shells if other is not shell]) for shell in shells]
    reference = concatenate([shell.open for shell in shells])
    surface = concatenate([shell.closed for shell in shells])
    counts = {
        "vertices_before": len(mesh.vertices),
        "faces_before": len(mesh.faces),
        "components": len(shells),
        "floaters_dropped": dropped,
        "holes_filled": sum(shell.holes for shell in shells),
        "cavities": sum(signed_volume(shell.closed) < 0 for shell in shells),
    }
    solid, failures = unite([shell.closed for shell in shells])
    notes += failures
    for method in (RepairMethod.UNION, RepairMethod.REMESH):
        if method is RepairMethod.REMESH:
            solid = to_solid(remesh(reference, config.resolution))
        if solid.is_empty() or solid.volume() <= 1e-9 * diagonal(reference) ** 3:
            notes.append(f"{method}: no volume")
            continue
        result = to_mesh(solid)
        agreement, distance, folded = compare(result, reference, surface, config.samples)
        if folded > config.folded:
            notes.append(f"{method}: passes through itself in {folded:.1%} of its inside, which would count twice")
            continue
        if agreement >= config.agreement and distance <= config.distance * diagonal(reference):
            return result, RepairReport(
                method=method,
                faces_after=len(result.faces),
                volume=solid.volume(),
                solidity=solid.volume() / solid.hull().volume(),
                agreement=agreement,
                distance=distance,
                note="; ".join(notes),
                capped=sum(caps) / total,
                **counts,
            )
        notes.append(f"{method}: agreement {agreement:.3f}, distance {distance * 1e3:.2f} mm")
    raise AssetError(
        f"repair: no closed solid agrees with the input ({'; '.join(notes)}); is it an open surface or of zero thickness?"
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shell:
    """One consistently oriented component, as it came and with its holes filled; it faces inwards when it bounds a cavity."""

    closed: Mesh
    open: Mesh
    holes: int


def refuse_open(mesh: Mesh, config: RepairConfig | None = None) -> None:
    """Raises AssetError when `repair` would refuse a mesh or ask for a wall thickness, as far as that is cheap to find."""
    config = config or RepairConfig()
    shells, caps, total, dropped, notes = _shells(mesh, config)
    if sum(caps) > config.capped * total:
        _walled(mesh, shells, caps, 0.0, config, dropped, notes)


def _shells(mesh: Mesh, config: RepairConfig) -> tuple[list[Shell], list[float], float, int, list[str]]:
    """The oriented components of a soup; what closing each would add; the total area [m^2]; the number of dropped ones; remarks."""
    refuse(mesh, config)
    cleaned = clean(mesh, config.weld * diagonal(mesh))
    pieces = components(cleaned)
    areas = np.array([float(face_areas(piece).sum()) for piece in pieces])
    kept = [piece for piece, area in zip(pieces, areas, strict=True) if area >= config.min_component * areas.sum()]
    if not kept:
        raise AssetError(f"clean: none of {len(pieces)} components has {config.min_component:.0%} of the surface; this is a soup")
    dropped = len(pieces) - len(kept)
    notes: list[str] = []
    shells: list[Shell] = []
    for piece in kept:
        turned, two_sided = oriented(piece)
        if not two_sided:
            notes.append("a component is one-sided")
        closed, holes = close_holes(turned)
        shells.append(Shell(closed=closed, open=turned, holes=holes))
    total = float(sum(areas[areas >= config.min_component * areas.sum()]))
    free = whole_edges(cleaned)
    caps = [sum(hole.area for hole in openings(shell.open, free)) if shell.holes and free is not None else 0.0 for shell in shells]
    return shells, caps, total, dropped, notes


def _walled(
    mesh: Mesh, shells: list[Shell], caps: list[float], wall: float, config: RepairConfig, dropped: int, notes: list[str]
) -> tuple[Mesh, RepairReport]:
    """The solid of an open surface with the given wall [m]: its open pieces are thickened, the others united with them."""
    shells = [_turned_outwards(shell, []) for shell in shells]
    largest = max((openings(shell.open)[0] for shell in shells if shell.holes), key=lambda hole: hole.area)
    share = sum(caps) / sum(float(face_areas(shell.open).sum()) for shell in shells)
    if not wall > 0.0:
        raise AssetError(
            f"repair: the surface is open: closing its holes, the largest {described(largest)}, would add {share:.0%} to it;"
            " give wall_m, the thickness of its walls, or a closed mesh"
        )
    solid = Solid.compose([])
    for shell, cap in zip(shells, caps, strict=True):
        is_open = cap > config.capped * float(face_areas(shell.open).sum())
        piece = thickened(shell.open, wall) if is_open else to_solid(shell.closed)
        if piece.is_empty():
            raise AssetError(f"repair: a piece of an open surface is no solid: {piece.status()}")
        solid = solid + piece
    result = to_mesh(solid)
    reference = concatenate([shell.open for shell in shells])
    points = sample_surface(reference, config.samples, np.random.default_rng(0))[0]
    distance = float(np.percentile(surface_distances(points, result), 98))
    if distance > wall:
        raise AssetError(f"repair: a wall of {wall * 1e3:.2f} mm strays {distance * 1e3:.2f} mm from the surface it stands for")
    notes.append(f"open ({described(largest)}, {share:.0%} of the surface): given a wall of {wall * 1e3:g} mm")
    return result, RepairReport(
        method=RepairMethod.WALL,
        vertices_before=len(mesh.vertices),
        faces_before=len(mesh.faces),
        faces_after=len(result.faces),
        components=len(shells),
        floaters_dropped=dropped,
        holes_filled=0,
        cavities=0,
        volume=solid.volume(),
        solidity=solid.volume() / solid.hull().volume(),
        agreement=1.0,
        distance=distance,
        note="; ".join(notes),
    )


def _turned_outwards(shell: Shell, others: list[Shell]) -> Shell:
    """Turns the component outwards, unless most of it faces inwards and it lies within another one, so that it bounds a cavity."""
    if signed_volume(shell.closed) >= 0 or any(_within(shell.closed, other.closed) for other in others):
        return shell
    return Shell(closed=_flipped(shell.closed), open=_flipped(shell.open), holes=shell.holes)


def _within(inner: Mesh, outer: Mesh) -> bool:
    """Whether one component lies inside another."""
    points = inner.vertices[:: max(len(inner.vertices) // 50, 1)]
    return bool((np.abs(winding_numbers(points, outer)) > 0.5).all())


def _flipped(mesh: Mesh) -> Mesh:
    return Mesh(vertices=mesh.vertices, faces=mesh.faces[:, ::-1].copy())


def unite(closed: list[Mesh]) -> tuple[Solid, list[str]]:
    """The union of closed components minus the cavities, and the faults of those that manifold3d refused."""
    solid, failures = Solid.compose([]), []
    cavities = [piece for piece in closed if signed_volume(piece) < 0]
    inside = [piece for piece in closed if signed_volume(piece) >= 0 and any(_within(piece, cavity) for cavity in cavities)]
    order = sorted(closed, key=lambda piece: 2 * any(piece is other for other in inside) + (signed_volume(piece) < 0))
    for index, piece in enumerate(order):
        hollow = signed_volume(piece) < 0
        part = to_solid(_flipped(piece) if hollow else piece)
        if part.is_empty():
            failures.append(f"union: component {index} of {len(piece.faces)} faces is {str(part.status()).removeprefix('Error.')}")
        else:
            solid = solid - part if hollow else solid + part
    return solid, failures


def compare(result: Mesh, reference: Mesh, surface: Mesh, samples: int) -> tuple[float, float, float]:
    """Agreement of a solid with its input: IoU of the insides at random points, and the 98th percentile of surface distances [m].

    The third value is the share of the inside around which the solid's surface winds more than once.

    Args:
        result: the solid.
        reference: the oriented input with open holes, so that the filling itself is not taken for the truth.
        surface: the same with holes filled.
        samples: number of points of each kind.
    """
    rng = np.random.default_rng(0)
    low, high = reference.vertices.min(axis=0), reference.vertices.max(axis=0)
    windings, truth = _windings(rng, result, reference, low, high, samples)
    inside = windings > 0.5
    folded = float((windings > 1.5).sum() / max(inside.sum(), 1))
    union = int((inside | truth).sum())
    agreement = float((inside & truth).sum() / union) if union else 0.0
    there = surface_distances(sample_surface(result, samples, rng)[0], surface)
    # Overlapping components have surface inside the union; only surface with the outside in front of it counts.
    points, normals = sample_surface(reference, samples, rng)
    outer = winding_numbers(points + 1e-4 * diagonal(reference) * normals, reference) < 0.5
    back = surface_distances(points[outer] if outer.any() else points, result)
    return agreement, float(max(np.percentile(there, 98), np.percentile(back, 98))), folded


def _windings(
    rng: np.random.Generator, result: Mesh, reference: Mesh, low: NDArray, high: NDArray, samples: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How often the result winds around random points, and whether the reference contains them."""
    points = rng.uniform(low, high, (samples, 3))
    return winding_numbers(points, result), winding_numbers(points, reference) > 0.5
