"""Worlds: a robot, a table and a scene's objects as one MuJoCo model, and everything a scene says written into it.

What decides the shape of a model (robot, roles, geometry, joints) is compiled once; what a scene may vary cheaply (poses, masses,
friction, damping, colours, lights) is written at every reset. Bodies carry the names that contacts report: "robot/<body>",
"<role>/<body>", "table", and "world" for the floor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RobotError, SceneError
from embodichain.types import Asset, Body, Joint, JointKind, Light, Mesh, ObjectPlacement, Pose, Quaternion, Robot, Scene, Vec3

TABLE_SIZE: Vec3 = (0.7, 1.2, 0.04)
"""Extent of the table top [m]: X, Y, thickness; its upper face is z = 0."""
FLOOR_HEIGHT = -0.75
"""Where the floor lies [m]."""
MAX_LIGHTS = 3
"""Lights of a scene: fixed, because the renderer compiles a kernel for each number of lights."""
FREE_CAMERA = "free"
"""A camera of every world that belongs to no robot: the viewpoint of videos."""
TIMESTEP_S = 0.002
TORSIONAL_FRICTION = 0.005
"""Torsional friction [m] of a contact patch: friction coefficient times about half the radius of a 1 cm patch."""
_TABLE_FRICTION = (0.05, TORSIONAL_FRICTION, 0.0001)  # MuJoCo takes the larger of two: the object decides
_HULL_SOLMIX = 0.01  # leaves the stiffness of a contact to the gripper pad: averaged with a soft object a grasp creeps
_VISUAL_GROUP, _HULL_GROUP = 2, 3
_RESERVED = ("robot", "table", "world")
_LOCKED = (0.9999, 0.9999, 0.001, 0.5, 2.0)  # impedance of joint friction: at the default 0.9 a loaded lever creeps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectIndex:
    """Where one object lives in a model: indices into qpos, qvel, bodies and geoms."""

    role: str
    asset: Asset
    root_pose: Pose
    """asset_from_body of the first body that hangs on no other: the one whose pose is reported."""
    free_poses: tuple[Pose, ...]
    """asset_from_body of each body with a free joint."""
    mocap: int
    """Row of mocap_pos that bolts the object down; -1 for an object that is free to move."""
    free_qpos: tuple[int, ...]
    """First qpos of each free joint; empty for an object with a fixed base."""
    free_qvel: tuple[int, ...]
    joint_qpos: tuple[int, ...]
    joint_qvel: tuple[int, ...]
    bodies: NDArray[np.intp]
    """Model body of each asset body, shape [B]."""
    geoms: tuple[NDArray[np.intp], ...]
    """Model geoms of each asset body."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """A compiled model with its one state, and how commands and measurements map to it.

    `ctrl[actuators] = gains * command[channels]`; `measured = add.reduceat(signs * qpos[measured_qpos], measured_starts)`.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    objects: tuple[ObjectIndex, ...]
    body_names: tuple[str, ...]
    geom_bodies: tuple[int, ...]
    actuators: NDArray[np.intp]
    channels: NDArray[np.intp]
    gains: NDArray[np.float64]
    measured_qpos: NDArray[np.intp]
    measured_signs: NDArray[np.float64]
    measured_starts: NDArray[np.intp]
    home_qpos: NDArray[np.float64]
    """Position of each entry of `measured_qpos` when the robot is at home; ignored where its sign is 0 (no gripper)."""


# ------------------------------------------------------------------------------------------------------------ compiling


def shape_key(robot: Robot, objects: Sequence[ObjectPlacement]) -> tuple[str, ...]:
    """Equal exactly when two scenes can share a compiled model: same robot, roles, geometry and joints."""
    return (robot.content_hash, *(f"{placement.role}:{_shape_hash(placement.asset)}" for placement in objects))


