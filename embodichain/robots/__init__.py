"""The robots, as frozen values that hold MJCF text: a dual-arm platform of our own, and any MJCF file by its path.

The MJCF of every robot holds what a physics needs to drive it: the world frame of `types` with a body and geom "table" whose top is
z = 0; for each arm joint a position actuator of the joint's name, whose control is the target angle [rad]; for each arm with a
gripper a fixed tendon "<arm>/gripper", whose length is the opening [m], and a position actuator of that name, whose control is the
target opening [m]; each arm's site; the cameras. It holds no lights, no keyframes and no task objects.
"""

from typing import TYPE_CHECKING

from embodichain.lazy import public
from embodichain.robots.catalog import ROBOTS, check, get

if TYPE_CHECKING:
    from embodichain.robots.mjcf import load_mjcf
    from embodichain.robots.piper import dual_piper

__all__ = ["ROBOTS", "check", "dual_piper", "get", "load_mjcf"]


__getattr__, __dir__ = public(__name__, {"dual_piper": "piper", "load_mjcf": "mjcf"})
