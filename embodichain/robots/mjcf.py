"""Loads any MJCF file as a robot: arms, grippers, home and cameras are derived from the file, and missing parts are added.

Arms are the serial chains of actuated hinges. A chain that branches into others of its kind (a torso) is held still; a chain that
ends in prismatic joints has a gripper. Actuators are replaced by position servos. Bodies of an arm get its name as a prefix
("left/hand").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

from embodichain.errors import RobotError
from embodichain.robots.chains import Limb, find_limbs, gripper_signs, tip_pose
from embodichain.types import TABLE_SIZE, Arm, Camera, Pose, Robot

_ARM_NAMES = {1: ("left",), 2: ("left", "right")}
_TABLE_TOP = tuple(extent / 2 for extent in TABLE_SIZE)
_FLOOR = -0.7
_SERVO_RATE = 40.0
"""Natural frequency [rad/s] of the critically damped servo that replaces a torque actuator."""
_GRIPPER_FORCE = 40.0
_HEAD = Camera(name="head", fovy=50.0)


def load_mjcf(path: str | Path, *, world_from_base: Pose | None = None) -> Robot:
    """The robot that the MJCF file at `path` describes; a single arm takes the left channels.

    `world_from_base` places the file's world frame. By default a file with a table at z = 0, or with arms behind the table's
    centre, stays in place; any other is moved back along X until its arm's reach covers the table.

    Raises RobotError when the file does not exist, does not parse or has no actuated hinge chain.
    """
    path = Path(path)
    spec, model = parse(path)
    return complete(spec, model, name=path.stem, what=str(path), world_from_base=world_from_base)


def complete(
    spec: mujoco.MjSpec,
    model: mujoco.MjModel,
    *,
    name: str,
    what: str,
    world_from_base: Pose | None = None,
    mounted: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Robot:
    """The robot of a parsed file. `what` names it in errors; `mounted` are cameras to add, by arm, in the frame of its tip."""
    limbs = find_limbs(model, what)
    if len(limbs) > len(_ARM_NAMES):
        chains = [[model.joint(j).name for j in limb.joints] for limb in limbs]
        raise RobotError(f"{what} has {len(limbs)} arms, {chains}; a robot here has one or two: remove the actuators of the others")
    data = mujoco.MjData(model)
    home = next((i for i in range(model.nkey) if model.key(i).name == "home"), 0 if model.nkey else None)
    if home is not None:
        mujoco.mj_resetDataKeyframe(model, data, home)
    else:
        for limb in limbs:
            data.qpos[model.jnt_qposadr[limb.joints]] = np.mean(model.jnt_range[limb.joints], axis=1)
    mujoco.mj_forward(model, data)
    limbs.sort(key=lambda limb: (_named_side(model, limb), -float(data.xanchor[limb.joints[0], 1])))
    names = _ARM_NAMES[len(limbs)]
    has_table = _prepare_table(spec, model, data)
    if world_from_base is None:
        world_from_base = Pose() if has_table else _stand_back(model, data, limbs)
    arms = tuple(_rewrite_arm(spec, model, data, limb, side) for limb, side in zip(limbs, names, strict=True))
    for side, limb in zip(names, limbs, strict=True):
        for camera in (mounted or {}).get(side, ()):
            _mount(spec, model, limb, side, camera)
    if not has_table:
        _add_table(spec, world_from_base)
    cameras = tuple(Camera(name=c.name, fovy=float(c.fovy)) for c in spec.cameras)
    if not cameras:
        _add_head(spec, world_from_base)
        cameras = (_HEAD,)
    for element in [*spec.keys, *spec.lights, *spec.sensors]:
        spec.delete(element)
    spec.option.timestep, spec.option.impratio = 0.002, 10.0
    spec.option.integrator, spec.option.cone = mujoco.mjtIntegrator.mjINT_IMPLICITFAST, mujoco.mjtCone.mjCONE_ELLIPTIC
    _replace(spec, spec.texts, "mesh_sha256")
    spec.add_text(name="mesh_sha256", data=_mesh_hash(spec))
    prefixes = {
        model.body(body).name: side
        for limb, side in zip(limbs, names, strict=True)
        for body in limb.bodies
        if not model.body(body).name.startswith(f"{side}/")
    }
    try:
        spec.compile()
        mjcf = _prefix_bodies(spec.to_xml(), prefixes)
        mujoco.MjModel.from_xml_string(mjcf)
    except ValueError as error:
        raise RobotError(f"{what} cannot be completed to a robot: {error}") from error
    return Robot(
        name=name, mjcf=mjcf, arms=arms, cameras=cameras, world_from_base=world_from_base, mesh_dir=Path(spec.compiler.meshdir)
    )


def parse(path: Path) -> tuple[mujoco.MjSpec, mujoco.MjModel]:
    """The file's spec and model, with all bodies, joints, cameras and actuators named and asset folders absolute."""
    if not path.is_file():
        raise RobotError(
            f"no robot file at {path}: give the path of an MJCF file, or the name of a robot that comes with the engine"
        )
    try:
        spec = mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise RobotError(f"{path} does not parse as MJCF: {' '.join(str(error).split())}") from error
    folder = path.resolve().parent
    spec.compiler.meshdir = str(folder / spec.compiler.meshdir)
    spec.compiler.texturedir = str(folder / spec.compiler.texturedir)
    named = {"body": spec.bodies, "joint": spec.joints, "camera": spec.cameras, "actuator": spec.actuators}
    for kind, elements in named.items():
        for index, element in enumerate(elements):
            element.name = element.name or f"unnamed_{kind}{index}"
    try:
        return spec, spec.compile()
    except ValueError as error:
        raise RobotError(f"{path} parses but does not compile: {error}") from error