def _shape_hash(asset: Asset) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for body in asset.bodies:
        digest.update(repr((body.name, body.body_pose, body.center_of_mass, body.principal_axes)).encode())
        for mesh in (body.visual, *body.hulls):
            digest.update(np.ascontiguousarray(mesh.vertices, np.float32).tobytes())
            digest.update(np.ascontiguousarray(mesh.faces, np.int32).tobytes())
    for joint in asset.joints:
        digest.update(repr((joint.name, joint.kind, joint.parent, joint.child, joint.axis, joint.anchor)).encode())
        digest.update(repr((joint.lower, joint.upper)).encode())
    return digest.hexdigest()


def compile_world(robot: Robot, objects: Sequence[ObjectPlacement]) -> World:
    """Builds the model of a robot at its table with these objects. Raises RobotError or SceneError naming what cannot be built."""
    spec = _lit_spec()
    _attach_robot(spec, robot)
    if spec.body("table") is None:
        _add_table(spec)
    spec.geom("table").friction = _TABLE_FRICTION
    for placement in objects:
        _add_object(spec, placement)
    try:
        model = spec.compile()
    except ValueError as error:
        raise SceneError(
            f"MuJoCo cannot build robot {robot.name!r} with objects {[f'{o.role} ({o.asset.name})' for o in objects]}: {error}"
        ) from error
    return _index(model, robot, objects)


def compile_studio(asset: Asset) -> mujoco.MjModel:
    """A model for portraits: the asset alone on a neutral ground under a key and a fill light, with the free camera."""
    placement = ObjectPlacement(role="asset", asset=asset, pose=Pose())
    spec = _lit_spec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0, 0, 1), rgba=(0.78, 0.80, 0.83, 1.0))
    _add_object(spec, placement)
    model = spec.compile()
    _write_object(model, _index_object(model, placement), placement)
    lights = (
        Light(direction=(0.12, 0.55, -0.82), diffuse=(0.62, 0.60, 0.57)),
        Light(direction=(-0.80, 0.14, -0.50), diffuse=(0.18, 0.20, 0.24)),
    )
    _write_lights(model, lights)
    model.light_castshadow[1] = 0
    return model


def _lit_spec() -> mujoco.MjSpec:
    """An empty world with the engine's options, all its lights and the free camera."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    _set_options(spec)
    for index in range(MAX_LIGHTS):
        spec.worldbody.add_light(
            name=f"light{index}",
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            castshadow=True,
            ambient=(0, 0, 0),
            specular=(0, 0, 0),
        )
    spec.worldbody.add_camera(name=FREE_CAMERA)
    return spec


def _add_table(spec: mujoco.MjSpec) -> None:
    """A table and a floor, for a robot whose file has none."""
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0, 0, 1), pos=(0, 0, FLOOR_HEIGHT), rgba=(0.36, 0.38, 0.41, 1.0)
    )
    spec.worldbody.add_body(name="table").add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[extent / 2 for extent in TABLE_SIZE],
        pos=(0, 0, -TABLE_SIZE[2] / 2),
    )


def _attach_robot(spec: mujoco.MjSpec, robot: Robot) -> None:
    try:
        child = mujoco.MjSpec.from_string(robot.mjcf)
    except ValueError as error:
        raise RobotError(f"the MJCF of robot {robot.name!r} does not parse: {error}") from error
    if robot.mesh_dir is not None:
        child.meshdir = str(robot.mesh_dir)
    _set_options(child)  # a robot's file may have been written for other contact settings
    for element in [*child.keys, *child.lights, *child.sensors]:
        child.delete(element)
    names = [camera.name for camera in child.cameras]
    for camera in robot.cameras:
        found = child.camera(camera.name)
        if found is None:
            raise RobotError(f"robot {robot.name!r} has no camera {camera.name!r}; its MJCF has {names}")
        found.fovy = camera.fovy
    frame = spec.worldbody.add_frame(pos=robot.world_from_base.position, quat=robot.world_from_base.quaternion)
    spec.attach(child, prefix="robot/", frame=frame)
    table = spec.body("robot/table")
    if table is not None:
        if spec.geom("robot/table") is None:
            raise RobotError(f"robot {robot.name!r} has a body 'table' without a geom 'table': name the table top so")
        table.name = spec.geom("robot/table").name = "table"
    _exclude_first_links(spec)


def _exclude_first_links(spec: mujoco.MjSpec) -> None:
    """Stops first moving links from rubbing on the bolted parts: MuJoCo filters parent and child, but not for the world body."""
    fixed, first_links, queue = {"table"}, [], [spec.worldbody]
    while queue:
        body = queue.pop()
        fixed.add(body.name)
        for child in body.bodies:
            if child.joints:
                first_links.append(child.name)
            else:
                queue.append(child)
    for link in first_links:
        for body in sorted(fixed):
            spec.add_exclude(bodyname1=link, bodyname2=body)


def _set_options(spec: mujoco.MjSpec) -> None:
    """Contact settings that hold a grasp without creep; fixed statistics, since the renderer's kernel depends on them."""
    option, default = spec.option, mujoco.MjSpec().option
    for name in dir(default):
        if not name.startswith("_"):
            setattr(option, name, getattr(default, name))
    option.timestep = TIMESTEP_S
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.stat.extent = 1.0
    spec.stat.center = (0.0, 0.0, 0.0)
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 20.0
    spec.visual.headlight.active = 1
    spec.visual.headlight.ambient = (0.32, 0.32, 0.32)
    spec.visual.headlight.diffuse = (0.18, 0.18, 0.18)
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)


