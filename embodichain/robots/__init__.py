"""The robots: frozen values holding MJCF text; a dual-arm platform of our own, and any MJCF file by path.

What every robot's MJCF holds, so that a physics can drive it without asking further:
the world frame of `types` with a body and geom "table" whose top is z = 0; for each arm joint a position actuator named as
the joint, its control the target angle [rad]; for each arm with a gripper a fixed tendon named "<arm>/gripper" whose length is
the opening [m], and a position actuator of that name, its control the target opening [m]; each arm's site; the cameras.
It holds no lights, no keyframes and no task objects.
"""

from typing import TYPE_CHECKING

from embodichain.lazy import public
from embodichain.robots.catalog import ROBOTS, check, get

if TYPE_CHECKING:
    from embodichain.robots.mjcf import load_mjcf
    from embodichain.robots.piper import dual_piper

__all__ = ["ROBOTS", "check", "dual_piper", "get", "load_mjcf"]


__getattr__, __dir__ = public(__name__, {"dual_piper": "piper", "load_mjcf": "mjcf"})
