"""What a task needs of a robot, and what a robot lacks for it: said before any scene is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodichain.protocols import Task
from embodichain.types import Arm, Robot

_DRAWS = 32
"""Number of requests from which it is seen which arms a task names."""
_LEAST_ROOM = 0.002
"""Least room [m] on either side of an object between open fingers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a task needs of a robot, besides arms that reach; a task may have it as its attribute `needs`.

    Lengths in m. `opening` is the widest thing that the gripper must enclose, `finger_length` how far a finger must reach back from
    its end, so that the palm stays clear of what is held, and `finger_thickness` the thickest finger that fits into or beside it.
    """

    arms: int = 1
    gripper: bool = True
    opening: float = 0.0
    finger_length: float = 0.0
    finger_thickness: float = float("inf")


NOTHING = Needs(gripper=False)
"""For tasks that say nothing."""


def lacking(robot: Robot, task: Task) -> tuple[str, ...]:
    """What the robot lacks for the task, each with the remedy; empty when it lacks nothing that can be known without a scene."""
    if robot.channels:  # a benchmark's robot, which acts in that benchmark's tasks alone
        return ()
    needs: Needs = getattr(task, "needs", NOTHING)
    found: list[str] = []
    if len(robot.arms) < needs.arms:
        found.append(
            f"it needs {needs.arms} arms and robot {robot.name!r} has {len(robot.arms)}: describe a dual-arm in a YAML file, or "
            "choose another task"
        )
    known = {arm.name for arm in robot.arms}
    for draw in range(_DRAWS if not found else 0):
        for wanted in task.request(np.random.default_rng(draw)).objects:
            if wanted.arms and not known & set(wanted.arms):
                found.append(
                    f"its {wanted.role!r} is for the {' or '.join(wanted.arms)} arm, and robot {robot.name!r} has "
                    f"{', '.join(sorted(known))}: describe a dual-arm in a YAML file, or choose another task"
                )
        if found:
            break
    able = [arm for arm in robot.arms if not (problems := _of_arm(arm, needs))]
    if len(able) < min(needs.arms, len(robot.arms)):
        for arm in robot.arms:
            problems = _of_arm(arm, needs)
            found += [f"the {arm.name} arm of robot {robot.name!r} {problem}" for problem in problems]
    return tuple(found)


def _of_arm(arm: Arm, needs: Needs) -> Sequence[str]:
    """What one arm lacks."""
    if not needs.gripper:
        return []
    if not arm.gripper_joints:
        why = f": {arm.gripper_problem}" if arm.gripper_problem else ": add fingers that slide or a linkage, with an actuator"
        return [f"has no gripper{why}"]
    found = []
    if arm.gripper_open < needs.opening + 2 * _LEAST_ROOM:
        found.append(
            f"opens {1e3 * arm.gripper_open:.0f} mm, {1e3 * (needs.opening + 2 * _LEAST_ROOM):.0f} mm needed: give it a wider "
            "gripper, or a wider range of its finger joints"
        )
    length = arm.fingers.above + arm.fingers.below
    if length < needs.finger_length:
        found.append(
            f"has fingers of {1e3 * length:.0f} mm, {1e3 * needs.finger_length:.0f} mm needed: give it longer ones, or name a site "
            "'tcp' nearer to their ends"
        )
    if arm.fingers.thickness > needs.finger_thickness:
        found.append(
            f"has fingers {1e3 * arm.fingers.thickness:.0f} mm thick, at most {1e3 * needs.finger_thickness:.0f} mm fit: give it "
            "thinner ones, or shape their colliding parts more closely"
        )
    return found
