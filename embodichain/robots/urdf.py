"""What a URDF says and MuJoCo does not read: which joints imitate others, and how fast each may turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from embodichain.errors import RobotError
from embodichain.types.robots import Arm

_MOVING = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)


def read_urdf(path: Path) -> ElementTree.Element | None:
    """The root element of a URDF file; None for a file of another kind."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError):
        return None
    return root if root.tag == "robot" else None


def drive(spec: mujoco.MjSpec, urdf: ElementTree.Element, what: str) -> None:
    """Adds what a URDF leaves to controllers: a motor on each joint that imitates no other, and couplings of those that do.

    Motors stand in until servos of the arm replace them; their strength is the joint's effort limit. `what` names the file in
    errors; raises RobotError for a coupling that names no joint or is no number.
    """
    joints = {joint.name for joint in spec.joints if joint.type in _MOVING}
    for joint in sorted(urdf.iter("joint"), key=lambda one: one.get("name", "")):
        name, mimic = joint.get("name", ""), joint.find("mimic")
        if mimic is None or name not in joints:
            continue
        other = mimic.get("joint", "")
        if other not in joints:
            raise RobotError(f"{what} has a joint {name!r} that imitates {other!r}; joints: {', '.join(sorted(joints))}")
        offset, factor = (_number(mimic.get(key), default, what, name) for key, default in (("offset", 0.0), ("multiplier", 1.0)))
        spec.add_equality(
            type=mujoco.mjtEq.mjEQ_JOINT,
            objtype=mujoco.mjtObj.mjOBJ_JOINT,
            name1=name,
            name2=other,
            data=[offset, factor, *([0.0] * (mujoco.mjNEQDATA - 2))],
            solref=(0.005, 1.0),
        )
    imitating = {joint.get("name", "") for joint in urdf.iter("joint") if joint.find("mimic") is not None}
    for joint in spec.joints:
        if joint.type in _MOVING and joint.name not in imitating:
            spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT).set_to_motor()


def with_speeds(arm: Arm, urdf: ElementTree.Element | None, what: str, prefix: str = "") -> Arm:
    """The arm with the speed limits of its URDF, where that sets them; `prefix` stands before the joints' names in the robot."""
    elements = {} if urdf is None else {joint.get("name", ""): joint.find("limit") for joint in urdf.iter("joint")}
    limits = {
        prefix + name: _number(limit.get("velocity"), 0.0, what, name) for name, limit in elements.items() if limit is not None
    }
    known = tuple(limits.get(joint, 0.0) for joint in arm.joints)
    fingers = [limits.get(joint, 0.0) for joint in arm.gripper_joints]
    if known and min(known) > 0.0:
        arm = replace(arm, joint_speed=known)
    if fingers and min(fingers) > 0.0:
        travel = np.abs(arm.gripper_travel or (1.0,) * len(fingers))
        arm = replace(arm, gripper_speed=float(travel @ fingers))
    return arm


def _number(text: str | None, default: float, what: str, joint: str) -> float:
    try:
        return default if text is None else float(text)
    except ValueError:
        raise RobotError(f"{what} has a joint {joint!r} with {text!r} where a number belongs") from None
