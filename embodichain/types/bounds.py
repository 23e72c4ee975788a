"""The limits of a robot's conduct, whatever its task: every grader fails an episode that exceeds them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How fast a robot may move and how hard it may press, checked at every control step; one breach fails the episode.

    `joint_speed` [rad/s] and `joint_acceleration` [rad/s^2] limit the measured motion of an arm's joints from one control step to
    the next. The speed is a little above the 2 rad/s that experts are planned with, and the acceleration five times theirs, because
    arms move less smoothly where a policy joins its chunks. `grip_share` limits the force of a finger or link on an object, as a
    multiple of the force that one finger of the gripper can exert; `grip_force` [N] replaces that force where a robot's file sets
    no limit. `table_force`, `arms_force` and `self_force` [N] limit the force of an arm on table or floor, on the other arm, and on
    itself. All forces are those of a single physics step, so that impacts are not averaged away. Infinity turns a limit off.
    """

    infinity_is_off: ClassVar[bool] = True
    """So command lines take infinity for these values, and for no others."""

    joint_speed: float = 2.2
    joint_acceleration: float = 40.0
    grip_share: float = 1.5
    grip_force: float = 30.0
    table_force: float = 100.0
    arms_force: float = 10.0
    self_force: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if math.isnan(value) or value <= 0.0:
                raise ValueError(f"{name} must be positive, got {value}; .inf turns a bound off")


UNBOUNDED = Bounds(
    joint_speed=math.inf,
    joint_acceleration=math.inf,
    grip_share=math.inf,
    grip_force=math.inf,
    table_force=math.inf,
    arms_force=math.inf,
    self_force=math.inf,
)
"""Every limit turned off: how runs and policies were judged before these limits existed."""
