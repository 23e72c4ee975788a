"""Robots of foreign benchmarks, with their action spaces: displacements of a hand, not joint targets.

A command is the benchmark's own action in -1..1. A measurement has as many values: the pose of the hand, and the opening of its
gripper. Both use the channels of the left end effector and of the left gripper, in the benchmark's own units.
"""

from __future__ import annotations

from embodichain.types import Arm, Camera, Robot

_GRIPPER = 28
"""Channel of the left gripper in the unified representation."""


def metaworld() -> Robot:
    """Meta-World's Sawyer. Command: dx, dy, dz in steps of a hundredth of a metre, then the gripper's effort, -1 open and 1 closed.

    Measured: the hand's position [m], and the opening as a share of the widest.
    """
    hand = Arm(
        name="hand", joints=("x", "y", "z"), site="", home=(0.0, 0.0, 0.0), gripper_joints=("r_close", "l_close"), gripper_open=-1.0
    )
    cameras = (Camera(name="corner4", fovy=60.0), Camera(name="gripperPOV", fovy=90.0))
    return Robot(name="metaworld", mjcf="", arms=(hand,), cameras=cameras, control_hz=80, channels=(0, 1, 2, _GRIPPER))


def robosuite() -> Robot:
    """Robosuite's Panda. Command: dx, dy, dz in steps of 5 cm, a rotation vector in steps of half a radian, the gripper as above.

    Measured: the hand's position [m], its rotation vector in units of pi, and the opening as a share of the widest.
    """
    axes = ("x", "y", "z", "rotation_x", "rotation_y", "rotation_z")
    hand = Arm(name="hand", joints=axes, site="", home=(0.0,) * 6, gripper_joints=("finger_1", "finger_2"), gripper_open=-1.0)
    cameras = (Camera(name="agentview", fovy=45.0), Camera(name="robot0_eye_in_hand", fovy=75.0))
    return Robot(name="robosuite", mjcf="", arms=(hand,), cameras=cameras, control_hz=20, channels=(0, 1, 2, 3, 4, 5, _GRIPPER))
