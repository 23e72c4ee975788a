"""Obstacles on the table before any object is placed: the bolted parts of the robot, seen from above."""

from __future__ import annotations

from embodichain.motion.kinematics import Chain
from embodichain.robots.geometry import bolted_boxes
from embodichain.scenes.layout import Footprint
from embodichain.types import Robot, Vec3, rotate

_TABLE_TOP = 1e-3


def arm_bases(robot: Robot) -> tuple[tuple[str, Vec3], ...]:
    """Position of each arm's first joint [m, world frame], by the arm's name."""
    found = []
    for number, arm in enumerate(robot.arms):
        x, y, z = Chain.of(robot, number).positions[0].tolist()
        found.append((arm.name, (x, y, z)))
    return tuple(found)


def standing_parts(robot: Robot) -> tuple[Footprint, ...]:
    """One footprint in world coordinates for each colliding part of the robot that no joint moves and that rises off the table."""
    found = []
    for in_base in bolted_boxes(robot):
        corners = rotate(robot.world_from_base.quaternion, in_base) + robot.world_from_base.position
        if corners[:, 2].max() > _TABLE_TOP:
            found.append(Footprint.of_points(corners[:, :2]))
    return tuple(found)
