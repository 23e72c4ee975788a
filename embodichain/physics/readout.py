"""Reads a world's state from MuJoCo after every control step: poses and velocities of objects, measured joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.machine_code import compiled
from embodichain.types import ArmParts, Contact, Pose, WorldState
from embodichain.types.tapes import Roster, Tape

Floats = NDArray[np.float64]


class Readout:
    """Reads one `MjData`, which must outlive this object.

    Args:
        data: The state; its arrays are read in place.
        bodies: Name of each body in contacts.
        roles: For each object's role, the first index in qpos and qvel of its free joint; -1 for bolted objects.
        joints: Indices in qpos of each object's joints.
        measured: Index in qpos, sign and start of each measured value (see `World`).
        grains: Ranges of the grains in qpos and qvel.
    """

    def __init__(
        self,
        data: mujoco.MjData,
        bodies: Sequence[str],
        roles: Mapping[str, tuple[int, int]],
        joints: Sequence[Sequence[int]],
        measured: tuple[NDArray[np.intp], Floats, NDArray[np.intp]],
        grains: tuple[slice, slice] = (slice(0, 0), slice(0, 0)),
    ) -> None:
        self._data = data
        self._qpos, self._qvel = data.qpos, data.qvel
        free = {role: start for role, start in roles.items() if start[0] >= 0}
        self._bodies = tuple(bodies)
        self._roles = tuple((role, list(free).index(role) if role in free else -1) for role in roles)
        self._joint_counts = tuple((role, len(addresses)) for role, addresses in zip(roles, joints, strict=True))
        self._joints = np.array([address for addresses in joints for address in addresses], np.int64)
        self._free_qpos = np.array([qpos for qpos, _ in free.values()], np.int64)
        self._free_qvel = np.array([qvel for _, qvel in free.values()], np.int64)
        positions, signs, starts = measured
        self._measured = (positions.astype(np.int64), signs, np.append(starts, len(positions)).astype(np.int64))
        self._poses = np.empty((len(free), 7))
        self._grains = self._qpos[grains[0]].reshape(-1, 3), self._qvel[grains[1]].reshape(-1, 3)

    def roster(self, bolted: Mapping[str, Pose], control_hz: int, arms: tuple[ArmParts, ...]) -> Roster:
        """The names that belong to the numbers of a state; `bolted` are poses of fixed objects, `arms` the robot's arms."""
        return Roster(
            bodies=self._bodies,
            roles=self._roles,
            joints=self._joint_counts,
            bolted=bolted,
            num_grains=len(self._grains[0]),
            control_hz=control_hz,
            arms=arms,
        )

    def state(self, roster: Roster, contacts: tuple[Contact, ...]) -> WorldState:
        """The present state."""
        measured, velocities = np.empty(len(self._measured[2]) - 1), np.empty((len(self._poses), 6))
        self._fill(measured, self._poses, velocities)
        return roster.state(
            time_s=self._data.time,
            measured=measured,
            pose=self._poses,
            velocity=velocities,
            joint=self._qpos[self._joints],
            grain_positions=self._grains[0].copy(),
            grain_velocities=self._grains[1].copy(),
            contacts=contacts,
        )

    def write(self, tape: Tape, world: int) -> None:
        """Writes the present state into a row of a tape, without contacts."""
        objects, joints, grains = len(self._poses), len(self._joints), len(self._grains[0])
        tape.time_s[world] = self._data.time
        self._fill(tape.measured[world], tape.pose[world, :objects], tape.velocity[world, :objects])
        tape.joint[world, :joints] = self._qpos[self._joints]
        tape.grain[world, :grains, :3], tape.grain[world, :grains, 3:] = self._grains

    def _fill(self, measured: Floats, poses: NDArray[np.floating], velocities: NDArray[np.floating]) -> None:
        positions, signs, starts = self._measured
        _read(
            *(self._qpos, self._qvel, self._free_qpos, self._free_qvel, positions, signs, starts),
            *(measured, poses, velocities),
        )


@compiled()
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
    """Reads signed sums of positions, poses of free joints, and their velocities, with angular parts rotated to the world frame."""
    for m in range(measured.shape[0]):
        total = 0.0
        # A gripper is measured by all of its fingers, so a measured value may be the sum of several positions.
        for i in range(starts[m], starts[m + 1]):
            total += signs[i] * qpos[measured_qpos[i]]
        measured[m] = total
    for row in range(free_qpos.shape[0]):
        start, speed = free_qpos[row], free_qvel[row]
        for i in range(7):
            poses[row, i] = qpos[start + i]
        for i in range(3):
            velocities[row, i] = qvel[speed + i]
        # MuJoCo keeps the angular velocity of a free joint in the body's frame; states report it in the world's.
        x, y, z = qvel[speed + 3], qvel[speed + 4], qvel[speed + 5]
        w, i, j, k = qpos[start + 3], qpos[start + 4], qpos[start + 5], qpos[start + 6]
        # v + w c + q x c with c = 2 q x v: cheaper than a rotation matrix for a single vector.
        cross_x, cross_y, cross_z = 2 * (j * z - k * y), 2 * (k * x - i * z), 2 * (i * y - j * x)
        velocities[row, 3] = x + w * cross_x + j * cross_z - k * cross_y
        velocities[row, 4] = y + w * cross_y + k * cross_x - i * cross_z
        velocities[row, 5] = z + w * cross_z + i * cross_y - j * cross_x
