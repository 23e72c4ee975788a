"""Forward kinematics and Jacobian of an arm in the world frame, compiled by numba.

The chain is read once from the MJCF (`robots.geometry`) and reduced to a constant transform for each joint, followed by the joint's
rotation about its own Z axis. Results agree with MuJoCo to 1e-12.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.machine_code import compiled
from embodichain.motion.clearance import Capsules, Floats, pairs_apart, place
from embodichain.robots.geometry import BOLTED, arm_geometry
from embodichain.types import Pose, Quaternion, Robot


@compiled()
def forward_into(positions: Floats, rotations: Floats, q: Floats, out_position: Floats, out_rotation: Floats) -> None:
    """`forward_frames`, written into given arrays [n+1, 3] and [n+1, 3, 3], so that loops allocate nothing."""
    n = q.shape[0]
    for i in range(n + 1):
        if i == 0:
            for row in range(3):
                out_position[0, row] = positions[0, row]
                for column in range(3):
                    out_rotation[0, row, column] = rotations[0, row, column]
        else:
            for row in range(3):
                a, b, c = out_rotation[i - 1, row, 0], out_rotation[i - 1, row, 1], out_rotation[i - 1, row, 2]
                out_position[i, row] = out_position[i - 1, row] + (a * positions[i, 0] + b * positions[i, 1] + c * positions[i, 2])
                for column in range(3):
                    out_rotation[i, row, column] = (
                        a * rotations[i, 0, column] + b * rotations[i, 1, column] + c * rotations[i, 2, column]
                    )
        if i < n:
            cosine, sine = np.cos(q[i]), np.sin(q[i])
            for row in range(3):
                a, b = out_rotation[i, row, 0], out_rotation[i, row, 1]
                out_rotation[i, row, 0] = a * cosine + b * sine
                out_rotation[i, row, 1] = b * cosine - a * sine


@compiled()
def forward_frames(positions: Floats, rotations: Floats, q: Floats) -> tuple[Floats, Floats]:
    """World frames of the joints and, last, of the site: positions [n+1, 3] and rotation matrices [n+1, 3, 3].

    `positions` [n+1, 3] and `rotations` [n+1, 3, 3] are the constant transforms, `q` [rad] has shape [n].
    """
    out_position = np.empty_like(positions)
    out_rotation = np.empty_like(rotations)
    forward_into(positions, rotations, q, out_position, out_rotation)
    return out_position, out_rotation


@compiled()
def place_along(positions: Floats, rotations: Floats, path: Floats, frame: NDArray[np.int64], ends: Floats) -> Floats:
    """World end points [m], [T, k, 2, 3], of the capsules of a chain along a joint path [T, n]."""
    out = np.empty((path.shape[0], *ends.shape))
    for t in range(path.shape[0]):
        frame_positions, frame_rotations = forward_frames(positions, rotations, path[t])
        out[t] = place(frame_positions, frame_rotations, frame, ends)
    return out


@compiled()
def matrix_to_quaternion(m: Floats) -> Floats:
    """The unit quaternion (w, x, y, z), w >= 0, of a rotation matrix [3, 3] (Shepperd 1978)."""
    # Divide by the largest component: dividing by one near zero would amplify rounding errors.
    q = np.empty(4)
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    if trace >= m[0, 0] and trace >= m[1, 1] and trace >= m[2, 2]:
        q[0], q[1], q[2], q[3] = 1.0 + trace, m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    elif m[0, 0] >= m[1, 1] and m[0, 0] >= m[2, 2]:
        q[0], q[1], q[2], q[3] = m[2, 1] - m[1, 2], 1.0 + 2.0 * m[0, 0] - trace, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]
    elif m[1, 1] >= m[2, 2]:
        q[0], q[1], q[2], q[3] = m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1.0 + 2.0 * m[1, 1] - trace, m[1, 2] + m[2, 1]
    else:
        q[0], q[1], q[2], q[3] = m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1.0 + 2.0 * m[2, 2] - trace
    norm = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    # q and -q are the same rotation; w >= 0 makes the result unique.
    if q[0] < 0.0:
        norm = -norm
    return q / norm


@compiled()
def quaternion_to_matrix(quaternion: Floats) -> Floats:
    """The rotation matrix [3, 3] of a quaternion (w, x, y, z) of any non-zero length."""
    s = 2.0 / np.dot(quaternion, quaternion)
    w, x, y, z = quaternion[0], quaternion[1], quaternion[2], quaternion[3]
    m = np.empty((3, 3))
    m[0, 0], m[0, 1], m[0, 2] = 1.0 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)
    m[1, 0], m[1, 1], m[1, 2] = s * (x * y + w * z), 1.0 - s * (x * x + z * z), s * (y * z - w * x)
    m[2, 0], m[2, 1], m[2, 2] = s * (x * z - w * y), s * (y * z + w * x), 1.0 - s * (x * x + y * y)
    return m


@compiled()
def site_jacobian(frame_positions: Floats, frame_rotations: Floats, jacobian: Floats) -> None:
    """Writes the Jacobian of the site in the world frame into [6, n], linear rows [m/rad] above angular rows [rad/rad]; takes the
    output of `forward_frames`.
    """
    # Column j is (z_j x (site - p_j), z_j): every joint rotates about its own Z axis.
    n = frame_positions.shape[0] - 1
    for i in range(n):
        ax, ay, az = frame_rotations[i, 0, 2], frame_rotations[i, 1, 2], frame_rotations[i, 2, 2]
        dx = frame_positions[n, 0] - frame_positions[i, 0]
        dy = frame_positions[n, 1] - frame_positions[i, 1]
        dz = frame_positions[n, 2] - frame_positions[i, 2]
        jacobian[0, i], jacobian[1, i], jacobian[2, i] = ay * dz - az * dy, az * dx - ax * dz, ax * dy - ay * dx
        jacobian[3, i], jacobian[4, i], jacobian[5, i] = ax, ay, az


@compiled()
def tips_along(positions: Floats, rotations: Floats, path: Floats) -> tuple[Floats, Floats]:
    """Poses of the site along a joint path [T, n]: positions [m], [T, 3], and quaternions (w, x, y, z), [T, 4], w >= 0."""
    points, quaternions = np.empty((path.shape[0], 3)), np.empty((path.shape[0], 4))
    for t in range(path.shape[0]):
        frame_positions, frame_rotations = forward_frames(positions, rotations, path[t])
        points[t] = frame_positions[-1]
        quaternions[t] = matrix_to_quaternion(frame_rotations[-1])
    return points, quaternions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """The kinematic chain of one arm as arrays for numba, in the world frame.

    `positions` [n+1, 3] [m] and `rotations` [n+1, 3, 3] are the constant transforms before each joint's rotation about Z, and last
    to the site; `lower`, `upper` and `home` [rad] have shape [n]; `capsules` are the parts that may collide; `bodies` are the names
    of its moving parts in contacts.
    """

    arm: str
    positions: Floats
    rotations: Floats
    lower: Floats
    upper: Floats
    home: Floats
    capsules: Capsules
    bodies: frozenset[str] = frozenset()

    def __reduce__(self) -> tuple[object, ...]:
        """Copies its arrays when it is unpickled: Ray hands them over read-only, and numba would compile every kernel anew."""
        arrays = (self.positions, self.rotations, self.lower, self.upper, self.home)
        parts = (self.capsules.frame, self.capsules.ends, self.capsules.radius, self.capsules.pairs)
        return _unpickled, (self.arm, arrays, parts, self.bodies)

    @property
    def dof(self) -> int:
        """Number of joints."""
        return self.lower.shape[0]

    @staticmethod
    def of(robot: Robot, arm_index: int = 0) -> Chain:
        """The chain of `robot.arms[arm_index]`, cached; raises RobotError when the MJCF lacks a joint or site of the arm."""
        return _chain(robot, arm_index)

    def forward(self, q: Floats) -> tuple[Floats, Floats]:
        """World position [m] [3] and quaternion (w, x, y, z) [4], w >= 0, of the site at joints `q` [rad] [n]."""
        positions, rotations = forward_frames(self.positions, self.rotations, np.ascontiguousarray(q, np.float64))
        return positions[-1], matrix_to_quaternion(rotations[-1])

    def pose(self, q: Floats) -> Pose:
        """`forward` as a Pose: world_from_site."""
        position, quaternion = self.forward(q)
        x, y, z = (float(value) for value in position)
        return Pose(position=(x, y, z), quaternion=as_quaternion(quaternion))

    def tips(self, path: Floats) -> tuple[Floats, Floats]:
        """`forward` along a joint path [rad], shape [T, n]: positions [m], [T, 3], and quaternions, [T, 4]."""
        return tips_along(self.positions, self.rotations, np.ascontiguousarray(path, np.float64))

    def jacobian(self, q: Floats) -> Floats:
        """Linear [m/rad] over angular [rad/rad] velocity of the site per joint velocity, world frame, shape [6, n]."""
        jacobian = np.empty((6, self.dof))
        site_jacobian(*forward_frames(self.positions, self.rotations, np.ascontiguousarray(q, np.float64)), jacobian)
        return jacobian


def _unpickled(arm: str, arrays: tuple[Floats, ...], parts: tuple[NDArray[Any], ...], bodies: frozenset[str]) -> Chain:
    """The chain of these arrays, in the order of `Chain.__reduce__`."""
    positions, rotations, lower, upper, home = (array.copy() for array in arrays)
    frame, ends, radius, pairs = (part.copy() for part in parts)
    return Chain(
        arm=arm,
        positions=positions,
        rotations=rotations,
        lower=lower,
        upper=upper,
        home=home,
        capsules=Capsules(frame=frame, ends=ends, radius=radius, pairs=pairs),
        bodies=bodies,
    )


def as_quaternion(values: Floats) -> Quaternion:
    """Four numbers as a Quaternion tuple."""
    w, x, y, z = (float(value) for value in values)
    return w, x, y, z


@lru_cache(maxsize=16)
def _chain(robot: Robot, arm_index: int) -> Chain:
    arm, shape = robot.arms[arm_index], arm_geometry(robot, arm_index)
    base_rotation = quaternion_to_matrix(np.array(robot.world_from_base.quaternion))
    base_position = np.array(robot.world_from_base.position)
    positions, rotations = np.empty((len(shape.frames), 3)), np.empty((len(shape.frames), 3, 3))
    # Begins with the inverse of the base's pose, so that the first transform also takes the chain from the base to the world.
    before_position, before_rotation = -base_rotation.T @ base_position, base_rotation.T
    for i, (position, rotation) in enumerate(shape.frames):
        positions[i] = before_rotation.T @ (position - before_position)
        rotations[i] = before_rotation.T @ rotation
        before_position, before_rotation = position, rotation
    home, ends = np.array(arm.home, np.float64), shape.ends.copy()
    # Parts that do not move with a joint get no transform in `place`, so they are put into the world frame here.
    for part in np.flatnonzero(shape.carrier == BOLTED):
        ends[part] = ends[part] @ base_rotation.T + base_position
    capsules = Capsules(frame=shape.carrier, ends=ends, radius=shape.radius, pairs=np.empty((0, 2), np.int64))
    pairs = pairs_apart(capsules, *forward_frames(positions, rotations, home))
    return Chain(
        arm=arm.name,
        positions=positions,
        rotations=rotations,
        lower=shape.lower,
        upper=shape.upper,
        home=home,
        capsules=replace(capsules, pairs=pairs),
        bodies=shape.bodies,
    )
