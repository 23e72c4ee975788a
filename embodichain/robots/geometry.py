"""Geometry of a robot's MJCF: frames of joints and cameras, bolted parts, colliding parts. No kinematics.

Everything is in the robot's base frame (`Robot.world_from_base` maps it to the world), in metres and radians.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RobotError
from embodichain.robots.chains import opening_signs
from embodichain.types import Arm, Robot

Floats = NDArray[np.float64]

BOLTED = -1
"""Carrier of a part that no joint of the arm moves."""
_CAPSULE, _CYLINDER, _SPHERE = (
    int(kind) for kind in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_SPHERE)
)
_PLANE = int(mujoco.mjtGeom.mjGEOM_PLANE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmGeometry:
    """One arm with its joints at zero, the other arms at home and all grippers open."""

    frames: tuple[tuple[Floats, Floats], ...]
    """Position [3] and rotation [3, 3] of each joint, whose axis is Z, and of the site at the end."""
    lower: Floats
    """Limits of the joints, shape [n]; half a turn to either side where the file sets none."""
    upper: Floats
    carrier: NDArray[np.int64]
    """The joint that carries each capsule of a colliding part, or BOLTED, shape [k]."""
    ends: Floats
    """End points of each capsule in the frame of its carrier (the base frame when bolted), shape [k, 2, 3]."""
    radius: Floats
    """Radius of each capsule, shape [k]."""
    bodies: frozenset[str]
    """Names, as in contacts, of the bodies that the joints move."""


def arm_geometry(robot: Robot, arm_index: int) -> ArmGeometry:
    """The geometry of `robot.arms[arm_index]`. Raises RobotError when the MJCF lacks a joint or site that the arm names."""
    arm, model = robot.arms[arm_index], _compile(robot)
    joints = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in arm.joints]
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, arm.site)
    if -1 in joints or site == -1:
        missing = [n for n, j in zip(arm.joints, joints, strict=True) if j == -1] + ([arm.site] if site == -1 else [])
        raise RobotError(f"robot {robot.name!r} has no joint or site {missing} that arm {arm.name!r} names")
    data = mujoco.MjData(model)
    for other in robot.arms:
        for name, value in zip(other.joints, other.home, strict=True):
            data.qpos[model.joint(name).qposadr[0]] = value
        for name, value in open_gripper(model, other).items():
            data.qpos[model.joint(name).qposadr[0]] = value
    data.qpos[model.jnt_qposadr[joints]] = 0.0
    mujoco.mj_kinematics(model, data)
    frames = [(data.xanchor[joint].copy(), _frame_with_z(data.xaxis[joint])) for joint in joints]
    frames.append((data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy()))
    others = [model.joint(name).id for other in robot.arms if other is not arm for name in other.joints]
    carriers, ends, radii = _capsules(model, data, joints, others, frames)
    limited = model.jnt_limited[joints].astype(bool)
    return ArmGeometry(
        frames=tuple(frames),
        lower=np.where(limited, model.jnt_range[joints, 0], -np.pi),
        upper=np.where(limited, model.jnt_range[joints, 1], np.pi),
        carrier=np.array(carriers, np.int64),
        ends=np.array(ends, np.float64).reshape(-1, 2, 3),
        radius=np.array(radii, np.float64),
        bodies=frozenset(_moved_by(model, joints)),
    )


def gripper_travel(model: mujoco.MjModel, arm: Arm, prefix: str = "") -> tuple[float, ...]:
    """Change of the opening for one unit of each gripper joint [m/m, m/rad]; `prefix` stands before the robot's names."""
    if arm.gripper_travel or not arm.gripper_joints:
        return arm.gripper_travel
    signs = opening_signs(model, [model.joint(prefix + name).id for name in arm.gripper_joints])
    return tuple(float(sign) for sign in signs)


def open_gripper(model: mujoco.MjModel, arm: Arm, prefix: str = "") -> dict[str, float]:
    """Positions of all joints of the open gripper [m, rad], by name in the robot, those that nothing drives included."""
    travel = gripper_travel(model, arm, prefix)
    driven = {name: arm.gripper_open / (one * len(travel)) for name, one in zip(arm.gripper_joints, travel, strict=True)}
    return {**driven, **dict(arm.gripper_rest)}


