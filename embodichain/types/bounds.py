"""How a robot may conduct itself, whatever its task: what every grader refuses an episode for."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How fast a robot may move and how hard it may press, measured at every control step and not forgiven.

    `joint_speed` [rad/s] and `joint_acceleration` [rad/s^2] are of an arm's joints as measured, from one control step to the next:
    a little more than the speed that experts are planned with (2 rad/s), and five times their acceleration, for arms are less
    smooth where a policy joins its chunks. `grip_share` is by how much the force of a finger or link on an object may exceed what
    one finger of the gripper can exert; `grip_force` [N] stands for that where a robot's file sets no limit. `table_force`,
    `arms_force` and `self_force` [N] bound what an arm presses on table or floor with, one arm on another, and an arm on itself.
    Forces are those of one physics step: a blow is not averaged away. Infinity turns a bound off.
    """

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
"""Every bound turned off: how runs and policies were judged before there were any."""
