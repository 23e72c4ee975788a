"""The arms in a compiled world: which bodies belong to which arm, which are fingers, and how hard these can press."""

from __future__ import annotations

from collections.abc import Iterable

import mujoco

from embodichain.robots.chains import Limb
from embodichain.robots.geometry import gripper_travel
from embodichain.types import ArmParts, Robot


def arm_parts(model: mujoco.MjModel, robot: Robot) -> tuple[ArmParts, ...]:
    """The parts of each arm, in a model that contains the robot under the prefix "robot/"."""
    found, start = [], 0
    for arm in robot.arms:
        grip = [model.joint(f"robot/{name}").id for name in arm.gripper_joints]
        fingers: dict[str, int] = {}
        for number, joint in enumerate(grip if not arm.finger_bodies else ()):
            fingers |= dict.fromkeys(_below(model, [int(model.jnt_bodyid[joint])]), number)
        for number, bodies in enumerate(arm.finger_bodies):
            fingers |= dict.fromkeys((f"robot/{name}" for name in bodies), number)
        travel = gripper_travel(model, arm, "robot/")
        forces = [Limb.force_limit(model, joint) / abs(one) for joint, one in zip(grip, travel, strict=True)]
        moved = [int(model.jnt_bodyid[model.joint(f"robot/{name}").id]) for name in arm.joints]
        found.append(
            ArmParts(
                name=arm.name,
                bodies=frozenset(_below(model, moved)),
                fingers=fingers,
                grip_force=max(forces, default=0.0),
                joints=slice(start, start + len(arm.joints)),
            )
        )
        start += arm.command_size
    return tuple(found)


def _below(model: mujoco.MjModel, roots: Iterable[int]) -> list[str]:
    """Names of the bodies `roots` and of all their descendants."""
    found = set(roots)
    for body in range(1, model.nbody):  # a parent has a smaller number than its children
        if int(model.body_parentid[body]) in found:
            found.add(body)
    return [model.body(body).name for body in sorted(found)]
