"""What stands on the table before any object does: the bolted parts of the robot, seen from above."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np

from embodichain.errors import RobotError
from embodichain.motion.kinematics import Chain
from embodichain.scenes.layout import Footprint
from embodichain.types import Robot, Vec3, rotate

_TABLE_TOP = 1e-3


def arm_bases(robot: Robot) -> tuple[tuple[str, Vec3], ...]:
    """Where each arm's first joint stands [m, world frame], by the arm's name."""
    found = []
    for number, arm in enumerate(robot.arms):
        x, y, z = Chain.of(robot, number).positions[0].tolist()
        found.append((arm.name, (x, y, z)))
    return tuple(found)


def standing_parts(robot: Robot) -> tuple[Footprint, ...]:
    """One footprint in world coordinates for each colliding part of the robot that no joint moves and that rises off the table."""
    try:
        model = mujoco.MjModel.from_xml_string(robot.mjcf)
    except ValueError as error:
        raise RobotError(f"robot {robot.name!r} has MJCF that does not compile: {error}") from error
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    found = []
    for geom in range(model.ngeom):
        fixed = model.body_weldid[model.geom_bodyid[geom]] == 0
        collides = model.geom_contype[geom] or model.geom_conaffinity[geom]
        if not fixed or not collides or model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
            continue
        center, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        corners = center + half * np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        in_base = corners @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        corners = rotate(robot.world_from_base.quaternion, in_base) + robot.world_from_base.position
        if corners[:, 2].max() > _TABLE_TOP:
            found.append(Footprint.of_points(corners[:, :2]))
    return tuple(found)
