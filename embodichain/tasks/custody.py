"""Custody: judges over a whole episode how an object to be carried was treated. Several graders use it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodichain.motion.frames import world_from_asset
from embodichain.tasks.holding import holders, resting_on, touches
from embodichain.types import CONTROL_HZ, Scene, Vec3, WorldState
from embodichain.types.poses import turned


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyConfig:
    """Limits on the treatment of an object. Lengths in m, speeds in m/s.

    `lift`: the least height above its initial place at which two fingers of one hand held it between them, if it was moved at all.
    With no finger on it: `fall`, the most that it may sink; `slide`, the most that it may move horizontally; `free_speed`, its
    largest speed. `push`: the total distance over which it may be pushed along its support, or carried by anything but two such
    fingers. `still`: the speed below which it is at rest. The robot's force on it is limited by `Bounds`, which are the same for
    all objects.
    """

    lift: float = 0.02
    fall: float = 0.008
    slide: float = 0.015
    free_speed: float = 0.35
    push: float = 0.03
    still: float = 0.02
    support: str = ""
    """Prefix of the names of supports along which pushing counts; empty for any support."""
    rests_on: tuple[str, ...] = ()
    """All that it may touch at the end, once it was moved: "table", roles of other objects, "grains"; empty for anything."""


_TOUCH_WINDOW = 2
"""Number of control steps for which a touch counts, because contacts are sampled once a control step."""
_HELD_STEPS = 3
"""Number of control steps for which a hold counts, because contacts flicker."""


class Custody:
    """Watches one object. Every drop, throw, push or squeeze leaves a fault that no later event removes."""

    def __init__(self, scene: Scene, role: str, config: CustodyConfig | None = None) -> None:
        placed = scene.object(role)
        self._asset, self._role, self._config = placed.asset, role, config or CustodyConfig()
        self._start = self._previous = self._last_touched = placed.pose.position
        self._since_touch = _TOUCH_WINDOW + 1
        self._was_supported = False
        self._since_held = _HELD_STEPS + 1
        self._rests_on: frozenset[str] = frozenset()
        self._pushed = 0.0
        self._fault = ""
        self._rest_steps, self._control_hz = 0, CONTROL_HZ
        self._owed = False
        self.excused = False
        """Whether it still flies or slides after a labelled failure. Its motion is ignored until it rests or is held."""
        self.touched = False
        """Whether the robot has ever touched it."""
        self.lifted = 0.0
        """Greatest height above its initial place at which two fingers held it [m]."""
        self.moved = 0.0
        """Greatest horizontal distance from its initial place [m]."""
        self.tilt = 0.0
        """Current angle [rad] of its Z axis from the vertical."""

    def observe(self, state: WorldState) -> None:
        """Takes in the state after one control step."""
        pose = world_from_asset(self._asset, state.object_poses[self._role])
        position = pose.position
        speed = math.hypot(*state.object_velocities[self._role][:3].tolist())
        others = [body for body, contact in touches(state, self._role) if not body.startswith("robot/")]
        supported = any(body.startswith(self._config.support) for body in others)
        self._rests_on = resting_on(state, self._role)
        held = bool(holders(state, self._role))
        self._since_held = 0 if held else self._since_held + 1
        touching = state.touching("robot/", f"{self._role}/")
        self.touched |= touching
        self._since_touch = 0 if touching else self._since_touch + 1
        if touching:
            self._last_touched = position
        elif self._since_touch > _TOUCH_WINDOW:
            self._judge_freedom(position, speed)
        if held and not supported:
            self.lifted = max(self.lifted, position[2] - self._start[2])
        if self.excused:
            self._forget(position)
            self.excused = not held and self._rest_steps < _TOUCH_WINDOW
        step = math.dist(position[:2], self._previous[:2])
        astride = touching and not others and self._since_held > _HELD_STEPS  # and nothing else holds it up
        if supported or self._was_supported or astride:
            self._pushed += step
        self.moved = max(self.moved, math.dist(position[:2], self._start[:2]))
        self.tilt = math.acos(min(max(turned(pose.quaternion, (0.0, 0.0, 1.0))[2], -1.0), 1.0))
        self._was_supported, self._previous = supported, position
        self._control_hz = state.control_hz
        self._rest_steps = self._rest_steps + 1 if not touching and speed < self._config.still else 0

    def pardon(self) -> bool:
        """Ends a labelled failure: forgives a fault of the object, and its motion if it is loose.

        If a hand had touched it before, it must then be picked up again. Returns whether there was anything to forgive.
        """
        loose = self._since_touch > 0 and self._rest_steps == 0
        if not (loose or self._wrong):
            return False
        self._owed |= self.touched
        self._forget(self._previous)
        self.excused = loose
        return True

    def _forget(self, position: Vec3) -> None:
        """Restarts the judgement with the object at `position` [m]."""
        self._fault, self._pushed, self._was_supported = "", 0.0, False
        self._start = self._previous = self._last_touched = position
        self.lifted = self.moved = 0.0

    def _judge_freedom(self, position: Vec3, speed: float) -> None:
        """Records the first fault of an object that no finger touches."""
        fall = self._last_touched[2] - position[2]
        slide = math.dist(position[:2], self._last_touched[:2])
        if self._fault:
            return
        if fall > self._config.fall:
            self._fault = f"the {self._role} was dropped: it fell {1e3 * fall:.0f} mm, {1e3 * self._config.fall:.0f} mm allowed"
        elif speed > self._config.free_speed:
            self._fault = f"the {self._role} was thrown: it moved at {speed:.2f} m/s with nothing holding it"
        elif slide > self._config.slide:
            self._fault = f"the {self._role} slid {1e3 * slide:.0f} mm with nothing holding it"

    @property
    def rest_s(self) -> float:
        """How long it has been still and untouched [s]."""
        return self._rest_steps / self._control_hz

    @property
    def misplaced(self) -> str:
        """Describes a forbidden support that it rests on; "" when there is none, or it was never moved."""
        strange = self._rests_on - set(self._config.rests_on) if self._config.rests_on else ()
        if not strange or self.moved < self._config.slide:
            return ""
        right = " or the ".join(self._config.rests_on)
        return f"the {self._role} rests on or against the {', '.join(sorted(strange))}, not on the {right} alone"

    @property
    def fault(self) -> str:
        """Describes the fault in its treatment; "" when there is none."""
        config = self._config
        if not self._fault and self._owed and self.lifted < config.lift:
            return f"the {self._role} was lost, and two fingers never held it {1e3 * config.lift:.0f} mm up again"
        return self._wrong

    @property
    def _wrong(self) -> str:
        """Describes a fault that can be forgiven and made good; "" when there is none."""
        config = self._config
        if self._fault:
            return self._fault
        if self._pushed > config.push:
            pushed, allowed = 1e3 * self._pushed, 1e3 * config.push
            return f"the {self._role} was pushed {pushed:.0f} mm over its support, or held by no two fingers, {allowed:.0f} allowed"
        if self.moved > config.push and self.lifted < config.lift:
            return f"the {self._role} was moved, but two fingers never held it {1e3 * config.lift:.0f} mm up"
        return ""
