"""What was found in a robot's description: arms, grippers, cameras, and what is missing or unusual."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco

from embodichain.errors import RobotError
from embodichain.robots.chains import Limb
from embodichain.robots.geometry import Floats, gripper_travel, open_gripper
from embodichain.types import Arm, Robot, Vec3, rotate

_SUNK = 0.002
_TALLEST = 0.6
"""A base higher over the table than this [m] is hardly meant so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointFacts:
    """A joint of an arm: limits [rad], speed limit [rad/s] and torque limit [N m], 0 where the description sets none."""

    name: str
    limited: bool
    lower: float
    upper: float
    speed: float
    torque: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFacts:
    """An arm, its mounting in the world, and its gripper: lengths in m, `force` of a finger in N."""

    name: str
    joints: tuple[JointFacts, ...]
    base: Vec3
    tip_at_home: Vec3
    approach_at_home: Vec3
    gripper: str
    """"slides", "linkage" or "none"."""
    gripper_joints: tuple[str, ...]
    opening: float
    force: float
    finger_width: float
    finger_thickness: float
    finger_length: float
    gripper_speed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFacts:
    """A camera, its vertical field of view [degrees], and the body that carries it; "" where it stands still."""

    name: str
    fovy: float
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotFacts:
    """All that was found; `faults` make the robot useless and `notes` do not. Each says what to do."""

    name: str
    control_hz: int
    arms: tuple[ArmFacts, ...]
    cameras: tuple[CameraFacts, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def find_facts(robot: Robot) -> RobotFacts:
    """The facts of a robot. Raises RobotError for one that is no robot of joints, as a benchmark's, or does not compile."""
    if robot.channels:
        raise RobotError(
            f"robot {robot.name!r} belongs to a benchmark, which simulates it itself: there is no description to check; run tasks "
            f"of it, as {robot.name}:NAME"
        )
    try:
        model = mujoco.MjModel.from_xml_string(robot.mjcf)
    except ValueError as error:
        raise RobotError(f"robot {robot.name!r} has MJCF that does not compile: {' '.join(str(error).split())}") from error
    data = mujoco.MjData(model)
    for arm in robot.arms:
        for name, value in (*zip(arm.joints, arm.home, strict=True), *open_gripper(model, arm).items()):
            data.qpos[model.joint(name).qposadr[0]] = value
    mujoco.mj_forward(model, data)
    arms = tuple(_arm(model, data, robot, arm) for arm in robot.arms)
    cameras = tuple(_camera(model, camera.name, camera.fovy) for camera in robot.cameras)
    faults, notes = _judged(model, data, robot, arms, cameras)
    return RobotFacts(
        name=robot.name, control_hz=robot.control_hz, arms=arms, cameras=cameras, faults=tuple(faults), notes=tuple(notes)
    )


def _arm(model: mujoco.MjModel, data: mujoco.MjData, robot: Robot, arm: Arm) -> ArmFacts:
    ids = [model.joint(name).id for name in arm.joints]
    speeds = arm.joint_speed or (0.0,) * len(ids)
    joints = tuple(
        JointFacts(
            name=name,
            limited=bool(model.jnt_limited[joint]),
            lower=float(model.jnt_range[joint, 0]) if model.jnt_limited[joint] else -math.pi,
            upper=float(model.jnt_range[joint, 1]) if model.jnt_limited[joint] else math.pi,
            speed=speed,
            torque=Limb.force_limit(model, joint),
        )
        for name, joint, speed in zip(arm.joints, ids, speeds, strict=True)
    )
    grip = [model.joint(name).id for name in arm.gripper_joints]
    travel = gripper_travel(model, arm)
    forces = [Limb.force_limit(model, joint) / abs(one) for joint, one in zip(grip, travel, strict=True)]
    site = data.site(arm.site)
    return ArmFacts(
        name=arm.name,
        joints=joints,
        base=_in_world(robot, data.xanchor[ids[0]]),
        tip_at_home=_in_world(robot, site.xpos),
        approach_at_home=_turned(robot, site.xmat.reshape(3, 3)[:, 2]),
        gripper="none" if not grip else "linkage" if arm.finger_bodies else "slides",
        gripper_joints=arm.gripper_joints,
        opening=arm.gripper_open,
        force=max(forces, default=0.0),
        finger_width=2 * arm.fingers.half_width,
        finger_thickness=arm.fingers.thickness,
        finger_length=arm.fingers.above + arm.fingers.below,
        gripper_speed=arm.gripper_speed,
    )


def _camera(model: mujoco.MjModel, name: str, fovy: float) -> CameraFacts:
    body = int(model.cam_bodyid[model.camera(name).id])
    return CameraFacts(name=name, fovy=fovy, body=model.body(body).name if model.body_weldid[body] else "")


def _judged(
    model: mujoco.MjModel, data: mujoco.MjData, robot: Robot, arms: tuple[ArmFacts, ...], cameras: tuple[CameraFacts, ...]
) -> tuple[list[str], list[str]]:
    """What makes the robot useless, and what is worth knowing."""
    faults, notes = [], []
    for arm, found in zip(robot.arms, arms, strict=True):
        outside = [
            f"{joint.name} at {value:.2f} of {joint.lower:.2f}..{joint.upper:.2f} rad"
            for joint, value in zip(found.joints, arm.home, strict=True)
            if not joint.lower - 1e-6 <= value <= joint.upper + 1e-6
        ]
        if outside:
            faults.append(
                f"the {arm.name} arm's home lies outside its limits ({', '.join(outside)}): give a keyframe 'home' inside"
            )
        if found.tip_at_home[2] < 0.0:
            faults.append(
                f"the {arm.name} arm's tip is {1e3 * -found.tip_at_home[2]:.0f} mm below the table at home: give a keyframe 'home' "
                "with the tip above it"
            )
        if found.base[2] > _TALLEST:
            notes.append(f"the {arm.name} arm's first joint is {found.base[2]:.2f} m above the table: check the file's origin")
        if found.gripper == "none":
            why = arm.gripper_problem or "it has no joint beyond the wrist: add fingers that slide or a linkage, with an actuator"
            notes.append(f"the {arm.name} arm has no gripper: {why}")
        free = [joint.name for joint in found.joints if not joint.limited]
        if free:
            notes.append(f"joints {', '.join(free)} have no limits, half a turn to either side is taken: give each a range")
        if not arm.joint_speed:
            notes.append(
                f"the {arm.name} arm has no speed limits, 2 rad/s is taken: give joint_speed in the YAML description, or "
                '<custom><numeric name="joint_speed" data="..."/></custom> in MJCF'
            )
        weak = [joint.name for joint in found.joints if joint.torque == 0.0]
        if weak:
            notes.append(f"joints {', '.join(weak)} have no torque limit: give their actuators a forcerange")
    deepest = min(data.contact, key=lambda contact: contact.dist, default=None)
    if deepest is not None and deepest.dist < -_SUNK:
        first, second = (model.body(model.geom_bodyid[g]).name or "world" for g in (deepest.geom1, deepest.geom2))
        faults.append(
            f"at home, {first!r} is {-1e3 * deepest.dist:.0f} mm inside {second!r}: exclude their contact, or give another 'home'"
        )
    if all(camera.body for camera in cameras):
        notes.append("every camera moves with an arm, so no scene can be checked for hidden objects: add one that stands still")
    return faults, notes


def _in_world(robot: Robot, point: Floats) -> Vec3:
    x, y, z = (rotate(robot.world_from_base.quaternion, point) + robot.world_from_base.position).tolist()
    return x, y, z


def _turned(robot: Robot, direction: Floats) -> Vec3:
    x, y, z = rotate(robot.world_from_base.quaternion, direction).tolist()
    return x, y, z