def _add_object(spec: mujoco.MjSpec, placement: ObjectPlacement) -> None:
    role, asset = placement.role, placement.asset
    if role in _RESERVED or "/" in role or spec.body(f"{role}/{asset.bodies[0].name}") is not None:
        raise SceneError(f"object role {role!r} cannot be used: roles are unique, without '/' and none of {_RESERVED}")
    # A mocap body carries a bolted asset: its pose is state and not model, so a reset leaves every constant of the model alone.
    mount = spec.worldbody.add_body(name=role, mocap=True) if asset.fixed_base else spec.worldbody
    parents = {joint.child: joint for joint in asset.joints}
    placed: dict[str, mujoco.MjsBody] = {}
    poses = {body.name: body.body_pose for body in asset.bodies}
    waiting = list(asset.bodies)
    while waiting:
        ready = [b for b in waiting if b.name not in parents or parents[b.name].parent in ("", *placed)]
        if not ready:
            raise SceneError(f"asset {asset.name!r}: joints do not form a tree over bodies {[b.name for b in asset.bodies]}")
        for body in ready:
            waiting.remove(body)
            joint = parents.get(body.name)
            if joint is None:
                placed[body.name] = _add_body(spec, spec.worldbody, f"{role}/", body, body.body_pose)
                placed[body.name].add_freejoint(name=f"{role}/{body.name}")
                continue
            parent = placed[joint.parent] if joint.parent else mount
            pose = compose(inverse(poses[joint.parent]), body.body_pose) if joint.parent else body.body_pose
            placed[body.name] = _add_body(spec, parent, f"{role}/", body, pose)
            if joint.kind is not JointKind.FIXED:
                _add_joint(placed[body.name], f"{role}/", joint)


