"""Worlds: a compiled model with its state, the indices of its parts, and writing scenes into it.

The structure (robot, roles, geometry, joints) is compiled once. What a scene can vary without compiling (poses, masses and their
centres, friction, damping, drives, colours, lights) is written at every reset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RobotError, SceneError
from embodichain.physics.arms import arm_parts
from embodichain.physics.build import (
    MAX_LIGHTS,
    ROLLING_ARMS,
    ROLLING_FRICTION,
    TORSIONAL_FRICTION,
    add_object,
    add_table,
    attach_robot,
    lit_spec,
)
from embodichain.physics.decor.furnish import Decor, add_decor, finish
from embodichain.physics.dynamics import Balance, Drives, loosen_frames
from embodichain.physics.grains import NAME, GrainIndex, add_grains
from embodichain.physics.readout import Readout
from embodichain.physics.stepping import Stepper
from embodichain.physics.surfaces import paint
from embodichain.robots.geometry import gripper_travel
from embodichain.types import ArmParts, Asset, Grains, Light, ObjectPlacement, Pose, Robot, Scene, Texture
from embodichain.types.poses import compose
from embodichain.types.settings import Setting, SurfaceFinish


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectIndex:
    """The indices of one object in a model: in qpos, qvel, bodies and geoms."""

    role: str
    asset: Asset
    root_pose: Pose
    """asset_from_body of the first root body, whose pose is reported."""
    free_poses: tuple[Pose, ...]
    """asset_from_body of each body with a free joint."""
    mocap: int
    """Row in mocap_pos of the mount of a bolted object; -1 for an object that can move."""
    free_qpos: tuple[int, ...]
    """First index in qpos of each free joint; empty for an object with a fixed base."""
    free_qvel: tuple[int, ...]
    joint_qpos: tuple[int, ...]
    joint_qvel: tuple[int, ...]
    bodies: NDArray[np.intp]
    """Model body of each asset body, shape [B]."""
    geoms: tuple[NDArray[np.intp], ...]
    """Model geoms of each asset body."""
    balances: tuple[Balance, ...]
    """Inertial frame of each asset body as compiled."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledWorld:
    """A compiled model with its state, and the mapping of commands and measurements.

    `ctrl[actuators] = gains * command[channels]`; `measured = add.reduceat(signs * qpos[measured_qpos], measured_starts)`.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    objects: tuple[ObjectIndex, ...]
    grains: GrainIndex
    stepper: Stepper
    readout: Readout
    drives: Drives
    arms: tuple[ArmParts, ...]
    labels: NDArray[np.uint8]
    """Class of each geom, with a last entry for no geom: 0 the room, 1 the table, 2 the robot, 3 + i object i, then the grains."""
    cameras: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], float]]
    """Position, quaternion and field of view [degrees] of each of the robot's cameras as compiled, by name."""
    actuators: NDArray[np.intp]
    channels: NDArray[np.intp]
    gains: NDArray[np.float64]
    measured_qpos: NDArray[np.intp]
    measured_signs: NDArray[np.float64]
    measured_starts: NDArray[np.intp]
    home_qpos: NDArray[np.float64]
    """Position of each entry of `measured_qpos` when the robot is at home; ignored where its sign is 0 (no gripper)."""
    rest: Mapping[int, float]
    """Initial positions of joints of grippers that no command drives, by their addresses in qpos."""
    decor: Decor | None = None
    """Rooms and tables; None in a world for scenes without a setting."""


# ------------------------------------------------------------------------------------------------------------ compiling

_NO_GRAINS = Grains()


def shape_key(
    robot: Robot, objects: Sequence[ObjectPlacement], grains: Grains = _NO_GRAINS, *, furnished: bool = False
) -> tuple[str, ...]:
    """A key that is equal exactly when two scenes can share a compiled model: same robot, roles, geometry, joints and grains, and
    both with a setting or both without.
    """
    shapes = (f"{placement.role}:{_shape_hash(placement.asset)}" for placement in objects)
    loose = f"{len(grains.positions)} grains of {grains.radius!r}" if grains.positions else ""
    return (robot.content_hash, *shapes, loose, *(("furnished",) if furnished else ()))


