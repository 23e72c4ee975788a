"""What a robot from a file stands at: its table, where its arms are put, and a camera where the file has none."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from embodichain.robots.chains import Limb
from embodichain.types.poses import Pose, turn
from embodichain.types.robots import Camera
from embodichain.types.scenes import TABLE_SIZE

HEAD = Camera(name="head", fovy=50.0)
"""The camera of a robot whose file has none."""
_TABLE_TOP = tuple(extent / 2 for extent in TABLE_SIZE)
_FLOOR = -0.7
_FACING = 0.4
"""Least distance [m] of the bases of two arms that face each other over the table."""
_ASIDE, _CENTERED = 0.15, 0.02
"""Arms whose middle is this far from the table's X axis [m] are moved to it; a shift by less than the second is none."""


def prepare_table(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
    """Names the file's own table, if its top is near z = 0. Lowers a floor that lies there instead."""
    for geom in spec.geoms:
        index = geom.id
        fixed = int(model.body_weldid[model.geom_bodyid[index]]) == 0
        if fixed and int(model.geom_type[index]) == int(mujoco.mjtGeom.mjGEOM_PLANE) and abs(data.geom_xpos[index, 2]) < 0.1:
            geom.pos = (geom.pos[0], geom.pos[1], geom.pos[2] + _FLOOR)
    if spec.body("table") is not None and spec.geom("table") is not None:
        return True
    for geom in spec.geoms:
        index = geom.id
        half = model.geom_size[index]
        if (
            int(model.body_weldid[model.geom_bodyid[index]]) == 0
            and int(model.geom_bodyid[index]) != 0
            and int(model.geom_type[index]) == int(mujoco.mjtGeom.mjGEOM_BOX)
            and min(half[0], half[1]) > 0.15
            and abs(float(data.geom_xpos[index, 2]) + half[2]) < 0.02
            and (model.geom_contype[index] or model.geom_conaffinity[index])
        ):
            spec.bodies[int(model.geom_bodyid[index])].name = geom.name = "table"
            return True
    return False


def stand(model: mujoco.MjModel, data: mujoco.MjData, limbs: list[Limb], has_table: bool) -> Pose:
    """Where the file's world frame stands, so that the arms work over the table's centre: as it is, if they do already.

    Arms that face each other stand left and right of the centre. Others stand behind it, by 0.6 of their reach, and face along +X.
    `limbs` are in the order of their names: left, right.
    """
    anchors = [data.xanchor[limb.joints] for limb in limbs]
    roots = np.array([a[0, :2] for a in anchors])
    ahead = np.array([data.xpos[limb.hand, :2] - root for limb, root in zip(limbs, roots, strict=True)])
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    middle = roots.mean(axis=0)
    if len(limbs) == 2 and np.linalg.norm(between := roots[0] - roots[1]) > _FACING:
        between = between / np.linalg.norm(between)
        opposite = roots[:, 0].min() < -0.2 < 0.2 < roots[:, 0].max()  # before and behind the centre
        if opposite or (ahead[0] @ between < -0.5 and ahead[1] @ between > 0.5):
            return _placed(middle, math.pi / 2 - math.atan2(between[1], between[0]), 0.0)
    if middle[0] < -0.1 and (not has_table or abs(middle[1]) < _ASIDE):
        return Pose()
    if has_table and abs(middle[1]) < _ASIDE and middle[0] > -0.1:
        return Pose()
    reach = max(float(np.sum(np.linalg.norm(np.diff(a, axis=0), axis=1))) for a in anchors)
    return _placed(middle if has_table else np.zeros(2), 0.0, -min(max(0.6 * reach, 0.2), 0.5))


def _placed(middle: np.ndarray, yaw: float, x: float) -> Pose:
    """The pose of a frame that is turned by `yaw` [rad] and puts its point `middle` [m] at (x, 0)."""
    yaw = math.remainder(yaw, 2.0 * math.pi)
    if abs(yaw) < 0.02 and math.hypot(middle[0] - x, middle[1]) < _CENTERED:
        return Pose()
    cosine, sine = math.cos(yaw), math.sin(yaw)
    position = (x - cosine * middle[0] + sine * middle[1], -sine * middle[0] - cosine * middle[1], 0.0)
    return Pose(position=(float(position[0]) + 0.0, float(position[1]) + 0.0, 0.0), quaternion=turn((0.0, 0.0, 1.0), yaw))


def add_table(spec: mujoco.MjSpec, world_from_base: Pose) -> None:
    """Adds a table whose top is the world's z = 0, in the coordinates of the file."""
    quaternion, position = np.empty(4), np.empty(3)
    mujoco.mju_negPose(position, quaternion, np.array(world_from_base.position), np.array(world_from_base.quaternion))
    table = spec.worldbody.add_body(name="table", pos=position, quat=quaternion)
    table.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=_TABLE_TOP,
        pos=(0.0, 0.0, -_TABLE_TOP[2]),
        rgba=(0.62, 0.55, 0.47, 1.0),
        contype=1,
        conaffinity=1,
        group=0,
    )


def add_head(spec: mujoco.MjSpec, world_from_base: Pose) -> None:
    """Adds a camera that looks at the table from the front, where an arm at the back hides least of it."""
    quaternion, position = np.empty(4), np.empty(3)
    mujoco.mju_negPose(position, quaternion, np.array(world_from_base.position), np.array(world_from_base.quaternion))
    eye, target = np.array((0.62, 0.0, 0.72)), np.array((-0.03, 0.0, 0.0))
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    camera_quaternion, eye_in_base = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(camera_quaternion, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    mujoco.mju_rotVecQuat(eye_in_base, eye, quaternion)
    turned = np.empty(4)
    mujoco.mju_mulQuat(turned, quaternion, camera_quaternion)
    spec.worldbody.add_camera(name=HEAD.name, pos=position + eye_in_base, quat=turned, fovy=HEAD.fovy)
