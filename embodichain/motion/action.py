"""The unified action: converts commands of any robot with up to two arms to 30 common channels, and back without loss.

Layout (`types.ACTION_DIM`): left EEF pose 0-6, right EEF pose 7-13 (x, y, z [m], qw, qx, qy, qz, world frame), left joints 14-20,
right joints 21-27 [rad], grippers 28-29 (opening [m]). A robot with one arm uses the left channels.

For a robot that is commanded by displacements of its hand, `Robot.channels` lists the channels of its command values.

Of the two quaternions of an orientation, the one closer to the arm's home orientation is used. With the usual choice qw >= 0, the
sign would flip at random for a gripper that points straight down (qw = 0), which no model could learn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RobotError
from embodichain.machine_code import compiled
from embodichain.motion.clearance import Floats
from embodichain.motion.kinematics import Chain, forward_frames, matrix_to_quaternion
from embodichain.types import ACTION_DIM, ChannelLimits, Robot

_EEF, _JOINTS, _GRIPPER = (0, 7), (14, 21), (28, 29)
MAX_ARMS = 2
MAX_JOINTS = 7


@compiled()
def _poses(positions: Floats, rotations: Floats, joints: Floats, home: Floats) -> Floats:
    """EEF poses [N, 7] from joints [N, n], with the quaternions closer to `home` [4]."""
    out = np.empty((joints.shape[0], 7))
    for i in range(joints.shape[0]):
        frame_positions, frame_rotations = forward_frames(positions, rotations, joints[i])
        out[i, :3] = frame_positions[-1]
        quaternion = matrix_to_quaternion(frame_rotations[-1])
        out[i, 3:] = -quaternion if np.dot(quaternion, home) < 0.0 else quaternion
    return out


def _upright(quaternion: Floats) -> Floats:
    """The quaternion of the same orientation whose largest component is positive, so that rounding cannot flip its sign."""
    return quaternion * np.sign(quaternion[np.argmax(np.abs(quaternion))])


class ActionCodec:
    """Converts commands of one robot, or measurements, which have the same layout, to unified actions and back.

    `encode` first rounds a command to float32 and computes everything, including EEF poses, from the rounded values. `decode` reads
    only the joint and gripper channels. So decode(encode(c)) == c if c is exact in float32, and encode(decode(a)) == a bitwise for
    every output a of `encode`.
    """

    def __init__(self, robot: Robot) -> None:
        """Raises RobotError when the robot has more than two arms or an arm of more than seven joints."""
        self._channels = list(robot.channels)
        if robot.channels:
            self.robot, self.chains = robot, ()
            return
        if not 1 <= len(robot.arms) <= MAX_ARMS or any(len(arm.joints) > MAX_JOINTS for arm in robot.arms):
            sizes = {arm.name: len(arm.joints) for arm in robot.arms}
            raise RobotError(
                f"robot {robot.name!r} has arms with joints {sizes}; the unified action holds {MAX_ARMS} arms of up to {MAX_JOINTS}"
            )
        self.robot = robot
        self.chains = tuple(Chain.of(robot, i) for i in range(len(robot.arms)))
        self._homes = tuple(_upright(np.array(chain.pose(chain.home).quaternion)) for chain in self.chains)

    @property
    def action_dim(self) -> int:
        """Number of channels of a unified action."""
        return ACTION_DIM

    @property
    def mask(self) -> NDArray[np.uint8]:
        """1 for channels that the robot has, shape [30]."""
        mask = np.zeros(ACTION_DIM, np.uint8)
        mask[self._channels] = 1
        if self._channels:
            return mask
        for i, arm in enumerate(self.robot.arms):
            mask[_EEF[i] : _EEF[i] + 7] = 1
            mask[_JOINTS[i] : _JOINTS[i] + len(arm.joints)] = 1
            mask[_GRIPPER[i]] = 1 if arm.gripper_joints else 0
        return mask

    @property
    def limits(self) -> ChannelLimits:
        """Limits of each channel: ranges of joints and grippers, a bound on the arm's reach, and -1..1 for quaternions."""
        low, high = np.zeros(ACTION_DIM, np.float32), np.zeros(ACTION_DIM, np.float32)
        low[self._channels], high[self._channels] = -1.0, 1.0
        if self._channels:
            return ChannelLimits(low, high)
        for i, (arm, chain) in enumerate(zip(self.robot.arms, self.chains, strict=True)):
            reach = float(np.linalg.norm(chain.positions[1:], axis=1).sum())
            base, eef, joints = chain.positions[0], _EEF[i], slice(_JOINTS[i], _JOINTS[i] + chain.dof)
            low[eef : eef + 3], high[eef : eef + 3] = base - reach, base + reach
            low[eef + 3 : eef + 7], high[eef + 3 : eef + 7] = -1.0, 1.0
            low[joints], high[joints] = chain.lower, chain.upper
            low[_GRIPPER[i]], high[_GRIPPER[i]] = -arm.gripper_squeeze, arm.gripper_open
        return ChannelLimits(low, high)

    def encode(self, command: NDArray[np.floating]) -> NDArray[np.float32]:
        """Unified actions, shape [..., 30], of commands [..., command_size]."""
        rounded = self.round(command)
        action = np.zeros((*rounded.shape[:-1], ACTION_DIM), np.float32)
        if self._channels:
            action[..., self._channels] = rounded
            return action
        column = 0
        for i, (arm, chain) in enumerate(zip(self.robot.arms, self.chains, strict=True)):
            joints = rounded[..., column : column + len(arm.joints)]
            action[..., _JOINTS[i] : _JOINTS[i] + len(arm.joints)] = joints
            action[..., _GRIPPER[i]] = rounded[..., column + len(arm.joints)]
            flat = np.ascontiguousarray(joints.reshape(-1, len(arm.joints)))
            action[..., _EEF[i] : _EEF[i] + 7] = _poses(chain.positions, chain.rotations, flat, self._homes[i]).reshape(
                *joints.shape[:-1], 7
            )
            column += arm.command_size
        return action

    def decode(self, action: NDArray[np.floating]) -> NDArray[np.float64]:
        """Commands, shape [..., command_size], of unified actions [..., 30], from the joint and gripper channels."""
        if self._channels:
            return action[..., self._channels].astype(np.float64)
        parts = []
        for i, arm in enumerate(self.robot.arms):
            parts += [action[..., _JOINTS[i] : _JOINTS[i] + len(arm.joints)], action[..., _GRIPPER[i] : _GRIPPER[i] + 1]]
        return np.concatenate(parts, axis=-1).astype(np.float64)

    def round(self, command: NDArray[np.floating]) -> NDArray[np.float64]:
        """Rounds every value of a command to float32. If this command is simulated, a replay from the action is bitwise exact."""
        command = np.asarray(command, np.float64)
        if command.shape[-1:] != (self.robot.command_size,):
            raise ValueError(f"commands of {self.robot.name!r} have {self.robot.command_size} values, got shape {command.shape}")
        # What is simulated must be what is stored: actions are float32, so commands are rounded before physics sees them.
        return command.astype(np.float32).astype(np.float64)
