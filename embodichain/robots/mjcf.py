"""Loads any MJCF file as a robot: arms, grippers, home and cameras are derived from the file, and missing parts are added.

Arms are the serial chains of actuated hinges. A chain that branches into others of its kind (a torso) is held still; a chain that
ends in prismatic joints has a gripper. Actuators are replaced by position servos. Bodies of an arm get its name as a prefix
("left/hand").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

from embodichain.errors import RobotError
from embodichain.robots.chains import Limb, find_limbs, tip_pose
from embodichain.robots.grippers import Gripper, find_gripper, finger_size, posed
from embodichain.robots.mounting import HEAD, add_head, add_table, prepare_table, stand
from embodichain.robots.urdf import drive, read_urdf, with_speeds
from embodichain.types import Arm, Camera, Pose, Robot

_ARM_NAMES = {1: ("left",), 2: ("left", "right")}
_SERVO_RATE = 40.0
"""Natural frequency [rad/s] of the critically damped servo that replaces a torque actuator."""
_GRIPPER_FORCE = 40.0
_SQUEEZE = 0.01
"""How far below zero the commanded opening may go [m], so that thin objects are held as firmly as others."""


def load_mjcf(path: str | Path, *, world_from_base: Pose | None = None) -> Robot:
    """The robot that the MJCF file at `path` describes; a single arm takes the left channels.

    `world_from_base` places the file's world frame. By default arms that face each other are put left and right of the table's
    centre. Of others, a file with a table at z = 0, or with arms behind the table's centre, stays in place; any other is moved back
    along X until its arm's reach covers the table.

    Raises RobotError when the file does not exist, does not parse or has no actuated hinge chain.
    """
    path = Path(path)
    spec, model = parse(path)
    robot = complete(spec, model, name=path.stem, what=str(path), world_from_base=world_from_base)
    urdf = read_urdf(path)
    return robot if urdf is None else replace(robot, arms=tuple(with_speeds(arm, urdf, str(path)) for arm in robot.arms))


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
    has_table = prepare_table(spec, model, data)
    if world_from_base is None:
        world_from_base = stand(model, data, limbs, has_table)
    rewritten = [_rewrite_arm(spec, model, data, limb, side) for limb, side in zip(limbs, names, strict=True)]
    for side, limb in zip(names, limbs, strict=True):
        for camera in (mounted or {}).get(side, ()):
            _mount(spec, model, limb, side, camera)
    if not has_table:
        add_table(spec, world_from_base)
    cameras = tuple(Camera(name=c.name, fovy=float(c.fovy)) for c in spec.cameras)
    if not cameras:
        add_head(spec, world_from_base)
        cameras = (HEAD,)
    for element in [*spec.keys, *spec.lights, *spec.sensors]:
        spec.delete(element)
    spec.option.timestep, spec.option.impratio = 0.002, 10.0
    spec.option.integrator, spec.option.cone = mujoco.mjtIntegrator.mjINT_IMPLICITFAST, mujoco.mjtCone.mjCONE_ELLIPTIC
    _replace(spec, spec.texts, "mesh_sha256")
    spec.add_text(name="mesh_sha256", data=_files_hash(spec))
    prefixes = {
        model.body(body).name: _prefixed(side, model.body(body).name)
        for limb, side in zip(limbs, names, strict=True)
        for body in limb.bodies
    }
    zeros = {joint: value for one in rewritten for joint, value in one.zeros.items()}
    try:
        spec.compile()
        mjcf = _finished(spec.to_xml(), model, prefixes, zeros)
        mujoco.MjModel.from_xml_string(mjcf)
    except ValueError as error:
        raise RobotError(f"{what} cannot be completed to a robot: {error}") from error
    return Robot(
        name=name,
        mjcf=mjcf,
        arms=tuple(_stated_speeds(model, one.arm, what) for one in rewritten),
        cameras=cameras,
        world_from_base=world_from_base,
        mesh_dir=Path(spec.compiler.meshdir),
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
    if (urdf := read_urdf(path)) is not None:
        drive(spec, urdf, str(path))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rewritten:
    """An arm, and the joints whose zero must still be moved, by name, with the position of the new zero in the file."""

    arm: Arm
    zeros: dict[str, float]


def _rewrite_arm(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData, limb: Limb, name: str) -> _Rewritten:
    """Adds servos, gripper tendon, tip site and gravity compensation of an arm to `spec`."""
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    for body in limb.bodies:
        spec.body(model.body(body).name).gravcomp = 1.0
    gripper = find_gripper(model, data, limb)
    driven = set(limb.joints) | set(limb.slides) | (set(limb.hinges) if isinstance(gripper, Gripper) else set())
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
    arm = Arm(
        name=name,
        joints=tuple(model.joint(joint).name for joint in limb.joints),
        site=f"{name}/tip",
        home=tuple(float(data.qpos[model.jnt_qposadr[joint]]) for joint in limb.joints),
    )
    if not isinstance(gripper, Gripper):
        _add_tip(spec, model, limb, name, *tip_pose(model, data, limb))
        return _Rewritten(arm=replace(arm, gripper_problem=gripper), zeros={})
    _add_gripper(spec, model, limb, gripper, name)
    moved = sorted({body for bodies in gripper.fingers for body in bodies})
    tip = tip_pose(model, _posed(model, data, gripper), limb, moved, gripper.closing)
    _add_tip(spec, model, limb, name, *tip)
    turned, hand = np.empty(9), data.xmat[limb.hand].reshape(3, 3)
    mujoco.mju_quat2Mat(turned, tip[1])
    size = finger_size(model, data, gripper, data.xpos[limb.hand] + hand @ tip[0], hand @ turned.reshape(3, 3))
    names = {joint: model.joint(joint).name for joint in gripper.positions}
    arm = replace(
        arm,
        gripper_joints=tuple(names[joint] for joint in gripper.joints),
        gripper_open=gripper.opening,
        gripper_squeeze=_SQUEEZE,
        fingers=size,
        gripper_travel=gripper.travel if gripper.linkage is not None or min(gripper.travel) < 0.0 else (),
    )
    if gripper.linkage is not None:
        arm = replace(
            arm,
            gripper_rest=tuple((names[j], value) for j, value in gripper.positions.items() if j not in gripper.joints),
            finger_bodies=tuple(tuple(_prefixed(name, model.body(body).name) for body in bodies) for bodies in gripper.fingers),
        )
    return _Rewritten(arm=arm, zeros={names[joint]: value for joint, value in gripper.zeros.items()})


def _posed(model: mujoco.MjModel, data: mujoco.MjData, gripper: Gripper) -> mujoco.MjData:
    """The posture in which the tip is found: that of the file, and a linkage half closed, where its pads are when they grip."""
    return data if gripper.linkage is None else posed(model, data, gripper.linkage.halfway)


def _add_tip(
    spec: mujoco.MjSpec, model: mujoco.MjModel, limb: Limb, name: str, position: np.ndarray, quaternion: np.ndarray
) -> None:
    _replace(spec, spec.sites, f"{name}/tip")
    spec.body(model.body(limb.hand).name).add_site(name=f"{name}/tip", pos=position, quat=quaternion, size=(0.004, 0, 0), group=4)


def _add_gripper(spec: mujoco.MjSpec, model: mujoco.MjModel, limb: Limb, gripper: Gripper, name: str) -> None:
    """Adds the tendon whose length is the opening, the servo on it, and what couples the driven joints."""
    _replace(spec, spec.tendons, f"{name}/gripper")
    tendon = spec.add_tendon(name=f"{name}/gripper")
    for joint, travel in zip(gripper.joints, gripper.travel, strict=True):
        tendon.wrap_joint(model.joint(joint).name, travel)
    if gripper.linkage is None:
        force = max((limb.force_limit(model, slide) for slide in limb.slides), default=0.0) or _GRIPPER_FORCE
    else:  # a servo on the opening does the work that the file's actuators did on their joints
        torque = sum(limb.force_limit(model, joint) for joint in limb.driven)
        force = torque / abs(sum(abs(travel) for travel in gripper.travel)) or _GRIPPER_FORCE
    _add_servo(spec, f"{name}/gripper", mujoco.mjtTrn.mjTRN_TENDON, 50.0 * force, 1.5 * force, force)
    servo = spec.actuator(f"{name}/gripper")
    servo.ctrllimited, servo.ctrlrange = True, (min(gripper.least, 0.0) - _SQUEEZE, gripper.opening)
    if gripper.linkage is None:
        _couple_fingers(spec, model, limb, np.array(gripper.travel))
        return
    first = gripper.joints[0]
    for joint, start, slope in gripper.linkage.ties:
        rest, lead = (float(model.qpos0[model.jnt_qposadr[j]]) for j in (joint, first))  # MuJoCo couples differences from these
        _tie(spec, model, joint, first, start - rest + slope * lead, slope)


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
            _tie(spec, model, slide, first, 0.0, float(sign * signs[0]))


def _tie(spec: mujoco.MjSpec, model: mujoco.MjModel, joint: int, first: int, start: float, slope: float) -> None:
    """Couples a joint to the first: its distance from its reference is `start` plus `slope` times that of the first."""
    spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1=model.joint(joint).name,
        name2=model.joint(first).name,
        data=[start, slope, *([0.0] * (mujoco.mjNEQDATA - 2))],
        solref=(0.005, 1.0),
    )


def _stated_speeds(model: mujoco.MjModel, arm: Arm, what: str) -> Arm:
    """The arm with the speed limits of the file's `<custom><numeric name="joint_speed" data="..."/>`: one, or one for each joint.

    Of two arms, "left/joint_speed" and "right/joint_speed" come first. `gripper_speed` is the same for the opening [m/s].
    """
    found: dict[str, tuple[float, ...]] = {}
    for key, size in (("joint_speed", len(arm.joints)), ("gripper_speed", 1)):
        names = [n for n in (f"{arm.name}/{key}", key) if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_NUMERIC, n) >= 0]
        if names:
            values = [float(value) for value in model.numeric(names[0]).data]
            if len(values) not in (1, size) or min(values) <= 0.0:
                raise RobotError(f"{what}: numeric {names[0]!r} holds 1 or {size} speeds above 0, got {values}")
            found[key] = tuple(values * size if len(values) == 1 else values)
    speed = found.get("gripper_speed", (arm.gripper_speed,))[0]
    return replace(arm, joint_speed=found.get("joint_speed", arm.joint_speed), gripper_speed=speed)


def _files_hash(spec: mujoco.MjSpec) -> str:
    """Hash of the files that the description refers to, so that the robot's hash changes with them.

    Meshes come first, as they always did, so that the hash of a robot without other files stays what it was.
    """
    digest = hashlib.sha256()
    meshes, textures = Path(spec.compiler.meshdir), Path(spec.compiler.texturedir)
    named = [(meshes, mesh.file) for mesh in spec.meshes]
    named += [(textures, file) for texture in spec.textures for file in (texture.file, *texture.cubefiles)]
    named += [(meshes, element.file) for element in (*spec.hfields, *spec.skins)]
    for folder, name in named:
        file = folder / (Path(name).name if spec.strippath else name)
        if name and file.is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _prefixed(side: str, body: str) -> str:
    return body if body.startswith(f"{side}/") else f"{side}/{body}"


def _finished(mjcf: str, model: mujoco.MjModel, prefixes: dict[str, str], zeros: dict[str, float]) -> str:
    """Renames bodies to "<arm>/<body>" in every element that refers to them, and moves the zeros of joints.

    Only the numbers of positions change with a zero, not what they mean: the shapes, limits, springs and couplings stay.
    """
    root = ElementTree.fromstring(mjcf)
    for element in root.iter():
        for attribute in ("name",) if element.tag == "body" else ("body", "body1", "body2", "target"):
            value = element.get(attribute)
            if value in prefixes:
                element.set(attribute, prefixes[value])
    worldbody = root.find("worldbody")
    for element in () if worldbody is None else worldbody.iter("joint"):
        zero = zeros.get(element.get("name", ""))
        if zero is not None:
            joint = model.joint(element.get("name", ""))
            address = int(joint.qposadr[0])
            low, high = (float(value) - zero for value in joint.range)
            element.set("range", f"{low:.12g} {high:.12g}")
            element.set("ref", f"{float(model.qpos0[address]) - zero:.12g}")
            element.set("springref", f"{float(model.qpos_spring[address]) - zero:.12g}")
    return ElementTree.tostring(root, encoding="unicode")