def _named_side(model: mujoco.MjModel, limb: Limb) -> int:
    """-1 for an arm whose names contain "left", +1 for "right", 0 for neither."""
    text = " ".join([model.joint(limb.joints[0]).name, *(model.body(body).name for body in limb.bodies[:1])]).lower()
    return ("right" in text) - ("left" in text)


def _rewrite_arm(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData, limb: Limb, name: str) -> Arm:
    """Adds servos, gripper tendon, tip site and gravity compensation of an arm to `spec`."""
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    for body in limb.bodies:
        spec.body(model.body(body).name).gravcomp = 1.0
    driven = set(limb.joints) | set(limb.slides)
    for actuator in range(model.nu):
        if driven & set(limb.driven_by(model, actuator)):
            spec.delete(spec.actuator(model.actuator(actuator).name))
    for joint in limb.joints:
        dof = int(model.jnt_dofadr[joint])
        stiffness, damping, force = _servo(model, limb, joint, float(inertia[dof, dof]))
        _add_servo(spec, model.joint(joint).name, mujoco.mjtTrn.mjTRN_JOINT, stiffness, damping, force)
        if model.jnt_limited[joint]:
            servo = spec.actuator(model.joint(joint).name)
            servo.ctrllimited, servo.ctrlrange = True, model.jnt_range[joint]
    opening = 0.0
    if limb.slides:
        signs = gripper_signs(model, limb)
        ranges = np.sort(signs[:, None] * model.jnt_range[limb.slides], axis=1)
        opening = float(np.sum(ranges[:, 1]))
        _replace(spec, spec.tendons, f"{name}/gripper")
        tendon = spec.add_tendon(name=f"{name}/gripper")
        for slide, sign in zip(limb.slides, signs, strict=True):
            tendon.wrap_joint(model.joint(slide).name, float(sign))
        force = max((limb.force_limit(model, slide) for slide in limb.slides), default=0.0) or _GRIPPER_FORCE
        _add_servo(spec, f"{name}/gripper", mujoco.mjtTrn.mjTRN_TENDON, 50.0 * force, 1.5 * force, force)
        servo = spec.actuator(f"{name}/gripper")
        servo.ctrllimited, servo.ctrlrange = True, (float(np.sum(ranges[:, 0])), opening)
        _couple_fingers(spec, model, limb, signs)
    position, quaternion = tip_pose(model, data, limb)
    _replace(spec, spec.sites, f"{name}/tip")
    spec.body(model.body(limb.hand).name).add_site(name=f"{name}/tip", pos=position, quat=quaternion, size=(0.004, 0, 0), group=4)
    return Arm(
        name=name,
        joints=tuple(model.joint(joint).name for joint in limb.joints),
        site=f"{name}/tip",
        home=tuple(float(data.qpos[model.jnt_qposadr[joint]]) for joint in limb.joints),
        gripper_joints=tuple(model.joint(slide).name for slide in limb.slides),
        gripper_open=opening,
    )


def _mount(spec: mujoco.MjSpec, model: mujoco.MjModel, limb: Limb, name: str, camera: Mapping[str, Any]) -> None:
    """Adds a camera, given in the frame of the arm's tip, to the body that carries the tip."""
    tip = spec.site(f"{name}/tip")
    position, quaternion = np.empty(3), np.empty(4)
    mujoco.mju_rotVecQuat(position, np.asarray(camera["pos"], np.float64), np.asarray(tip.quat))
    mujoco.mju_mulQuat(quaternion, np.asarray(tip.quat), np.asarray(camera["quat"], np.float64))
    body = spec.body(model.body(limb.hand).name)
    body.add_camera(name=camera["name"], pos=np.asarray(tip.pos) + position, quat=quaternion, fovy=camera["fovy"])