def _add_body(spec: mujoco.MjSpec, parent: mujoco.MjsBody, prefix: str, body: Body, pose: Pose) -> mujoco.MjsBody:
    name = prefix + body.name
    made = parent.add_body(name=name, pos=pose.position, quat=pose.quaternion)
    made.explicitinertial = True
    made.mass = body.mass
    made.ipos = body.center_of_mass
    made.iquat = body.principal_axes
    made.inertia = body.diagonal_inertia
    _add_mesh(spec, f"{name}/visual", body.visual, mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    made.add_geom(
        name=f"{name}/visual",
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=f"{name}/visual",
        contype=0,
        conaffinity=0,
        group=_VISUAL_GROUP,
        mass=0.0,
    )
    for index, hull in enumerate(body.hulls):
        _add_mesh(spec, f"{name}/hull{index}", hull, mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
        made.add_geom(
            name=f"{name}/hull{index}",
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=f"{name}/hull{index}",
            condim=4,
            solmix=_HULL_SOLMIX,
            group=_HULL_GROUP,
            mass=0.0,
        )
    return made


def _add_mesh(spec: mujoco.MjSpec, name: str, mesh: Mesh, inertia: mujoco.mjtMeshInertia) -> None:
    spec.add_mesh(
        name=name,
        uservert=np.asarray(mesh.vertices, np.float64).ravel(),
        userface=np.asarray(mesh.faces, np.int32).ravel(),
        inertia=inertia,
    )


def _add_joint(body: mujoco.MjsBody, prefix: str, joint: Joint) -> None:
    kinds = {JointKind.REVOLUTE: mujoco.mjtJoint.mjJNT_HINGE, JointKind.PRISMATIC: mujoco.mjtJoint.mjJNT_SLIDE}
    body.add_joint(
        name=prefix + joint.name,
        type=kinds[joint.kind],
        axis=joint.axis,
        pos=joint.anchor,
        limited=joint.upper > joint.lower,
        range=(joint.lower, joint.upper),
        solimp_friction=_LOCKED,
    )


# ------------------------------------------------------------------------------------------------------------- indexing


def _index(model: mujoco.MjModel, robot: Robot, objects: Sequence[ObjectPlacement]) -> World:
    actuators, channels, gains = [], [], []
    positions, signs, starts, home = [], [], [], []
    channel = 0
    for arm in robot.arms:
        for name, target in zip(arm.joints, arm.home, strict=True):
            joint = _joint(model, robot, name)
            found = _actuators_of(model, robot, {joint: 1.0}, name)
            for actuator, gain in found:
                actuators.append(actuator)
                channels.append(channel)
                gains.append(gain)
            starts.append(len(positions))
            positions.append(model.jnt_qposadr[joint])
            signs.append(1.0)
            home.append(target)
            channel += 1
        fingers = {_joint(model, robot, name): 1.0 for name in arm.gripper_joints}
        for joint in fingers:  # a slide whose range lies below zero opens towards the negative
            fingers[joint] = -1.0 if abs(model.jnt_range[joint, 0]) > abs(model.jnt_range[joint, 1]) else 1.0
        starts.append(len(positions))
        if not fingers:  # the command still ends in an opening: it drives nothing and measures 0
            positions.append(0)
            signs.append(0.0)
            home.append(0.0)
        else:
            travels = {joint: sign / len(fingers) for joint, sign in fingers.items()}
            for actuator, gain in _actuators_of(model, robot, travels, f"gripper of {arm.name}"):
                actuators.append(actuator)
                channels.append(channel)
                gains.append(gain)
            for joint, sign in fingers.items():
                positions.append(model.jnt_qposadr[joint])
                signs.append(sign)
                home.append(travels[joint] * arm.gripper_open)
        channel += 1
    return World(
        model=model,
        data=mujoco.MjData(model),
        objects=tuple(_index_object(model, placement) for placement in objects),
        body_names=tuple(model.body(index).name for index in range(model.nbody)),
        geom_bodies=tuple(model.geom_bodyid.tolist()),
        actuators=np.array(actuators, np.intp),
        channels=np.array(channels, np.intp),
        gains=np.array(gains),
        measured_qpos=np.array(positions, np.intp),
        measured_signs=np.array(signs),
        measured_starts=np.array(starts, np.intp),
        home_qpos=np.array(home),
    )


def _joint(model: mujoco.MjModel, robot: Robot, name: str) -> int:
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, f"robot/{name}")
    if index < 0:
        names = [model.joint(i).name.removeprefix("robot/") for i in range(model.njnt) if model.joint(i).name.startswith("robot/")]
        raise RobotError(f"robot {robot.name!r} has no joint {name!r}; its MJCF has {names}")
    return index


def _actuators_of(model: mujoco.MjModel, robot: Robot, weights: dict[int, float], what: str) -> list[tuple[int, float]]:
    """Position servos that act on these joints, and how much their target changes per unit of the channel.

    `weights` says how far each joint moves per unit. An actuator acts on one joint, or on a fixed tendon over these joints.
    """
    found = []
    for actuator in range(model.nu):
        kind, target = model.actuator_trntype[actuator], int(model.actuator_trnid[actuator, 0])
        gain = 0.0
        if kind == mujoco.mjtTrn.mjTRN_JOINT:
            gain = weights.get(target, 0.0)
        elif kind == mujoco.mjtTrn.mjTRN_TENDON:
            wraps = range(model.tendon_adr[target], model.tendon_adr[target] + model.tendon_num[target])
            if all(model.wrap_type[wrap] == mujoco.mjtWrap.mjWRAP_JOINT for wrap in wraps):
                gain = sum(float(model.wrap_prm[wrap]) * weights.get(int(model.wrap_objid[wrap]), 0.0) for wrap in wraps)
        if gain == 0.0:
            continue
        if model.actuator_biastype[actuator] != mujoco.mjtBias.mjBIAS_AFFINE or model.actuator_biasprm[actuator, 1] == 0.0:
            name = model.actuator(actuator).name.removeprefix("robot/")
            raise RobotError(f"actuator {name!r} of robot {robot.name!r} is no position servo: give {what} a <position> actuator")
        # ctrl is the target length of the transmission, scaled so that kp * ctrl balances -biasprm[1] * length.
        scale = -float(model.actuator_biasprm[actuator, 1]) / float(model.actuator_gainprm[actuator, 0])
        found.append((actuator, gain * scale * float(model.actuator_gear[actuator, 0])))
    if not found:
        names = [model.actuator(i).name.removeprefix("robot/") for i in range(model.nu)]
        raise RobotError(f"robot {robot.name!r} has no actuator for {what!r}; its MJCF has {names}")
    return found


def _index_object(model: mujoco.MjModel, placement: ObjectPlacement) -> ObjectIndex:
    role, asset = placement.role, placement.asset
    parents = {joint.child: joint.parent for joint in asset.joints}
    roots = [body for body in asset.bodies if not parents.get(body.name)]
    loose = [body for body in roots if body.name not in parents]
    free = [model.joint(f"{role}/{body.name}").id for body in loose]
    joints = [model.joint(f"{role}/{joint.name}").id for joint in asset.movable_joints]
    bodies = [model.body(f"{role}/{body.name}").id for body in asset.bodies]
    return ObjectIndex(
        role=role,
        asset=asset,
        root_pose=roots[0].body_pose,
        free_poses=tuple(body.body_pose for body in loose),
        mocap=int(model.body(role).mocapid[0]) if asset.fixed_base else -1,
        free_qpos=tuple(int(model.jnt_qposadr[joint]) for joint in free),
        free_qvel=tuple(int(model.jnt_dofadr[joint]) for joint in free),
        joint_qpos=tuple(int(model.jnt_qposadr[joint]) for joint in joints),
        joint_qvel=tuple(int(model.jnt_dofadr[joint]) for joint in joints),
        bodies=np.array(bodies, np.intp),
        geoms=tuple(np.flatnonzero(model.geom_bodyid == body) for body in bodies),
    )


# -------------------------------------------------------------------------------------------------------------- writing


def write_scene(world: World, scene: Scene) -> None:
    """Makes `world` the initial state of `scene`: every field that a scene decides is rewritten, so nothing earlier shows."""
    model, data = world.model, world.data
    if len(scene.lights) > MAX_LIGHTS:
        raise SceneError(f"scene {scene.seed} has {len(scene.lights)} lights; at most {MAX_LIGHTS} can be rendered")
    for index, placement in zip(world.objects, scene.objects, strict=True):
        _write_object(model, index, placement)
    model.geom("table").rgba = scene.table_color
    _write_lights(model, scene.lights)
    mujoco.mj_setConst(model, data)
    mujoco.mj_resetData(model, data)
    driven = world.measured_signs != 0.0
    data.qpos[world.measured_qpos[driven]] = world.home_qpos[driven]
    for index, placement in zip(world.objects, scene.objects, strict=True):
        for address, pose in zip(index.free_qpos, index.free_poses, strict=True):
            start = compose(placement.pose, pose)
            data.qpos[address : address + 7] = (*start.position, *start.quaternion)
        if index.mocap >= 0:
            data.mocap_pos[index.mocap] = placement.pose.position
            data.mocap_quat[index.mocap] = placement.pose.quaternion
        if placement.joint_positions:
            data.qpos[list(index.joint_qpos)] = placement.joint_positions
    data.ctrl[world.actuators] = world.gains * _home_command(world)[world.channels]
    mujoco.mj_forward(model, data)


def _write_lights(model: mujoco.MjModel, lights: Sequence[Light]) -> None:
    model.light_active[:] = 0
    for number, light in enumerate(lights):
        model.light_active[number] = 1
        model.light_pos[number] = light.position
        model.light_dir[number] = np.asarray(light.direction) / np.linalg.norm(light.direction)
        model.light_diffuse[number] = light.diffuse


def _home_command(world: World) -> NDArray[np.float64]:
    return np.add.reduceat(world.measured_signs * world.home_qpos, world.measured_starts)


def _write_object(model: mujoco.MjModel, index: ObjectIndex, placement: ObjectPlacement) -> None:
    asset = placement.asset
    if placement.joint_positions and len(placement.joint_positions) != len(index.joint_qpos):
        names = [joint.name for joint in asset.movable_joints]
        raise SceneError(f"object {placement.role!r} has {len(placement.joint_positions)} joint positions for its joints {names}")
    for number, (body, geoms) in enumerate(zip(index.bodies, index.geoms, strict=True)):
        source = asset.bodies[number]
        model.body_mass[body] = source.mass
        model.body_inertia[body] = source.diagonal_inertia
        model.geom_friction[geoms] = (source.material.dynamic_friction, TORSIONAL_FRICTION, 0.0001)
        model.geom_rgba[geoms] = placement.color or source.color
    for address, joint in zip(index.joint_qvel, asset.movable_joints, strict=True):
        model.dof_damping[address] = joint.damping
        model.dof_frictionloss[address] = joint.friction


# ------------------------------------------------------------------------------------------------------ rigid transforms


def compose(a_from_b: Pose, b_from_c: Pose) -> Pose:
    """a_from_c."""
    position, quaternion = np.empty(3), np.empty(4)
    mujoco.mju_mulPose(
        position,
        quaternion,
        *(np.asarray(v) for v in (a_from_b.position, a_from_b.quaternion, b_from_c.position, b_from_c.quaternion)),
    )
    return _pose(position, quaternion)


def inverse(a_from_b: Pose) -> Pose:
    """b_from_a."""
    position, quaternion = np.empty(3), np.empty(4)
    mujoco.mju_negPose(position, quaternion, np.asarray(a_from_b.position), np.asarray(a_from_b.quaternion))
    return _pose(position, quaternion)


def _pose(position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> Pose:
    x, y, z = position.tolist()
    w, i, j, k = quaternion.tolist()
    return Pose(position=(x, y, z), quaternion=_normalised((w, i, j, k)))


def _normalised(quaternion: Quaternion) -> Quaternion:
    norm = sum(value * value for value in quaternion) ** 0.5
    w, x, y, z = (value / norm for value in quaternion)
    return w, x, y, z