def _shape_hash(asset: Asset) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for body in asset.bodies:
        digest.update(repr((body.name, body.body_pose)).encode())
        digest.update(str(body.material.name in ROLLING_ARMS).encode())
        for mesh in (body.visual, *body.hulls):
            digest.update(np.ascontiguousarray(mesh.vertices, np.float32).tobytes())
            digest.update(np.ascontiguousarray(mesh.faces, np.int32).tobytes())
            digest.update(repr(mesh.shape).encode() if mesh.shape else b"")
    for joint in asset.joints:
        digest.update(repr((joint.name, joint.kind, joint.parent, joint.child, joint.axis, joint.anchor)).encode())
        digest.update(repr((joint.lower, joint.upper, joint.stiffness, joint.rest)).encode())
        digest.update(repr((joint.armature, joint.mimic)).encode())
    digest.update(repr(asset.apart).encode())
    return digest.hexdigest()


def compile_world(
    robot: Robot, objects: Sequence[ObjectPlacement], grains: Grains = _NO_GRAINS, *, furnished: bool = False
) -> CompiledWorld:
    """Compiles the model of a robot at its table with these objects and grains, and `furnished` with what settings need.

    Raises RobotError or SceneError, which names the part that cannot be built.
    """
    spec = lit_spec()
    attach_robot(spec, robot)
    add_table(spec)
    for placement in objects:
        add_object(spec, placement)
    add_grains(spec, grains)
    if furnished:  # last, so that everything else keeps its number
        add_decor(spec)
    try:
        model = spec.compile()
    except ValueError as error:
        raise SceneError(
            f"MuJoCo cannot build robot {robot.name!r} with objects {[f'{o.role} ({o.asset.name})' for o in objects]}: {error}"
        ) from error
    world = _index(model, robot, objects)
    return replace(world, decor=Decor(model)) if furnished else world


def compile_studio(asset: Asset) -> mujoco.MjModel:
    """A model for portraits: the asset alone on a neutral ground under a key and a fill light, with the free camera."""
    placement = ObjectPlacement(role="asset", asset=asset, pose=Pose())
    spec = lit_spec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0, 0, 1), rgba=(0.78, 0.80, 0.83, 1.0))
    add_object(spec, placement)
    model = spec.compile()
    _write_object(model, _index_object(model, placement), placement)
    lights = (
        Light(direction=(0.12, 0.55, -0.82), diffuse=(0.62, 0.60, 0.57)),
        Light(direction=(-0.80, 0.14, -0.50), diffuse=(0.18, 0.20, 0.24)),
    )
    _write_lights(model, lights)
    model.light_castshadow[1] = 0
    return model


# ------------------------------------------------------------------------------------------------------------- indexing