def _replace(spec: mujoco.MjSpec, elements: Iterable[Any], name: str) -> None:
    """Deletes an element whose name the loaded robot needs. A file that was saved from a loaded robot has such elements."""
    for element in [element for element in elements if element.name == name]:
        spec.delete(element)


def _servo(model: mujoco.MjModel, limb: Limb, joint: int, inertia: float) -> tuple[float, float, float]:
    """Stiffness [N m/rad], damping [N m s/rad] and torque limit [N m] (0: none) of a joint's servo: the file's own, if any."""
    limit = limb.force_limit(model, joint)
    for actuator in range(model.nu):
        gain, bias = float(model.actuator_gainprm[actuator, 0]), model.actuator_biasprm[actuator]
        lever = limb.driven_by(model, actuator).get(joint, 0.0)
        if lever and bias[1] < 0.0 and math.isclose(gain, -bias[1]):
            return gain * lever**2, -float(bias[2]) * lever**2, limit
    return inertia * _SERVO_RATE**2, 2.0 * inertia * _SERVO_RATE, limit


def _add_servo(spec: mujoco.MjSpec, name: str, kind: mujoco.mjtTrn, stiffness: float, damping: float, force: float) -> None:
    servo = spec.add_actuator(name=name, target=name, trntype=kind)
    servo.set_to_position(kp=stiffness, kv=damping)
    if force > 0.0:
        servo.forcelimited, servo.forcerange = True, (-force, force)


def _couple_fingers(spec: mujoco.MjSpec, model: mujoco.MjModel, limb: Limb, signs: np.ndarray) -> None:
    """Couples the travel of the other fingers to that of the first, unless the file does so already."""
    coupled = {
        frozenset((int(model.eq_obj1id[i]), int(model.eq_obj2id[i])))
        for i in range(model.neq)
        if model.eq_type[i] == mujoco.mjtEq.mjEQ_JOINT
    }
    first = limb.slides[0]
    for slide, sign in zip(limb.slides[1:], signs[1:], strict=True):
        if frozenset((first, slide)) not in coupled:
            spec.add_equality(
                type=mujoco.mjtEq.mjEQ_JOINT,
                objtype=mujoco.mjtObj.mjOBJ_JOINT,
                name1=model.joint(slide).name,
                name2=model.joint(first).name,
                data=[0.0, float(sign * signs[0]), *([0.0] * (mujoco.mjNEQDATA - 2))],
                solref=(0.005, 1.0),
            )


# ------------------------------------------------------------------------------------------------- what stands around it


def _prepare_table(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
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


def _stand_back(model: mujoco.MjModel, data: mujoco.MjData, limbs: list[Limb]) -> Pose:
    """Places the arms behind the table's centre by 0.6 of their reach, unless they stand behind it or face each other across it."""
    anchors = [data.xanchor[limb.joints] for limb in limbs]
    roots = [float(a[0, 0]) for a in anchors]
    if np.mean(roots) < -0.1 or min(roots) < -0.2 < 0.2 < max(roots):
        return Pose()
    reach = max(float(np.sum(np.linalg.norm(np.diff(a, axis=0), axis=1))) for a in anchors)
    return Pose(position=(-min(max(0.6 * reach, 0.2), 0.5), 0.0, 0.0))


def _add_table(spec: mujoco.MjSpec, world_from_base: Pose) -> None:
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


def _add_head(spec: mujoco.MjSpec, world_from_base: Pose) -> None:
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
    spec.worldbody.add_camera(name=_HEAD.name, pos=position + eye_in_base, quat=turned, fovy=_HEAD.fovy)


def _mesh_hash(spec: mujoco.MjSpec) -> str:
    """Hash of the mesh files that the description refers to, so that the robot's hash changes with them."""
    digest = hashlib.sha256()
    for mesh in spec.meshes:
        file = Path(spec.compiler.meshdir) / mesh.file
        if mesh.file and file.is_file():
            digest.update(mesh.file.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _prefix_bodies(mjcf: str, prefixes: dict[str, str]) -> str:
    """Renames bodies to "<arm>/<body>" in every element that refers to them."""
    root = ElementTree.fromstring(mjcf)
    for element in root.iter():
        for attribute in ("name",) if element.tag == "body" else ("body", "body1", "body2", "target"):
            value = element.get(attribute)
            if value in prefixes:
                element.set(attribute, f"{prefixes[value]}/{value}")
    return ElementTree.tostring(root, encoding="unicode")
