"""A dual-arm made of any two single-arm files, by a short description of files, positions and cameras.

    name: lab
    arms:
      left: {file: ur5.urdf, position: [-0.3, 0.3, 0.0], yaw_deg: -20}
      right: {file: panda.xml, position: [-0.3, -0.3, 0.0], home: [0, 0.4, 0, -1.8, 0, 2.2, 0.8]}
    cameras:
      - {name: head, position: [-0.5, 0, 0.8], target: [0, 0, 0], fovy: 50}
      - {name: left_wrist, arm: left, position: [-0.07, 0, -0.06], target: [0, 0, 0.05], fovy: 75}
    control_hz: 100

Positions [m] of arms and cameras are in the world frame; those of a camera with an `arm` are in the frame of that arm's tip. Files
are URDF or MJCF, with paths relative to the description. `control_hz` is the number of commands per second, 50 by default. An arm
may have `joint_speed` [rad/s], a number or one for each joint, and `gripper_speed`, by which the opening may change [m/s]; without
them the limits of a URDF hold. Reach, inverse kinematics, gripper and action channels are derived as for any file.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import yaml

from embodichain.errors import RobotError
from embodichain.robots.chains import find_limbs
from embodichain.robots.mjcf import complete, parse
from embodichain.robots.urdf import read_urdf, with_speeds
from embodichain.types import Arm, Pose, Robot
from embodichain.types.poses import turn

_SIDES = ("left", "right")
_ARM_KEYS = ("file", "position", "yaw_deg", "home", "joint_speed", "gripper_speed")
_CAMERA_KEYS = ("name", "arm", "position", "target", "fovy")
_NEAREST_BASES = 0.1


def load_description(path: str | Path) -> Robot:
    """The robot that a YAML file describes. Raises RobotError when the file cannot be read or describes none."""
    path = Path(path)
    if not path.is_file():
        raise RobotError(f"no robot description at {path}: give the path of a YAML file")
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError) as error:  # text in another encoding, and dates that do not exist, are ValueErrors
        raise RobotError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    return assemble(described, folder=path.parent, name=path.stem)


def assemble(described: Mapping[str, Any], *, folder: Path = Path(), name: str = "dual_arm") -> Robot:
    """The robot of a description, in the form shown at the top of this file; file names are relative to `folder`.

    Raises RobotError naming the entry that is missing, unknown or impossible.
    """
    if not isinstance(described, Mapping) or not isinstance(described.get("arms"), Mapping):
        raise RobotError(f"a robot description needs arms: {{left: ..., right: ...}}, got {described!r}")
    _only(described, ("name", "arms", "cameras", "control_hz"), "a robot description")
    arms, called = described["arms"], described.get("name", name)
    if not isinstance(called, str) or not called:
        raise RobotError(f"a robot description needs a name that is text, got name: {called!r}")
    if sorted(map(str, arms)) != sorted(_SIDES):
        raise RobotError(f"a dual-arm has arms {', '.join(_SIDES)}, got {', '.join(map(str, arms)) or 'none'}")
    for side in _SIDES:
        if not isinstance(arms[side], Mapping) or not isinstance(arms[side].get("file"), str):
            raise RobotError(f"arm {side!r} needs a file, as {{file: arm.xml}}, got {arms[side]!r}")
    places = {side: _vector(arms[side], "position", f"arm {side!r}", (0.0, 0.0, 0.0)) for side in _SIDES}
    if math.dist(*places.values()) < _NEAREST_BASES:
        raise RobotError(f"the arms stand {math.dist(*places.values()):.2f} m apart, inside each other: give them other positions")
    whole = mujoco.MjSpec()
    whole.compiler.degree = False
    for side in _SIDES:
        _attach(whole, side, arms[side], places[side], folder)
    cameras = _cameras(described.get("cameras"))
    for camera in cameras:
        if camera.get("arm") is None:
            _add_camera(whole.worldbody, camera)
    what = f"robot description {called!r}"
    try:
        model = whole.compile()
    except ValueError as error:
        raise RobotError(f"{what}: the two arms do not compile together: {' '.join(str(error).split())}") from error
    mounted = [camera for camera in cameras if camera.get("arm") is not None]
    robot = complete(whole, model, name=called, what=what, world_from_base=Pose(), mounted=_mounted_on(mounted))
    rate = described.get("control_hz", robot.control_hz)
    if not isinstance(rate, int) or isinstance(rate, bool) or rate < 1:
        raise RobotError(f"{what} takes a whole number of commands per second, got control_hz: {rate!r}")
    return replace(robot, arms=tuple(_as_described(arm, arms[arm.name], folder) for arm in robot.arms), control_hz=rate)


def _cameras(described: Any) -> Sequence[Mapping[str, Any]]:
    """The entries of cameras, each a mapping with a name of its own."""
    found = described or ()
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(one, Mapping) for one in found):
        raise RobotError(f"cameras are a list of entries {{name: ..., position: [x, y, z]}}, got {described!r}")
    names = [str(one.get("name")) for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RobotError(f"each camera needs a name of its own, got {', '.join(sorted(twice))} twice")
    return found


def _attach(whole: mujoco.MjSpec, side: str, described: Mapping[str, Any], position: Sequence[float], folder: Path) -> None:
    _only(described, _ARM_KEYS, f"arm {side!r}")
    path = folder / described["file"]
    child, model = parse(path)
    if not child.actuators:  # motors stand in until servos replace them
        driven = [j for j in child.joints if j.type in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)]
        for joint in driven:
            child.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT).set_to_motor()
        try:
            model = child.compile()
        except ValueError as error:
            raise RobotError(f"{path} does not compile with motors on its joints: {' '.join(str(error).split())}") from error
    limbs = find_limbs(model, str(path))
    if len(limbs) != 1:
        raise RobotError(f"{path} has {len(limbs)} arms; each file of a dual-arm must hold one")
    meshes, textures = Path(child.compiler.meshdir), Path(child.compiler.texturedir)
    for element in (*child.meshes, *child.hfields, *child.skins):
        element.file = element.file and str((meshes / element.file).resolve())
    for texture in child.textures:
        texture.file = texture.file and str((textures / texture.file).resolve())
        texture.cubefiles = [file and str((textures / file).resolve()) for file in texture.cubefiles]
    child.compiler.meshdir = child.compiler.texturedir = ""
    for element in [*child.keys, *child.lights]:
        child.delete(element)
    quaternion = turn((0.0, 0.0, 1.0), math.radians(_number(described, "yaw_deg", f"arm {side!r}", 0.0)))
    whole.attach(child, prefix=f"{side}/", frame=whole.worldbody.add_frame(pos=position, quat=quaternion))


def _as_described(arm: Arm, described: Mapping[str, Any], folder: Path) -> Arm:
    """The arm with the home and the speeds that the description gives, or its URDF."""
    home, speeds = described.get("home"), described.get("joint_speed")
    if home is not None:
        arm = replace(arm, home=_values(arm, home, "home", "rad"))
    if speeds is not None:
        several = isinstance(speeds, Sequence) and not isinstance(speeds, str)
        arm = replace(arm, joint_speed=_values(arm, speeds if several else [speeds] * len(arm.joints), "joint_speed", "rad/s"))
    else:
        path = folder / described["file"]
        arm = with_speeds(arm, read_urdf(path), str(path), f"{arm.name}/")
    if "gripper_speed" in described:
        arm = replace(arm, gripper_speed=_number(described, "gripper_speed", f"arm {arm.name!r}", 0.0))
    if min((*arm.joint_speed, arm.gripper_speed or 1.0)) <= 0.0:
        raise RobotError(f"arm {arm.name!r} needs speeds above 0, got {arm.joint_speed} rad/s and {arm.gripper_speed} m/s")
    return arm


def _values(arm: Arm, given: Any, key: str, unit: str) -> tuple[float, ...]:
    """One finite number for each joint of the arm."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != len(arm.joints):
        raise RobotError(f"arm {arm.name!r} has {len(arm.joints)} joints {list(arm.joints)}, its {key} has {given!r} [{unit}]")
    return tuple(_finite(value, f"{key} of arm {arm.name!r}", f"a number for each joint [{unit}]") for value in given)


