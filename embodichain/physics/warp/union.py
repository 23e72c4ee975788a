"""Gives scenes with different objects the same structure, so that their worlds can be simulated as one model.

MuJoCo Warp simulates worlds of one structure: the same bodies, joints and geoms. Objects differ in their number of convex hulls, so
every body gets as many as the next power of two; the surplus ones are absent and collide with nothing. Other differences (masses,
sizes, meshes, friction, drives) are stored per world.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.types import Asset, Body, Material, Mesh, Scene

_CORNERS = 0.01 * np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)], np.float64)
_ABSENT = Mesh(vertices=_CORNERS, faces=np.array([(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)], np.int32))
"""Stands for an absent hull. A tetrahedron, because MuJoCo compiles no empty mesh."""


def filled(scene: Scene) -> tuple[Scene, tuple[str, ...]]:
    """Adds hulls to a scene until each body's number of them is a power of two; returns it and the names of the added geoms."""
    objects, absent = [], []
    for placement in scene.objects:
        bodies = []
        for body in placement.asset.bodies:
            made, first = _filled(body)
            bodies.append(made)
            real = len(body.hulls) - sum(hull.shape is not None for hull in body.hulls)
            absent += [f"{placement.role}/{body.name}/hull{index}" for index in range(real, first)]
        asset: Asset = replace(placement.asset, bodies=tuple(bodies))
        objects.append(replace(placement, asset=asset))
    return replace(scene, objects=tuple(objects)), tuple(absent)


def _filled(body: Body) -> tuple[Body, int]:
    """The body with its meshes first, then the added ones, then its analytic solids by kind; and the number of the first two."""
    pairs = list(zip(body.hulls, body.touching, strict=True))
    meshes = [pair for pair in pairs if pair[0].shape is None]
    solids = sorted((pair for pair in pairs if pair[0].shape is not None), key=_kind)
    size = 1 << (len(meshes) - 1).bit_length() if meshes else 0
    missing = [(_ABSENT, body.material)] * (size - len(meshes))
    hulls, surfaces = zip(*meshes, *missing, *solids, strict=True) if pairs else ((), ())
    return replace(body, hulls=hulls, surfaces=surfaces if body.surfaces else ()), size


def _kind(pair: tuple[Mesh, Material]) -> str:
    assert pair[0].shape is not None
    return pair[0].shape.kind.value


def hide(model: mujoco.MjModel, absent: tuple[str, ...]) -> bool:
    """Disables collisions of these geoms in MuJoCo C too; returns whether that changed the model."""
    geoms = [model.geom(name).id for name in absent]
    changed = bool(model.geom_contype[geoms].any())
    model.geom_contype[geoms] = model.geom_conaffinity[geoms] = 0
    return changed


class Shown:
    """A context in which hidden geoms collide again, so that models of one structure are equal whichever geoms are absent."""

    def __init__(self, model: mujoco.MjModel, absent: tuple[str, ...]) -> None:
        self._model = model
        self._geoms = [model.geom(name).id for name in absent]

    def __enter__(self) -> None:
        self._model.geom_contype[self._geoms] = self._model.geom_conaffinity[self._geoms] = 1

    def __exit__(self, *_: object) -> None:
        self._model.geom_contype[self._geoms] = self._model.geom_conaffinity[self._geoms] = 0


# -------------------------------------------------------------------------------------------------------------- meshes


