"""One finished trajectory in a form for data sets: images by camera, commands and states by channel, instruction, provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError
from embodichain.motion.action import ActionCodec
from embodichain.types import Robot, TrajectoryInfo, TrajectorySpec, read_text

__all__ = ["POSE", "DatasetLayout", "Recorded", "channels_of"]

POSE = ("x", "y", "z", "qw", "qx", "qy", "qz")
"""Numbers of a pose, in order: position [m], then the quaternion, in the world frame."""


def channels_of(robot: Robot) -> tuple[str, ...]:
    """Names of the numbers in a robot's command: "left.joint1" [rad] ... "left.gripper" (its opening [m]), arm after arm."""
    return _channels((arm.name, len(arm.joints)) for arm in robot.arms)


def _channels(arms: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(f"{arm}.{part}" for arm, joints in arms for part in (*(f"joint{i + 1}" for i in range(joints)), "gripper"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLayout:
    """Properties that all episodes of one data set share: robot, cameras, channels and rates."""

    robot: str
    arms: tuple[str, ...]
    joints: tuple[int, ...]
    """Number of joints of each arm."""
    openings: tuple[float, ...]
    """Largest opening of each arm's gripper [m]."""
    cameras: tuple[str, ...]
    height: int
    width: int
    """Width of every image [pixels]."""
    control_hz: int
    """Commands per second."""
    chunk: int
    """Commands after each frame."""

    @classmethod
    def of(cls, robot: Robot, spec: TrajectorySpec) -> DatasetLayout:
        """The layout of trajectories of `robot` under `spec`.

        Raises ConfigError when `spec` has no images, or not one for each camera, or when the robot is commanded in movements of
        its end effector.
        """
        if robot.channels:
            raise ConfigError(
                f"{robot.name} is commanded in movements of its hand, and these formats hold targets of joints: its episodes "
                "cannot be exported yet"
            )
        names = [entry.name for entry in spec.fields]
        if "rgb" not in names:
            raise ConfigError(
                f"these trajectories hold no pictures (their fields: {', '.join(names)}): workers have encoded them; stream pixels "
                "(--world.encode.factory ''), or export scenes simulated on the spot (--task)"
            )
        _, count, height, width, _ = spec.field("rgb").shape
        if count != len(robot.cameras):
            raise ConfigError(f"{count} cameras were recorded and robot {robot.name!r} has {len(robot.cameras)}: say which --robot")
        return cls(
            robot=robot.name,
            arms=tuple(arm.name for arm in robot.arms),
            joints=tuple(len(arm.joints) for arm in robot.arms),
            openings=tuple(arm.gripper_open for arm in robot.arms),
            cameras=tuple(camera.name for camera in robot.cameras),
            height=height,
            width=width,
            control_hz=robot.control_hz,
            chunk=spec.chunk,
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the numbers of a command, equal to `channels_of(robot)`."""
        return _channels(zip(self.arms, self.joints, strict=True))

    @property
    def poses(self) -> tuple[str, ...]:
        """Names of the numbers in the poses of all end effectors: "left.x" ... "left.qz", arm after arm."""
        return tuple(f"{arm}.{part}" for arm in self.arms for part in POSE)

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.control_hz, self.chunk)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """One trajectory of F chunks of K commands, and F + 1 frames; the arrays are copies, not views of a ring's slot."""

    trajectory_id: int
    """Packed TrajectoryId."""
    instruction: str
    info: TrajectoryInfo
    rgb: NDArray[np.uint8]
    """Images of all cameras, [F + 1, C, h, w, 3]."""
    state: NDArray[np.float32]
    """Measured joints [rad] and gripper openings [m] at each frame, in the order of `DatasetLayout.channels`, [F + 1, n]."""
    state_pose: NDArray[np.float32]
    """Measured poses of the end effectors, in the order of `DatasetLayout.poses`, [F + 1, 7 x arms]."""
    action: NDArray[np.float32]
    """Commands, in the order of `DatasetLayout.channels`, [F, K, n]."""
    action_pose: NDArray[np.float32]
    """Commanded poses of the end effectors, in the order of `DatasetLayout.poses`, [F, K, 7 x arms]."""
    segment: NDArray[np.uint8]
    """`types.Segment` of each chunk, [F]."""

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray], codec: ActionCodec) -> Recorded:
        """Copies a trajectory out of a slot's arrays, without the padding after the episode's end."""
        chunks = int(arrays["num_chunks"])
        action, proprio = arrays["action"][:chunks], arrays["proprio"][: chunks + 1]
        poses = len(POSE) * len(codec.robot.arms)  # the poses come first in a unified action
        return cls(
            trajectory_id=int(arrays["trajectory_id"]),
            instruction=read_text(arrays["instruction"]),
            info=TrajectoryInfo.decode(arrays["info"]),
            rgb=arrays["rgb"][: chunks + 1].copy(),
            state=codec.decode(proprio).astype(np.float32),
            state_pose=proprio[:, :poses].copy(),
            action=codec.decode(action).astype(np.float32),
            action_pose=action[..., :poses].copy(),
            segment=arrays["segment"][:chunks].copy(),
        )

    @property
    def num_frames(self) -> int:
        """Number of frames, F + 1."""
        return len(self.rgb)