def bolted_boxes(robot: Robot) -> list[Floats]:
    """The corners [8, 3] of the bounding box of each colliding part that no joint moves, except planes."""
    model = _compile(robot)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    found = []
    for geom in range(model.ngeom):
        fixed = model.body_weldid[model.geom_bodyid[geom]] == 0
        if not fixed or not _collides(model, geom) or model.geom_type[geom] == _PLANE:
            continue
        center, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        corners = center + half * np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        found.append(corners @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return found


def bolted_cameras(robot: Robot) -> list[tuple[Floats, Floats, float]]:
    """Eye [3], axes [3, 3] (columns: right, up, backward) and field of view [degrees] of each camera that no joint moves."""
    model = _compile(robot)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    found = []
    for camera in robot.cameras:
        index = model.camera(camera.name).id
        if model.body_weldid[model.cam_bodyid[index]] == 0:
            found.append((data.cam_xpos[index].copy(), data.cam_xmat[index].reshape(3, 3).copy(), camera.fovy))
    return found


def _compile(robot: Robot) -> mujoco.MjModel:
    try:
        return mujoco.MjModel.from_xml_string(robot.mjcf)
    except ValueError as error:
        raise RobotError(f"robot {robot.name!r} has MJCF that does not compile: {error}") from error


def _collides(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.geom_contype[geom] or model.geom_conaffinity[geom])


def _capsules(
    model: mujoco.MjModel, data: mujoco.MjData, joints: list[int], others: list[int], frames: list[tuple[Floats, Floats]]
) -> tuple[list[int], list[Floats], list[float]]:
    """Carriers, ends and radii of the capsules of an arm whose `joints` now have the `frames`.

    Geoms moved by `others` (the joints of the other arms) are left out, and so is the table, because grippers approach it on
    purpose.
    """
    moved_by = {int(model.jnt_bodyid[joint]): i for i, joint in enumerate(joints)}
    not_ours = {int(model.jnt_bodyid[joint]) for joint in others}
    carriers, ends, radii = [], [], []
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        table = model.body(body).name == "table" or int(model.geom_type[geom]) == _PLANE
        while body and body not in moved_by and body not in not_ours:
            body = int(model.body_parentid[body])
        if table or body in not_ours or not _collides(model, geom):
            continue
        for points, radius in _geom_capsules(model, geom):
            points = points @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
            if body:
                position, rotation = frames[moved_by[body]]
                points = (points - position) @ rotation
            ends.append(points)
            carriers.append(moved_by[body] if body else BOLTED)
            radii.append(radius)
    return carriers, ends, radii


def _geom_capsules(model: mujoco.MjModel, geom: int) -> list[tuple[Floats, float]]:
    """(end points [2, 3], radius) in the geom's frame. A box or mesh is its bounding box: four long edges and the core between."""
    center, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
    kind = int(model.geom_type[geom])
    if kind in (_CAPSULE, _CYLINDER, _SPHERE):
        along = np.array([0.0, 0.0, half[2] - (0.0 if kind == _CYLINDER else half[0])])
        return [(np.stack([center - along, center + along]), float(half[0]))]
    long = int(np.argmax(half))
    first, second = (axis for axis in range(3) if axis != long)
    core = float(min(half[first], half[second]))
    along, aside, across = half * np.eye(3)[long], half * np.eye(3)[first], half * np.eye(3)[second]
    shrunk = along * (1.0 - core / half[long]) if half[long] > 0.0 else along
    capsules = [(np.stack([center - shrunk, center + shrunk]), core)]
    for corner in (aside + across, aside - across, -aside + across, -aside - across):
        capsules.append((np.stack([center + corner - along, center + corner + along]), 0.0))
    return capsules


def _moved_by(model: mujoco.MjModel, joints: list[int]) -> list[str]:
    """Names, as in contacts, of the bodies that the joints move."""
    roots, found = {int(model.jnt_bodyid[joint]) for joint in joints}, []
    for body in range(1, model.nbody):
        ancestor = body
        while ancestor and ancestor not in roots:
            ancestor = int(model.body_parentid[ancestor])
        if ancestor:
            found.append(f"robot/{model.body(body).name}")
    return found


def _frame_with_z(axis: Floats) -> Floats:
    """A rotation matrix whose third column is the unit vector `axis`."""
    x = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(axis, x), axis], axis=1).astype(np.float64)