def mesh_slots(model: mujoco.MjModel) -> NDArray[np.intp]:
    """The geoms that collide as meshes, in the order of their slots in `WorldMeshes`. Hidden geoms must be `Shown` meanwhile."""
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    return np.flatnonzero((model.geom_type == mujoco.mjtGeom.mjGEOM_MESH) & collides)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldMeshes:
    """The collision meshes of one world, with a slot for each geom in `mesh_slots`.

    Arrays have the names of `mujoco_warp.Model`; addresses (`..adr`) are relative to the world's first row, and -1 for missing
    parts.
    """

    arrays: dict[str, NDArray]
    corners: int
    """Largest number of corners of a face (`npolygonmax`)."""
    degree: int
    """Largest number of faces at a vertex (`nmeshdegmax`)."""

    @classmethod
    def of(cls, model: mujoco.MjModel, geoms: NDArray[np.intp], absent: NDArray[np.bool_]) -> WorldMeshes:
        """Reads them from a compiled model; slots in `absent` [geoms] stay empty."""
        per_mesh = {name: np.full(len(geoms), -1, np.int32) for name in ADDRESSES}
        per_mesh |= {name: np.zeros(len(geoms), np.int32) for name in COUNTS}
        parts: dict[str, list[NDArray]] = {name: [] for name in PARTS}
        ends = dict.fromkeys(PARTS, 0)
        corners = degree = 0
        for slot, geom in enumerate(geoms):
            if absent[slot]:
                continue
            mesh = int(model.geom_dataid[geom])
            cut = _cut(model, mesh, ends)
            for name in COUNTS:
                per_mesh[name][slot] = getattr(model, name)[mesh]
            for name, part in ADDRESSES.items():
                if len(cut[part]):
                    per_mesh[name][slot] = ends[part]
            for name, values in cut.items():
                parts[name].append(values)
                ends[name] += len(values)
            corners = max(corners, int(cut["mesh_polyvertnum"].max(initial=0)))
            degree = max(degree, int(cut["mesh_polymapnum"].max(initial=0)))
        joined = {
            name: np.concatenate(found) if found else np.zeros((0, 3) if name in _VECTORS else 0, _dtype(name))
            for name, found in parts.items()
        }
        return cls(arrays=per_mesh | joined, corners=corners, degree=degree)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of rows of each array."""
        return {name: len(values) for name, values in self.arrays.items()}


ADDRESSES = {"mesh_vertadr": "mesh_vert", "mesh_graphadr": "mesh_graph", "mesh_polyadr": "mesh_polynormal"}
"""For each mesh: the start of its part of another array."""
COUNTS = ("mesh_vertnum", "mesh_polynum")
"""For each mesh: the number of its rows in another array."""
PARTS = (
    *("mesh_vert", "mesh_graph", "mesh_polynormal", "mesh_polyvertadr", "mesh_polyvertnum", "mesh_polyvert"),
    *("mesh_polymapadr", "mesh_polymapnum", "mesh_polymap"),
)
"""The arrays that contain the data of all meshes, one after another."""
POINTERS = {"mesh_polyvertadr": "mesh_polyvert", "mesh_polymapadr": "mesh_polymap"}
"""For each polygon and vertex: the start of its part of another array."""
_VECTORS = ("mesh_vert", "mesh_polynormal")


def _dtype(name: str) -> type:
    return np.float32 if name in _VECTORS else np.int32


def _cut(model: mujoco.MjModel, mesh: int, ends: dict[str, int]) -> dict[str, NDArray]:
    """The arrays of one mesh, with addresses that follow the data of earlier meshes, which ends at `ends`."""
    vertices = slice(int(model.mesh_vertadr[mesh]), int(model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh]))
    polygons = slice(int(model.mesh_polyadr[mesh]), int(model.mesh_polyadr[mesh] + model.mesh_polynum[mesh]))
    cut: dict[str, NDArray] = {
        "mesh_vert": model.mesh_vert[vertices],
        "mesh_graph": _graph(model, mesh),
        "mesh_polynormal": model.mesh_polynormal[polygons],
        "mesh_polyvertnum": model.mesh_polyvertnum[polygons],
        "mesh_polymapnum": model.mesh_polymapnum[vertices],
    }
    for pointer, part, count in (
        ("mesh_polyvertadr", "mesh_polyvert", "mesh_polyvertnum"),
        ("mesh_polymapadr", "mesh_polymap", "mesh_polymapnum"),
    ):
        where = getattr(model, pointer)[polygons if part == "mesh_polyvert" else vertices]
        first = int(where[0]) if len(where) else 0
        cut[part] = getattr(model, part)[first : first + int(cut[count].sum())]
        cut[pointer] = where - first + ends[part]
    return {name: np.ascontiguousarray(values, _dtype(name)) for name, values in cut.items()}


def _graph(model: mujoco.MjModel, mesh: int) -> NDArray[np.int32]:
    """The neighbours of each vertex on the hull, for hill climbing in collision detection; empty for small meshes."""
    start = int(model.mesh_graphadr[mesh])
    if start < 0:
        return np.empty(0, np.int32)
    vertices, faces = model.mesh_graph[start : start + 2].tolist()
    return model.mesh_graph[start : start + 2 + 3 * vertices + 6 * faces]
