"""A robot at home as plain values: its links where they are, their shapes and masses, its joints and cameras."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RobotError
from embodichain.types import Pose, Quaternion, Robot, Vec3
from embodichain.types.assets import ShapeKind

__all__ = ["PosedCamera", "PosedJoint", "PosedLink", "PosedRobot", "PosedShape", "posed"]

_KINDS = {
    int(mujoco.mjtGeom.mjGEOM_BOX): ShapeKind.BOX,
    int(mujoco.mjtGeom.mjGEOM_SPHERE): ShapeKind.SPHERE,
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): ShapeKind.CYLINDER,
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): ShapeKind.CAPSULE,
}
_MESH = int(mujoco.mjtGeom.mjGEOM_MESH)
_VISIBLE_GROUPS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PosedShape:
    """A solid of a link: an analytic one of `size` (as in `types.Shape`) or, where `kind` is None, triangles in its own frame."""

    name: str
    kind: ShapeKind | None
    size: Vec3
    link_from_shape: Pose
    color: tuple[float, float, float, float]
    visible: bool
    collides: bool
    friction: float
    vertices: NDArray[np.float64]
    """[V, 3] in metres; empty for an analytic solid."""
    faces: NDArray[np.int32]
    """[F, 3]; empty for an analytic solid."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PosedLink:
    """A rigid body at home. `mass` [kg] is 0 for what is part of the world, which has no dynamics."""

    name: str
    base_from_link: Pose
    mass: float
    center_of_mass: Vec3
    diagonal_inertia: Vec3
    principal_axes: Quaternion
    shapes: tuple[PosedShape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedJoint:
    """A joint of `child` with `parent` ("" is the world). Without an axis it is fixed.

    `axis` and `anchor` [m] are in the child's frame; `position`, `lower` and `upper` in rad or m, infinite where there is no limit.
    """

    name: str
    parent: str
    child: str
    axis: Vec3 | None = None
    anchor: Vec3 = (0.0, 0.0, 0.0)
    turns: bool = True
    lower: float = -np.inf
    upper: float = np.inf
    position: float = 0.0
    stiffness: float = 0.0
    damping: float = 0.0
    effort: float = np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedCamera:
    """A camera on `link` ("" is the base): it looks along its -Z, up is +Y, with a vertical field of view [degrees]."""

    name: str
    link: str
    link_from_camera: Pose
    fovy: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PosedRobot:
    """The robot; what belongs to no link is in the first, which is called "" and has no mass."""

    links: tuple[PosedLink, ...]
    joints: tuple[PosedJoint, ...]
    cameras: tuple[PosedCamera, ...]


@lru_cache(maxsize=8)
def posed(robot: Robot) -> PosedRobot:
    """The robot with its arms at home and its grippers open, in its base frame, without its table.

    Raises RobotError for an MJCF that does not compile, and for a body with several joints.
    """
    model = _compile(robot)
    data = mujoco.MjData(model)
    for arm in robot.arms:
        for name, value in zip(arm.joints, arm.home, strict=True):
            data.qpos[model.joint(name).qposadr[0]] = value
        for name in arm.gripper_joints:
            low, high = model.joint(name).range
            travel = arm.gripper_open / len(arm.gripper_joints)
            data.qpos[model.joint(name).qposadr[0]] = -travel if abs(low) > abs(high) else travel
    mujoco.mj_kinematics(model, data)
    kept = [body for body in range(model.nbody) if model.body(body).name != "table"]
    links = tuple(_link(model, data, body) for body in kept)
    joints = tuple(_joint(model, data, body) for body in kept if body)
    cameras = []
    for camera in robot.cameras:
        index = model.camera(camera.name).id
        pose = _pose(model.cam_pos[index], model.cam_quat[index])
        owner = _name(model, int(model.cam_bodyid[index]))
        cameras.append(PosedCamera(name=camera.name, link=owner, link_from_camera=pose, fovy=camera.fovy))
    return PosedRobot(links=links, joints=joints, cameras=tuple(cameras))


def _compile(robot: Robot) -> mujoco.MjModel:
    try:
        spec = mujoco.MjSpec.from_string(robot.mjcf)
        if robot.mesh_dir is not None:
            spec.meshdir = str(robot.mesh_dir)
        return spec.compile()
    except ValueError as error:
        raise RobotError(f"robot {robot.name!r} has MJCF that does not compile: {error}") from error


def _link(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> PosedLink:
    first, count = int(model.body_geomadr[body]), int(model.body_geomnum[body])
    geoms = (_shape(model, geom) for geom in range(first, first + count))
    return PosedLink(
        name=_name(model, body),
        base_from_link=_pose(data.xpos[body], data.xquat[body]),
        mass=float(model.body_mass[body]) if body else 0.0,
        center_of_mass=_vec3(model.body_ipos[body]),
        diagonal_inertia=_vec3(model.body_inertia[body]),
        principal_axes=_pose(model.body_ipos[body], model.body_iquat[body]).quaternion,
        shapes=tuple(shape for shape in geoms if shape is not None),
    )


def _shape(model: mujoco.MjModel, geom: int) -> PosedShape | None:
    """A geom; None for a plane, a height field or an ellipsoid."""
    kind, (a, b, c) = int(model.geom_type[geom]), _vec3(model.geom_size[geom])
    vertices, faces = np.empty((0, 3)), np.empty((0, 3), np.int32)
    if kind == _MESH:
        mesh = int(model.geom_dataid[geom])
        start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        vertices = model.mesh_vert[start : start + count].astype(np.float64)
        start, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
        faces = model.mesh_face[start : start + count].copy()
    elif kind not in _KINDS:
        return None
    solid = _KINDS.get(kind)
    size = (2 * a, 2 * b, 2 * c) if solid is ShapeKind.BOX else (a, 0.0 if solid is ShapeKind.SPHERE else 2 * b, 0.0)
    red, green, blue, alpha = (float(value) for value in model.geom_rgba[geom])
    if (material := int(model.geom_matid[geom])) >= 0:
        red, green, blue, alpha = (float(value) for value in model.mat_rgba[material])
    return PosedShape(
        name=model.geom(geom).name,
        kind=solid,
        size=size if solid else (0.0, 0.0, 0.0),
        link_from_shape=_pose(model.geom_pos[geom], model.geom_quat[geom]),
        color=(red, green, blue, alpha),
        visible=int(model.geom_group[geom]) < _VISIBLE_GROUPS and alpha > 0.0,
        collides=bool(model.geom_contype[geom] or model.geom_conaffinity[geom]),
        friction=float(model.geom_friction[geom, 0]),
        vertices=vertices,
        faces=faces,
    )


def _joint(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> PosedJoint:
    name, count = _name(model, body), int(model.body_jntnum[body])
    parent = _name(model, int(model.body_parentid[body]))
    if count == 0:
        return PosedJoint(name=f"{name}_mount", parent=parent, child=name)
    joint = int(model.body_jntadr[body])
    kind = int(model.jnt_type[joint])
    turns = kind == int(mujoco.mjtJoint.mjJNT_HINGE)
    if count > 1 or not (turns or kind == int(mujoco.mjtJoint.mjJNT_SLIDE)):
        raise RobotError(f"link {name!r} has {count} joints, or one that is no hinge and no slide: USD's joints have one axis each")
    limited, address = bool(model.jnt_limited[joint]), int(model.jnt_qposadr[joint])
    lower, upper = (float(value) for value in model.jnt_range[joint]) if limited else (-np.inf, np.inf)
    servo = [i for i in range(model.nu) if int(model.actuator_trnid[i, 0]) == joint and _drives_joint(model, i)]
    stiffness = float(model.actuator_gainprm[servo[0], 0]) if servo else 0.0
    damping = float(model.dof_damping[model.jnt_dofadr[joint]])
    effort = np.inf
    if servo:
        damping -= float(model.actuator_biasprm[servo[0], 2])
        effort = float(model.actuator_forcerange[servo[0], 1]) if model.actuator_forcelimited[servo[0]] else np.inf
    return PosedJoint(
        name=model.joint(joint).name or f"{name}_joint",
        parent=parent,
        child=name,
        axis=_vec3(model.jnt_axis[joint]),
        anchor=_vec3(model.jnt_pos[joint]),
        turns=turns,
        lower=lower,
        upper=upper,
        position=float(data.qpos[address]),
        stiffness=stiffness,
        damping=damping,
        effort=effort,
    )


def _drives_joint(model: mujoco.MjModel, actuator: int) -> bool:
    return int(model.actuator_trntype[actuator]) == int(mujoco.mjtTrn.mjTRN_JOINT)


def _name(model: mujoco.MjModel, body: int) -> str:
    """The name of a body; "" for the world."""
    return model.body(body).name or f"body{body}" if body else ""


def _pose(position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> Pose:
    w, x, y, z = (float(value) for value in quaternion / np.linalg.norm(quaternion))
    return Pose(position=_vec3(position), quaternion=(w, x, y, z))


def _vec3(values: NDArray[np.float64]) -> Vec3:
    return (float(values[0]), float(values[1]), float(values[2]))