def _mounted_on(cameras: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Cameras by the arm whose tip they move with, as attributes of a camera element in the tip's frame."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in _SIDES}
    for camera in cameras:
        if not isinstance(camera["arm"], str) or camera["arm"] not in found:
            raise RobotError(f"camera {camera.get('name')!r} sits on arm {camera['arm']!r}; arms: {', '.join(_SIDES)}")
        found[camera["arm"]].append(_camera(camera))
    return found


def _add_camera(body: mujoco.MjsBody, camera: Mapping[str, Any]) -> None:
    body.add_camera(**_camera(camera))


def _camera(camera: Mapping[str, Any]) -> dict[str, Any]:
    """Name, position, orientation and field of view of an upright camera that looks at its target."""
    what = f"camera {camera.get('name')!r}"
    _only(camera, _CAMERA_KEYS, what)
    if not camera.get("name"):
        raise RobotError(f"a camera needs a name, got {dict(camera)!r}")
    eye, target = np.array(_vector(camera, "position", what)), np.array(_vector(camera, "target", what, (0.0, 0.0, 0.0)))
    fovy = _number(camera, "fovy", what, 60.0)
    if np.linalg.norm(eye - target) < 1e-6 or not 1.0 <= fovy <= 170.0:
        raise RobotError(f"{what} must look at another point than its own, with fovy 1..170 degrees, got {dict(camera)!r}")
    back = (eye - target) / np.linalg.norm(eye - target)
    up = (0.0, 0.0, 1.0) if abs(back[2]) < 0.999 else (1.0, 0.0, 0.0)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    return {"name": str(camera["name"]), "pos": eye, "quat": quaternion, "fovy": fovy}


def _vector(described: Any, key: str, what: str, default: Sequence[float] | None = None) -> tuple[float, float, float]:
    value = described.get(key, default) if isinstance(described, Mapping) else default
    unit = "[x, y, z] in metres"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise RobotError(f"{what} needs {key}: {unit}, got {value!r}")
    x, y, z = (_finite(number, f"{key} of {what}", unit) for number in value)
    return x, y, z


def _number(described: Mapping[str, Any], key: str, what: str, default: float) -> float:
    return _finite(described.get(key, default), f"{key} of {what}", "a number")


def _finite(value: Any, what: str, wanted: str) -> float:
    """A finite number; text and truth values, which YAML makes of some words, are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RobotError(f"{what} is {wanted}, got {value!r}")
    return float(value)


def _only(described: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for key in itertools.filterfalse(known.__contains__, described):
        raise RobotError(f"{what} has an unknown entry {key!r}; known: {', '.join(known)}")
