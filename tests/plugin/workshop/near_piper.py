"""A robot: the dual-arm platform under a name of its own, its grippers opened a little less."""

from dataclasses import replace

from embodichain.robots import dual_piper
from embodichain.types import Robot


def near_piper() -> Robot:
    """Two arms whose grippers open 60 mm."""
    robot = dual_piper()
    return replace(robot, name="near_piper", arms=tuple(replace(arm, gripper_open=0.06) for arm in robot.arms))
