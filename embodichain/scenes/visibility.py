"""Who sees what: the share of an object that lies inside the picture of some camera that stands still."""

from __future__ import annotations

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RobotError
from embodichain.types import Asset, Pose, Robot, rotate
from embodichain.types.poses import matrix_of

Floats = NDArray[np.float64]
_CORNERS = 96
"""At most so many of an object's vertices are looked for."""


class Views:
    """The cameras of a robot that no joint moves; pictures are taken to be square. What stands in between is not seen here."""

    def __init__(self, robot: Robot) -> None:
        """Raises RobotError when the robot's MJCF does not compile."""
        try:
            model = mujoco.MjModel.from_xml_string(robot.mjcf)
        except ValueError as error:
            raise RobotError(f"robot {robot.name!r} has MJCF that does not compile: {error}") from error
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        base = matrix_of(robot.world_from_base.quaternion)
        self._cameras: list[tuple[Floats, Floats, float]] = []
        for camera in robot.cameras:
            index = model.camera(camera.name).id
            if model.body_weldid[model.cam_bodyid[index]] != 0:
                continue
            eye = base @ data.cam_xpos[index] + robot.world_from_base.position
            axes = base @ data.cam_xmat[index].reshape(3, 3)
            self._cameras.append((eye, axes, math.tan(math.radians(camera.fovy) / 2)))
        self._points: dict[str, Floats] = {}

    def share(self, asset: Asset, pose: Pose) -> float:
        """How much of an asset at `pose` the camera that sees most of it has in its picture, 0..1; 1 without such cameras."""
        if not self._cameras:
            return 1.0
        key = f"{asset.name}:{asset.content_hash}"
        if key not in self._points:
            points = np.concatenate(
                [rotate(body.body_pose.quaternion, body.visual.vertices) + body.body_pose.position for body in asset.bodies]
            )
            self._points[key] = points[:: max(1, len(points) // _CORNERS)]
        points = rotate(pose.quaternion, self._points[key]) + pose.position
        best = 0.0
        for eye, axes, half in self._cameras:
            seen = (points - eye) @ axes
            depth = -seen[:, 2]
            inside = (depth > 0.0) & (np.abs(seen[:, :2]).max(axis=1) <= half * depth)
            best = max(best, float(inside.mean()))
        return best
