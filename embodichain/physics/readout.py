"""Reading a world's state out of MuJoCo after every control step: where objects are, how they move, what the joints measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodichain.types import Contact, Pose, WorldState

Floats = NDArray[np.float64]
_REST = np.zeros(6)
_REST.flags.writeable = False


class Readout:
    """Reads one `MjData`, which must live as long as this.

    Args:
        data: The state; its arrays are looked at where they lie.
        roles: Every object by role, with the first qpos and qvel of the free joint that its root has; -1 for one that is bolted.
        joints: The qpos of each object's joints.
        measured: qpos, sign and start of each measured value (see `World`).
        grains: The stretches of qpos and qvel that grains have.
    """

    def __init__(
        self,
        data: mujoco.MjData,
        roles: Mapping[str, tuple[int, int]],
        joints: Sequence[Sequence[int]],
        measured: tuple[NDArray[np.intp], Floats, NDArray[np.intp]],
        grains: tuple[slice, slice] = (slice(0, 0), slice(0, 0)),
    ) -> None:
        self._data = data
        self._qpos, self._qvel = data.qpos, data.qvel
        free = {role: start for role, start in roles.items() if start[0] >= 0}
        self._rows = [(role, list(free).index(role) if role in free else -1) for role in roles]
        self._free_qpos = np.array([qpos for qpos, _ in free.values()], np.int64)
        self._free_qvel = np.array([qvel for _, qvel in free.values()], np.int64)
        self._joints = list(zip(roles, joints, strict=True))
        positions, signs, starts = measured
        self._measured = (positions.astype(np.int64), signs, np.append(starts, len(positions)).astype(np.int64))
        self._poses = np.empty((len(free), 7))
        self._grains = self._qpos[grains[0]].reshape(-1, 3), self._qvel[grains[1]].reshape(-1, 3)

    def state(self, bolted: Mapping[str, Pose], contacts: tuple[Contact, ...]) -> WorldState:
        """The state now; `bolted` are the poses of objects that cannot move as a whole."""
        positions, signs, starts = self._measured
        measured, velocities = np.empty(len(starts) - 1), np.empty((len(self._poses), 6))
        _read(
            *(self._qpos, self._qvel, self._free_qpos, self._free_qvel, positions, signs, starts),
            *(measured, self._poses, velocities),
        )
        poses: dict[str, Pose] = {}
        speeds: dict[str, Floats] = {}
        found = self._poses.tolist()
        for role, row in self._rows:
            if row < 0:
                poses[role], speeds[role] = bolted[role], _REST
            else:
                x, y, z, w, i, j, k = found[row]
                poses[role], speeds[role] = Pose(position=(x, y, z), quaternion=(w, i, j, k)), velocities[row]
        qpos = self._qpos
        return WorldState(
            time_s=self._data.time,
            measured=measured,
            object_poses=poses,
            object_velocities=speeds,
            object_joints={role: tuple([float(qpos[address]) for address in addresses]) for role, addresses in self._joints},
            contacts=contacts,
            grain_positions=self._grains[0].copy(),
            grain_velocities=self._grains[1].copy(),
        )


@njit(cache=True)
def _read(
    qpos: Any,
    qvel: Any,
    free_qpos: Any,
    free_qvel: Any,
    measured_qpos: Any,
    signs: Any,
    starts: Any,
    measured: Any,
    poses: Any,
    velocities: Any,
) -> None:
    """Sums of signed positions; poses of free joints; their velocities, whose angular part is turned to the world's frame."""
    for m in range(measured.shape[0]):
        total = 0.0
        for i in range(starts[m], starts[m + 1]):
            total += signs[i] * qpos[measured_qpos[i]]
        measured[m] = total
    for row in range(free_qpos.shape[0]):
        start, speed = free_qpos[row], free_qvel[row]
        for i in range(7):
            poses[row, i] = qpos[start + i]
        for i in range(3):
            velocities[row, i] = qvel[speed + i]
        x, y, z = qvel[speed + 3], qvel[speed + 4], qvel[speed + 5]
        w, i, j, k = qpos[start + 3], qpos[start + 4], qpos[start + 5], qpos[start + 6]
        cross_x, cross_y, cross_z = 2 * (j * z - k * y), 2 * (k * x - i * z), 2 * (i * y - j * x)
        velocities[row, 3] = x + w * cross_x + j * cross_z - k * cross_y
        velocities[row, 4] = y + w * cross_y + k * cross_x - i * cross_z
        velocities[row, 5] = z + w * cross_z + i * cross_y - j * cross_x
