"""The geometry of a compiled world as meshes on bodies, and the poses of the bodies, for display by other viewers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.physics.raster.triangles import Triangles, visible
from embodichain.physics.world import CompiledWorld
from embodichain.types import Mesh

_ROOM = 3.0
"""Geoms larger than this [m] count as the room, its floor and walls."""


class GeomMesh(NamedTuple):
    """One geom, in the frame of its body [m]."""

    body: int
    mesh: Mesh
    color: tuple[float, float, float, float]


def looks(world: CompiledWorld) -> Iterator[GeomMesh]:
    """The geoms that cameras see, without the room."""
    model = world.model
    yield from _pieces(model, visible(model)[model.geom_rgba[visible(model), 3] > 0.0])


def colliders(world: CompiledWorld) -> Iterator[GeomMesh]:
    """The collision geoms as physics uses them, without the room."""
    model = world.model
    yield from _pieces(model, np.flatnonzero(model.geom_contype | model.geom_conaffinity).astype(np.int32))


def names(world: CompiledWorld) -> tuple[str, ...]:
    """Unique names of all bodies: "robot/...", "ROLE/...", or the body's number if it has no name."""
    return tuple(world.model.body(number).name or f"body {number}" for number in range(world.model.nbody))


def poses(world: CompiledWorld) -> NDArray[np.float64]:
    """Present position [m] and quaternion (w, x, y, z) of every body, [B, 7]."""
    return np.concatenate([world.data.xpos, world.data.xquat], axis=1)


def contacts(world: CompiledWorld) -> NDArray[np.float64]:
    """Present contact points [m], [n, 3]."""
    found = world.data.contact
    return np.asarray(found.pos, np.float64).reshape(-1, 3)[np.asarray(found.dist).reshape(-1) <= 0.0].copy()


def limits(world: CompiledWorld) -> NDArray[np.float64]:
    """Lower and upper limit of every entry of a command [rad, m for grippers], [N, 2]."""
    ranges = np.array([_range(world.model, int(address)) for address in world.measured_qpos])
    ends = np.sort(world.measured_signs[:, None] * ranges, axis=1)
    return np.add.reduceat(ends, world.measured_starts)


def place(world: CompiledWorld, values: NDArray[np.float64]) -> None:
    """Sets the robot's joints to the values of a command, without simulating the motion or its contacts."""
    for address, rest in world.rest.items():
        world.data.qpos[address] = rest
    ends = np.append(world.measured_starts, len(world.measured_qpos))
    for value, first, end in zip(values, ends, ends[1:], strict=False):
        for place in range(first, end):
            if world.measured_signs[place]:
                world.data.qpos[world.measured_qpos[place]] = value / (world.measured_signs[place] * (end - first))
    mujoco.mj_kinematics(world.model, world.data)


def _range(model: mujoco.MjModel, address: int) -> tuple[float, float]:
    """The limits of the joint at this position address; a full turn to either side if it is unlimited."""
    joint = int(np.searchsorted(model.jnt_qposadr, address, side="right")) - 1
    low, high = model.jnt_range[joint] if model.jnt_limited[joint] else (-np.pi, np.pi)
    return float(low), float(high)


def _pieces(model: mujoco.MjModel, geoms: NDArray[np.int32]) -> Iterator[GeomMesh]:
    cut = Triangles.of(model, geoms)
    for place, geom in enumerate(cut.geoms):
        vertices = slice(cut.first_vertex[place], cut.first_vertex[place + 1])
        faces = slice(cut.first_face[place], cut.first_face[place + 1])
        points = cut.vertices[vertices].astype(np.float64)
        if np.ptp(points, axis=0).max(initial=0.0) > _ROOM:
            continue
        turn = np.empty(9)
        mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
        placed = points @ turn.reshape(3, 3).T + model.geom_pos[geom]
        mesh = Mesh(vertices=placed, faces=cut.faces[faces] - cut.first_vertex[place])
        red, green, blue, opacity = (float(value) for value in _color(model, int(geom)))
        yield GeomMesh(int(model.geom_bodyid[geom]), mesh, (red, green, blue, opacity))


def _color(model: mujoco.MjModel, geom: int) -> NDArray[np.float32]:
    """A geom's own colour, or that of its material if it has none."""
    plain = np.array((0.5, 0.5, 0.5, 1.0), np.float32)  # MuJoCo's default for geoms without a colour
    material = int(model.geom_matid[geom])
    own = model.geom_rgba[geom]
    return model.mat_rgba[material] if material >= 0 and np.array_equal(own, plain) else own