def _index(model: mujoco.MjModel, robot: Robot, objects: Sequence[ObjectPlacement]) -> CompiledWorld:
    actuators, channels, gains = [], [], []
    positions, signs, starts, home = [], [], [], []
    rest: dict[int, float] = {}
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
        fingers = [_joint(model, robot, name) for name in arm.gripper_joints]
        opens = dict(zip(fingers, gripper_travel(model, arm, "robot/"), strict=True))
        starts.append(len(positions))
        if not fingers:  # commands of an arm without a gripper still end with an opening, which has no effect and measures 0
            positions.append(0)
            signs.append(0.0)
            home.append(0.0)
        else:
            travels = {joint: 1.0 / (travel * len(fingers)) for joint, travel in opens.items()}
            for actuator, gain in _actuators_of(model, robot, travels, f"gripper of {arm.name}"):
                actuators.append(actuator)
                channels.append(channel)
                gains.append(gain)
            for joint, travel in opens.items():
                positions.append(model.jnt_qposadr[joint])
                signs.append(travel)
                home.append(travels[joint] * arm.gripper_open)
        for name, value in arm.gripper_rest:
            rest[int(model.jnt_qposadr[_joint(model, robot, name)])] = value
        channel += 1
    data = mujoco.MjData(model)
    found = tuple(_index_object(model, placement) for placement in objects)
    measured = np.array(positions, np.intp), np.array(signs), np.array(starts, np.intp)
    loose = GrainIndex.of(model)
    names = [model.body(index).name for index in range(model.nbody)]
    names[loose.bodies] = [NAME] * loose.count
    roots = {o.role: (-1, -1) if o.mocap >= 0 else (o.free_qpos[0], o.free_qvel[0]) for o in found}
    return CompiledWorld(
        model=model,
        data=data,
        objects=found,
        grains=loose,
        labels=_labels(model, found, loose),
        drives=Drives.of(model, _finger_bodies(model, robot)),
        arms=arm_parts(model, robot),
        cameras={name: _compiled_camera(model, name) for name in (camera.name for camera in robot.cameras)},
        stepper=Stepper(model, data, tuple(names), loose.owners(model)),
        readout=Readout(data, names, roots, [o.joint_qpos for o in found], measured, (loose.qpos, loose.qvel)),
        actuators=np.array(actuators, np.intp),
        channels=np.array(channels, np.intp),
        gains=np.array(gains),
        measured_qpos=measured[0],
        measured_signs=measured[1],
        measured_starts=measured[2],
        home_qpos=np.array(home),
        rest=rest,
    )


def _labels(model: mujoco.MjModel, objects: Sequence[ObjectIndex], grains: GrainIndex) -> NDArray[np.uint8]:
    labels = np.zeros(model.ngeom + 1, np.uint8)
    for geom in range(model.ngeom):
        body = model.body(model.geom_bodyid[geom]).name
        labels[geom] = 1 if body == "table" else 2 if body.startswith("robot/") else 0
    for number, index in enumerate(objects):
        labels[np.concatenate(index.geoms)] = 3 + number
    labels[grains.geoms] = 3 + len(objects)
    return labels


def _compiled_camera(model: mujoco.MjModel, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    index = model.camera(f"robot/{name}").id
    return model.cam_pos[index].copy(), model.cam_quat[index].copy(), float(model.cam_fovy[index])


def _joint(model: mujoco.MjModel, robot: Robot, name: str) -> int:
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, f"robot/{name}")
    if index < 0:
        names = [model.joint(i).name.removeprefix("robot/") for i in range(model.njnt) if model.joint(i).name.startswith("robot/")]
        raise RobotError(f"robot {robot.name!r} has no joint {name!r}; its MJCF has {names}")
    return index


def _finger_bodies(model: mujoco.MjModel, robot: Robot) -> list[int]:
    """The bodies that press on what a gripper holds."""
    found = [int(model.jnt_bodyid[_joint(model, robot, name)]) for arm in robot.arms for name in arm.gripper_joints]
    return found + [model.body(f"robot/{name}").id for arm in robot.arms for bodies in arm.finger_bodies for name in bodies]


