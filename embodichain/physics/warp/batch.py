"""Worlds of the same structure in one simulation: their rows in every array, and one captured graph for a control period.

A captured graph keeps the addresses of the arrays with which it was captured. So all arrays are allocated before the capture and
then written only in place. When they have to grow, all are allocated again, states are copied, and the next period is captured
again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import mujoco_warp as mjw
import numpy as np
import warp as wp
from numpy.typing import NDArray

from embodichain.physics.build import TIMESTEP_S
from embodichain.physics.warp import kernels
from embodichain.physics.warp.contacts import CAPACITY, Contacts
from embodichain.physics.warp.fields import PER_WORLD, STATE
from embodichain.physics.warp.union import ADDRESSES, POINTERS, Shown, WorldMeshes, mesh_slots
from embodichain.physics.world import CompiledWorld
from embodichain.types.scenes import Touches

_CONTACTS = 128
"""Initial number of contacts for which there is room in each world; tasks of this package had up to 73."""
_CONSTRAINTS = 128
"""Smallest number of constraint rows in a world. Kernels are compiled for this number, so only its doubles are used."""
_HARMLESS = mjw.OverflowType.ITERATIONS | mjw.OverflowType.LS_ITERATIONS
"""Overflow that is harmless: the solver stopped before it converged, as MuJoCo's may. Any other has lost contacts or forces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizes:
    """The sizes of a batch's arrays."""

    rows: int
    """Number of worlds."""
    contacts: int
    """Contacts per world; the worlds share the total."""
    constraints: int
    """Constraint rows of each world."""
    meshes: dict[str, int]
    """Rows of each array of collision meshes, per world; see `WorldMeshes.sizes`."""
    corners: int
    """Largest number of corners of a face of a collision mesh."""
    degree: int
    """Largest number of faces at a vertex of a collision mesh."""

    def holding(self, meshes: WorldMeshes) -> BatchSizes:
        """The sizes with room for these meshes too; each size that has to grow gets half as much again in reserve."""
        sizes = {name: size if size <= self.meshes[name] else size * 3 // 2 for name, size in meshes.sizes.items()}
        sizes = {name: max(size, self.meshes[name]) for name, size in sizes.items()}
        return replace(self, meshes=sizes, corners=max(self.corners, meshes.corners), degree=max(self.degree, meshes.degree))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seat:
    """The world that occupies a row."""

    world: CompiledWorld
    slots: NDArray[np.intp]
    meshes: WorldMeshes
    absent: NDArray[np.bool_]


class WarpBatch:
    """Worlds of one `signature` on a Warp device, stepped together; for one thread.

    Args:
        world: A world of that structure.
        absent: Names of the geoms of `world` that are absent.
        num_steps: Physics steps in a control period.
        device: A Warp device, as in "cuda:0" or "cpu".
    """

    def __init__(self, world: CompiledWorld, absent: tuple[str, ...], *, num_steps: int, device: str) -> None:
        self._num_steps, self._device = num_steps, device
        self._seats: list[_Seat | None] = []
        meshes = _seat(world, absent).meshes
        rows = _CONSTRAINTS
        while rows < 3 * world.data.nefc + 64:
            rows *= 2
        empty = BatchSizes(
            rows=0, contacts=_CONTACTS, constraints=rows, meshes=dict.fromkeys(meshes.arrays, 0), corners=16, degree=16
        )
        self._wanted = self._room = empty
        self._model: Any
        self._data: Any
        self._graph: Any = None
        self._overflow = self._strange = self._crowded = np.empty(0, np.int32)

    @property
    def taken(self) -> int:
        """Number of rows that hold a world."""
        return sum(seat is not None for seat in self._seats)

    @property
    def room(self) -> BatchSizes:
        """The present sizes."""
        return self._room

    # ------------------------------------------------------------------------------------------------------------- rows

    def take(self, world: CompiledWorld, absent: tuple[str, ...]) -> int:
        """Writes a world with its scene into a free row, whose index it returns; makes room if there is none."""
        seat = _seat(world, absent)
        if None not in self._seats:
            self._wanted = replace(self._wanted, rows=max(1, 2 * self._wanted.rows))
        self._wanted = self._wanted.holding(seat.meshes)
        if self._wanted != self._room:
            self._make(world, absent)
        row = self._seats.index(None)
        self._seats[row] = seat
        self._write(row)
        data = world.data
        for name in STATE:
            _assign(getattr(self._data, name), row, getattr(data, name))
        _assign(self._data.xfrc_applied, row, np.zeros((world.model.nbody, 6)))
        self._plan[:, row] = data.ctrl
        return row

    def leave(self, row: int) -> None:
        """Frees a row, so that nothing in it collides any more."""
        self._seats[row] = None
        self._vacant[row : row + 1].fill_(1)
        self._model.geom_dataid[row].fill_(-1)
        self._push[row] = 0.0

    # ------------------------------------------------------------------------------------------------------------ steps

    def aim(self, row: int, late: int, older: NDArray[np.float64], newer: NDArray[np.float64]) -> None:
        """Sets the actuators' targets of a world in the next period; the `older` ones hold for its first `late` steps."""
        seat = self._seats[row]
        assert seat is not None
        self._plan[:late, row, seat.world.actuators] = older
        self._plan[late:, row, seat.world.actuators] = newer

    def push(self, row: int, body: int, force: tuple[float, float, float]) -> None:
        """Applies a force [N] to a body's centre of mass in the next period, in addition to others."""
        self._push[row, body, :3] += force
        self._pushed = True

    def step(self) -> None:
        """Simulates one control period of all worlds."""
        self._targets.assign(self._plan)
        if self._pushed:
            self._data.xfrc_applied.assign(self._push)
        if self._graph is None:
            with wp.ScopedDevice(self._device), wp.ScopedCapture(device=self._device) as capture:
                self._launch()
            self._graph = capture.graph
        wp.capture_launch(self._graph)
        if self._pushed:
            self._push[:] = 0.0
            self._data.xfrc_applied.zero_()
            self._pushed = False
        self._qpos, self._qvel = self._data.qpos.numpy(), self._data.qvel.numpy()
        self._overflow, self._strange = self._data.overflow.numpy(), self._unstable.numpy()
        self._crowded = self._contacts.read()

    def state(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Positions and velocities of a world after the last `step`; the arrays are valid until the next."""
        return self._qpos[row], self._qvel[row]

    def touches(self, row: int) -> Touches:
        """The contacts of a world in the last period."""
        return self._contacts.touches(row, self._num_steps)

    def fault(self, row: int) -> str:
        """Why the state of a world is invalid after the last `step`; empty when it is valid.

        If it lacked room, room is doubled when the next world is loaded.
        """
        if self._strange[row]:
            return f"became unstable: an object is penetrating, too light or too fast for the {1e3 * TIMESTEP_S:g} ms step"
        lost = mjw.OverflowType(int(self._overflow[row])) & ~_HARMLESS
        if lost & mjw.OverflowType.NEFC:
            self._wanted = replace(self._wanted, constraints=2 * self._room.constraints)
        elif lost:
            self._wanted = replace(self._wanted, contacts=2 * self._room.contacts)
        if lost:
            names = ", ".join(kind.name or "" for kind in mjw.OverflowType if kind in lost and kind.name != "ALL")
            total = self._room.contacts * len(self._seats)
            return (
                f"found no room for all that touches ({names}): there is room for {total} contacts of {len(self._seats)} worlds "
                f"and for {self._room.constraints} rows of constraints in each; scenes loaded from now on get twice as much"
            )
        if self._crowded[row]:
            return f"has more than {CAPACITY} pairs of bodies that touch: take fewer objects, or physics='mujoco'"
        return ""

    def _launch(self) -> None:
        """Launches the kernels of a control period, always in the same order."""
        data = self._data
        wp.launch(kernels.begin, dim=data.nworld, inputs=[self._vacant, self._rest, data.qpos, data.qvel, data.qacc_warmstart])
        data.overflow.zero_()
        self._unstable.zero_()
        self._contacts.clear()
        for step in range(self._num_steps):
            wp.launch(kernels.aim, dim=data.ctrl.shape, inputs=[step, self._targets, data.ctrl])
            mjw.step(self._model, data)
            wp.launch(kernels.watch, dim=data.nworld, inputs=[data.qpos, data.qvel, data.qacc_smooth, data.qacc, self._unstable])
            self._contacts.add(step, data)

    # ----------------------------------------------------------------------------------------------------------- arrays

    def _make(self, world: CompiledWorld, absent: tuple[str, ...]) -> None:
        """Allocates all arrays with the wanted sizes, and copies the worlds that are already there."""
        kept = {name: getattr(self._data, name).numpy().copy() for name in STATE} if self._room.rows else {}
        plan = self._plan if self._room.rows else None
        room = self._room = self._wanted
        model, rows = world.model, max(2, room.rows)  # with a single row, MuJoCo Warp would not check whether a mesh is absent
        with wp.ScopedDevice(self._device), Shown(model, absent):
            self._model = mjw.put_model(model, batch_sizes=dict.fromkeys(PER_WORLD, rows))
            self._data = mjw.make_data(model, nworld=room.rows, naconmax=room.contacts * room.rows, njmax=room.constraints)
            self._model.opt.warn_overflow = 0  # it would print a warning; `fault` reports the overflow
            self._model.npolygonmax, self._model.nmeshdegmax = room.corners, room.degree
            for name, size in room.meshes.items():
                kind = getattr(self._model, name).dtype
                setattr(self._model, name, wp.zeros(rows * size, dtype=kind))
            self._model.geom_dataid.fill_(-1)
            self._vacant, self._unstable = wp.full(room.rows, 1, dtype=int), wp.zeros(room.rows, dtype=int)
            self._rest = wp.array(model.qpos0, dtype=float)
            self._targets = wp.zeros((self._num_steps, room.rows, model.nu), dtype=float)
            self._contacts = Contacts(room.rows, world.grains.owners(model), model.nbody, self._device)
        self._graph = None
        self._plan = np.zeros(self._targets.shape, np.float32)
        self._push = np.zeros((room.rows, model.nbody, 6), np.float32)
        self._pushed = False
        self._seats += [None] * (room.rows - len(self._seats))
        for row, seat in enumerate(self._seats):
            if seat is not None:
                self._write(row)
                for name, values in kept.items():
                    _assign(getattr(self._data, name), row, values[row])
                assert plan is not None
                self._plan[:, row] = plan[:, row]

    def _write(self, row: int) -> None:
        """Writes everything except its state that distinguishes the world in a row from the others."""
        seat = self._seats[row]
        assert seat is not None
        for name in PER_WORLD:
            if name != "geom_dataid":
                _assign(getattr(self._model, name), row, getattr(seat.world.model, name))
        sizes = self._room.meshes
        meshes = np.full(seat.world.model.ngeom, -1, np.int32)
        meshes[seat.slots] = np.where(seat.absent, -1, row * sizes["mesh_vertnum"] + np.arange(len(seat.slots)))
        _assign(self._model.geom_dataid, row, meshes)
        for name, values in seat.meshes.arrays.items():
            part = {**ADDRESSES, **POINTERS}.get(name)
            moved = values if part is None else np.where(values < 0, -1, values + row * sizes[part])
            if len(values):
                start = row * sizes[name]
                getattr(self._model, name)[start : start + len(values)].assign(np.ascontiguousarray(moved))
        self._vacant[row : row + 1].fill_(0)


def _seat(world: CompiledWorld, absent: tuple[str, ...]) -> _Seat:
    model = world.model
    with Shown(model, absent):
        slots = mesh_slots(model)
    missing = np.isin(slots, [model.geom(name).id for name in absent])
    return _Seat(world=world, slots=slots, meshes=WorldMeshes.of(model, slots, missing), absent=missing)


def _assign(array: Any, row: int, values: Any) -> None:
    """Writes the row of one world in an array, in place."""
    if array.size:
        target = array[row]
        target.assign(np.asarray(values).reshape(*target.shape, *getattr(array.dtype, "_shape_", ())))
