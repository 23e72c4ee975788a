"""Custody: what may become of an object that is to be carried, judged over the whole episode; a part that graders share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodichain.motion.frames import world_from_asset
from embodichain.tasks.holding import holders, resting_on, touches
from embodichain.types import CONTROL_HZ, Scene, Vec3, WorldState
from embodichain.types.poses import turned


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyConfig:
    """What an object may do. Lengths in m, speeds in m/s.

    `lift`: how high two fingers of one hand must have held it between them above where it lay, when it was moved at all. Without a
    finger on it: `fall`, how far it may sink; `slide`, how far it may move across; `free_speed`, how fast. `push`: how far it may
    be shoved along its support, or carried by anything but two such fingers, in all. `still`: slower than this is at
    rest. How hard the robot may press on it is the same for all objects: see `Bounds`.
    """

    lift: float = 0.02
    fall: float = 0.008
    slide: float = 0.015
    free_speed: float = 0.35
    push: float = 0.03
    still: float = 0.02
    support: str = ""
    """Prefix of what it may not be shoved along; whatever it rests on when empty."""
    rests_on: tuple[str, ...] = ()
    """What alone it may touch in the end, once it was moved: "table", roles of other objects, "grains"; anything when empty."""


_TOUCH_WINDOW = 2
"""Contacts are seen once a control step: a touch counts for this many steps."""
_HELD_STEPS = 3
"""A hold that flickers counts for so many control steps."""


class Custody:
    """Watches one object: every drop, throw, shove and squeeze leaves a fault that no later event takes away."""

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
        """Whether it still flies or slides after a labelled failure: nothing that it does until it rests or is held counts."""
        self.touched = False
        """Whether the robot ever touched it."""
        self.lifted = 0.0
        """How high two fingers held it above where it lay [m]."""
        self.moved = 0.0
        """How far it ever was from where it lay, seen from above [m]."""
        self.tilt = 0.0
        """Angle [rad] of its Z axis from the vertical now."""

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
        """What was observed so far ends in a labelled failure: if the object has a fault or is loose, that counts no more.

        When a hand had touched it before, it must then be picked up again.
        Returns whether there was anything to forgive.
        """
        loose = self._since_touch > 0 and self._rest_steps == 0
        if not (loose or self._wrong):
            return False
        self._owed |= self.touched
        self._forget(self._previous)
        self.excused = loose
        return True

    def _forget(self, position: Vec3) -> None:
        """Begins anew with the object at `position` [m]."""
        self._fault, self._pushed, self._was_supported = "", 0.0, False
        self._start = self._previous = self._last_touched = position
        self.lifted = self.moved = 0.0

    def _judge_freedom(self, position: Vec3, speed: float) -> None:
        """Remembers the first fault of an object that no finger touches."""
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
        """For how long it has been lying still and untouched [s]."""
        return self._rest_steps / self._control_hz

    @property
    def misplaced(self) -> str:
        """What it rests on and may not; "" when there is nothing, or it was never moved."""
        strange = self._rests_on - set(self._config.rests_on) if self._config.rests_on else ()
        if not strange or self.moved < self._config.slide:
            return ""
        right = " or the ".join(self._config.rests_on)
        return f"the {self._role} rests on or against the {', '.join(sorted(strange))}, not on the {right} alone"

    @property
    def fault(self) -> str:
        """What happened to it that must not; "" when nothing did."""
        config = self._config
        if not self._fault and self._owed and self.lifted < config.lift:
            return f"the {self._role} was lost, and two fingers never held it {1e3 * config.lift:.0f} mm up again"
        return self._wrong

    @property
    def _wrong(self) -> str:
        """What happened to it that must not and can be made good; "" when nothing did."""
        config = self._config
        if self._fault:
            return self._fault
        if self._pushed > config.push:
            pushed, allowed = 1e3 * self._pushed, 1e3 * config.push
            return f"the {self._role} was pushed {pushed:.0f} mm over its support, or held by no two fingers, {allowed:.0f} allowed"
        if self.moved > config.push and self.lifted < config.lift:
            return f"the {self._role} was moved, but two fingers never held it {1e3 * config.lift:.0f} mm up"
        return ""
