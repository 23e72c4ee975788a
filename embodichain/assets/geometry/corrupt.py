"""Adds the faults of generated meshes to clean ones, so that repair is tested on inputs whose true shape is known."""

from __future__ import annotations

from dataclasses import dataclass

import manifold3d
import numpy as np
from numpy.typing import NDArray

from embodichain.assets.geometry.shapes import concatenate, diagonal, face_areas, signed_volume, to_mesh
from embodichain.assets.geometry.topology import compact, components
from embodichain.types import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class MessConfig:
    """The amount of each fault; lengths are shares of the mesh's diagonal."""

    edge: float = 0.03
    """Longest edge after subdivision, because generators make fine and even meshes."""
    noise: float = 0.0003
    """Standard deviation of vertices, as a share of the least of: diagonal, 20 times the smallest extent, 60 times the wall."""
    unwelded: float = 0.3
    """Share of faces that get copies of their vertices, slightly displaced."""
    flipped: float = 0.03
    """Share of faces that are turned inside out."""
    holes: int = 4
    hole_faces: int = 5
    """Largest number of faces missing at one hole."""
    degenerate: int = 20
    duplicates: int = 20
    fins: int = 5
    floaters: int = 3
    floater_size: float = 0.01


def broken(mesh: Mesh, rng: np.random.Generator, config: MessConfig) -> Mesh:
    """A triangle soup from which repair should recover the union of the mesh's closed components."""
    size = diagonal(mesh)
    soup = concatenate([_holed(_refined(piece, config.edge * size), rng, config) for piece in components(mesh)])
    thickness = 2.0 * abs(signed_volume(mesh)) / float(face_areas(mesh).sum())
    spread = config.noise * min(size, 20.0 * float(np.ptp(mesh.vertices, axis=0).min()), 60.0 * thickness)
    vertices = soup.vertices + rng.normal(0.0, spread, soup.vertices.shape)
    soup = Mesh(vertices=vertices, faces=soup.faces)
    floaters = [_floater(soup, rng, config.floater_size * size) for _ in range(config.floaters)]
    soup = _with_junk_faces(soup, rng, config)
    soup = _unwelded(concatenate([soup, *floaters]), rng, config.unwelded, 1e-7 * size)
    flipped = rng.random(len(soup.faces)) < config.flipped
    faces = np.where(flipped[:, None], soup.faces[:, ::-1], soup.faces)
    order = rng.permutation(len(faces))
    return Mesh(vertices=soup.vertices, faces=faces[order].astype(np.int32))


def _refined(piece: Mesh, edge_m: float) -> Mesh:
    """The same surface, subdivided until no edge is longer than `edge_m`."""
    solid = manifold3d.Manifold(manifold3d.Mesh64(vert_properties=piece.vertices, tri_verts=piece.faces.astype(np.uint64)))
    return to_mesh(solid.refine_to_length(edge_m))


def _holed(piece: Mesh, rng: np.random.Generator, config: MessConfig) -> Mesh:
    """Removes a few small patches of adjacent faces from the piece."""
    if len(piece.faces) < 40 * config.hole_faces:
        return piece
    missing = np.zeros(len(piece.faces), bool)
    for _ in range(config.holes):
        patch = {int(rng.integers(len(piece.faces)))}
        target = int(rng.integers(1, config.hole_faces + 1))
        while len(patch) < target:
            corners = np.unique(piece.faces[list(patch)])
            around = np.flatnonzero(np.isin(piece.faces, corners).sum(axis=1) >= 2)
            grown = [int(face) for face in around if int(face) not in patch]
            if not grown:
                break
            patch.add(grown[int(rng.integers(len(grown)))])
        missing[list(patch)] = True
    return compact(Mesh(vertices=piece.vertices, faces=piece.faces[~missing]))


def _with_junk_faces(soup: Mesh, rng: np.random.Generator, config: MessConfig) -> Mesh:
    """Adds degenerate faces, duplicate faces, and fins attached to an edge."""
    picked = soup.faces[rng.integers(len(soup.faces), size=config.degenerate)]
    collapsed = picked[:, [0, 1, 1]]
    twice = soup.faces[rng.integers(len(soup.faces), size=config.duplicates)]
    roots = soup.faces[rng.integers(len(soup.faces), size=config.fins)]
    tips = soup.vertices[roots[:, 0]] + rng.normal(0.0, config.floater_size * diagonal(soup), (config.fins, 3))
    fins = np.column_stack([roots[:, :2], len(soup.vertices) + np.arange(config.fins)])
    return Mesh(
        vertices=np.concatenate([soup.vertices, tips]),
        faces=np.concatenate([soup.faces, collapsed, twice, fins]).astype(np.int32),
    )


def _floater(soup: Mesh, rng: np.random.Generator, size_m: float) -> Mesh:
    """A small separate tetrahedron somewhere around the object."""
    low, high = soup.vertices.min(axis=0), soup.vertices.max(axis=0)
    corners: NDArray[np.float64] = rng.uniform(low, high) + rng.normal(0.0, size_m, (4, 3))
    return Mesh(vertices=corners, faces=np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]], np.int32))


def _unwelded(soup: Mesh, rng: np.random.Generator, share: float, jitter_m: float) -> Mesh:
    """Gives some faces copies of their vertices, slightly displaced."""
    loose = np.flatnonzero(rng.random(len(soup.faces)) < share)
    copies = soup.vertices[soup.faces[loose]].reshape(-1, 3) + rng.uniform(-jitter_m, jitter_m, (3 * len(loose), 3))
    faces = soup.faces.astype(np.int64).copy()
    faces[loose] = len(soup.vertices) + np.arange(3 * len(loose)).reshape(-1, 3)
    return Mesh(vertices=np.concatenate([soup.vertices, copies]), faces=faces.astype(np.int32))