def _actuators_of(model: mujoco.MjModel, robot: Robot, weights: dict[int, float], what: str) -> list[tuple[int, float]]:
    """Position servos on these joints, and the change of their target for one unit of the command.

    `weights` is the motion of each joint for one unit. An actuator acts on one joint, or on a fixed tendon over these joints.
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
    loosen_frames(model, bodies)
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
        balances=tuple(Balance.of(model, body) for body in bodies),
    )


# -------------------------------------------------------------------------------------------------------------- writing


def write_scene(world: CompiledWorld, scene: Scene) -> None:
    """Writes the initial state of `scene`. Every field that scenes can vary is rewritten, so nothing is left of earlier scenes."""
    model, data = world.model, world.data
    if len(scene.lights) > MAX_LIGHTS:
        raise SceneError(f"scene {scene.seed} has {len(scene.lights)} lights; at most {MAX_LIGHTS} can be rendered")
    for index, placement in zip(world.objects, scene.objects, strict=True):
        _write_object(model, index, placement)
    world.grains.weigh(model, scene.grains)
    world.drives.write(model, scene.dynamics)
    model.geom("table").rgba = scene.table_color
    _write_lights(model, scene.lights)
    for role in ("table", *(placement.role for placement in scene.objects)):
        paint(model, role, scene.looks.textures.get(role, Texture.PLAIN))
    if world.decor is not None and scene.looks.setting is not None:
        world.decor.arrange(model, scene.looks.setting)
        _finish(world, scene, scene.looks.setting)
    mujoco.mj_setConst(model, data)
    mujoco.mj_resetData(model, data)
    driven = world.measured_signs != 0.0
    data.qpos[world.measured_qpos[driven]] = world.home_qpos[driven]
    for address, value in world.rest.items():
        data.qpos[address] = value
    for index, placement in zip(world.objects, scene.objects, strict=True):
        for address, pose in zip(index.free_qpos, index.free_poses, strict=True):
            start = compose(placement.pose, pose)
            data.qpos[address : address + 7] = (*start.position, *start.quaternion)
        if index.mocap >= 0:
            data.mocap_pos[index.mocap] = placement.pose.position
            data.mocap_quat[index.mocap] = placement.pose.quaternion
        if placement.joint_positions:
            data.qpos[list(index.joint_qpos)] = placement.joint_positions
    world.grains.place(data, scene.grains)
    data.ctrl[world.actuators] = world.gains * _home_command(world)[world.channels]
    mujoco.mj_forward(model, data)


def _finish(world: CompiledWorld, scene: Scene, setting: Setting) -> None:
    """Writes textures, finishes and opacities of a setting."""
    model = world.model
    roles = [placement.role for placement in scene.objects]
    for role in ("table", "legs", "floor", "walls", "ceiling", "furniture", "robot", *roles):
        finish(model, role, setting.textures.get(role), setting.finishes.get(role, SurfaceFinish()))
    for index in world.objects:
        if index.role in setting.glass:
            model.geom_rgba[np.concatenate(index.geoms), 3] = setting.glass[index.role]


def _write_lights(model: mujoco.MjModel, lights: Sequence[Light]) -> None:
    model.light_active[:] = 0
    for number, light in enumerate(lights):
        model.light_active[number] = 1
        model.light_pos[number] = light.position
        model.light_dir[number] = np.asarray(light.direction) / np.linalg.norm(light.direction)
        model.light_diffuse[number] = light.diffuse


def _home_command(world: CompiledWorld) -> NDArray[np.float64]:
    return np.add.reduceat(world.measured_signs * world.home_qpos, world.measured_starts)


def _write_object(model: mujoco.MjModel, index: ObjectIndex, placement: ObjectPlacement) -> None:
    asset = placement.asset
    if placement.joint_positions and len(placement.joint_positions) != len(index.joint_qpos):
        names = [joint.name for joint in asset.movable_joints]
        raise SceneError(f"object {placement.role!r} has {len(placement.joint_positions)} joint positions for its joints {names}")
    for number, geoms in enumerate(index.geoms):
        source = asset.bodies[number]
        index.balances[number].write(model, source)
        rolling = ROLLING_ARMS.get(source.material.name, ROLLING_FRICTION)
        model.geom_friction[geoms] = (source.material.dynamic_friction, TORSIONAL_FRICTION, rolling)
        if source.surfaces:
            rubs = [(s.dynamic_friction, TORSIONAL_FRICTION, ROLLING_ARMS.get(s.name, ROLLING_FRICTION)) for s in source.surfaces]
            model.geom_friction[geoms[-len(rubs) :]] = rubs  # hulls come after what is seen
        model.geom_rgba[geoms] = placement.color or source.color
    for address, joint in zip(index.joint_qvel, asset.movable_joints, strict=True):
        model.dof_damping[address] = joint.damping
        model.dof_frictionloss[address] = joint.friction
