"""Provocations: make an attempt fail by changed commands or external forces.

The state is never modified directly: a gripper opens for a moment, an object is pushed aside, an arm stops, a hand is moved down
onto something. Physics does the rest, and the attempt is not informed. Forces that commands do not contain are recorded in
`Step.pushes`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.hand import Hand, moved
from embodichain.motion.outlines import Outline, gap, outlines, room_for_fingers
from embodichain.motion.plan import cartesian_path
from embodichain.motion.skills import Skill, follow
from embodichain.recovery.config import ProvocationConfig, graspable
from embodichain.recovery.watch import Watch
from embodichain.types import Mishap, Pose, Push, Range, Scene, Step, Vec3, WorldState
from embodichain.types.poses import turned

_GRAVITY = 9.81
_ACCELERATION = 3.0
"""Acceleration of a pushed object [m/s^2]; friction stops it again."""
_KNOCK_STEPS = 15
_AREA: tuple[Range, Range] = ((-0.14, 0.14), (-0.19, 0.19))
"""Area in which a pushed object may come to rest [m], within reach of the arms."""
_APART = 0.02
"""Smallest distance from other objects at which it may come to rest [m]."""
_DIRECTIONS = 12
_LED_SLOWLY = 0.02
"""Height above an obstacle at which a hand that is moved into it slows down [m]."""
_LED_ASIDE = (0.0, 0.05, 0.09)
_LED_HEIGHT = 0.01
"""Smallest height [m] of the fast part of that motion."""
_ROOM = 0.006


@dataclass(slots=True, kw_only=True)
class Provocation:
    """One provocation in one episode: it waits for its moment and acts once."""

    mishap: Mishap
    hands: Sequence[Hand]
    scene: Scene
    rng: np.random.Generator
    config: ProvocationConfig = field(default_factory=ProvocationConfig)
    fired: bool = False
    """Whether it has acted."""
    _steps: int = 0
    _left: int = 0
    _draw: float = -1.0
    _push: Push | None = None
    _from: Vec3 = (0.0, 0.0, 0.0)
    _sent: list[Floats] = field(default_factory=list)
    _gripper: tuple[Hand, float] | None = None

    @property
    def drawn(self) -> float:
        """The relative position, 0..1, of this episode's parameters in their ranges."""
        if self._draw < 0.0:
            self._draw = float(self.rng.random())
        return self._draw

    def disturb(self, step: Step, state: WorldState, watch: Watch) -> Step:
        """The step to send instead of `step`."""
        self._steps += 1
        if self.mishap is Mishap.SLIP:
            return self._give_way(step, state, watch)
        if self.mishap is Mishap.OUT_OF_BOUNDS:
            return self._knock(step, state, watch)
        if self.mishap is Mishap.TIME_OUT:
            return self._stall(step, watch)
        return step

    def lead(self, state: WorldState, watch: Watch, velocity: Floats) -> tuple[Hand, Skill] | None:
        """The hand to move into a collision from now on, and its motion; None before its time or for other kinds.

        `velocity` is the difference of the last two commands [rad/step].
        """
        if self.mishap is not Mishap.COLLISION or self.fired or watch.carrying or watch.touched:
            return None
        near = self._nearest(state, watch, also_bolted=True)
        if near is None:
            return None
        hand, role, distance = near
        if distance > _between(self.config.near, self.drawn):
            return None
        if any(other is not hand and np.any(other.joints_in(velocity)) for other in self.hands):
            return None
        halt = np.concatenate([hand.joints[None], hand.stop(hand.joints_in(velocity))])
        speed, limits = _between(self.config.led_speed, float(self.rng.random())), hand.config.limits
        for goal, top in self._collisions(hand, role, state):
            x, y, z = goal.position
            above = Pose(position=(x, y, max(top, z) + _LED_SLOWLY), quaternion=goal.quaternion)
            try:
                there = cartesian_path(hand.chain, halt[-1], above, limits=limits)
                down = cartesian_path(hand.chain, there[-1], goal, speed=speed, limits=limits)
            except MotionError:
                continue
            self.fired = True
            return hand, follow(hand, state, np.concatenate([halt[1:], there, down]))
        return None

    # ------------------------------------------------------------------------------------------------------------ slip

    def _give_way(self, step: Step, state: WorldState, watch: Watch) -> Step:
        """Opens the gripper for a moment during the lift."""
        if self._gripper is None:
            if len(watch.carrying) != 1:
                return step
            grasp = watch.carrying[0]
            if state.object_poses[grasp.role].position[2] - grasp.start[2] < _between(self.config.slip_rise, self.drawn):
                return step
            wide = grasp.hand.measured_opening(state) + float(self.rng.uniform(*self.config.slip_gap))
            self._gripper = grasp.hand, min(wide, grasp.hand.open)
            self._left = round(float(self.rng.uniform(*self.config.slip_s)) * state.control_hz)
            self.fired = True
        if self._left <= 0:
            return step
        self._left -= 1
        hand, opening = self._gripper
        return replace(step, command=hand.opened(step.command, max(opening, hand.opening_in(step.command))))

    # --------------------------------------------------------------------------------------------------- out of bounds

    def _knock(self, step: Step, state: WorldState, watch: Watch) -> Step:
        """Pushes the object that a hand approaches aside."""
        if self._push is None:
            near = None if self.fired or watch.carrying else self._nearest(state, watch)
            if near is None or near[2] > _between(self.config.near, self.drawn):
                return step
            self._push = self._shove(near[1], state)
            if self._push is None:
                return step
            self.fired, self._left = True, _KNOCK_STEPS
            self._from = state.object_poses[near[1]].position
        if self._left <= 0:
            return step
        gone = math.dist(state.object_poses[self._push.body].position, self._from)
        self._left = self._left - 1 if gone < 0.5 * _between(self.config.knock, self.drawn) else 0
        return replace(step, pushes=(*step.pushes, self._push)) if self._left > 0 else step

    def _shove(self, role: str, state: WorldState) -> Push | None:
        """A force that moves the object to a free reachable place; None if there is none."""
        present = outlines(self.scene, state)
        here, others = present[role], [outline for other, outline in present.items() if other != role]
        x, y, _ = state.object_poses[role].position
        distance, first = _between(self.config.knock, self.drawn), float(self.rng.uniform(0.0, 2 * math.pi))
        asset = self.scene.object(role).asset
        mass = sum(body.mass for body in asset.bodies)
        friction = max(body.material.dynamic_friction for body in asset.bodies)
        for number in range(_DIRECTIONS):
            heading = first + 2 * math.pi * number / _DIRECTIONS
            along = (distance * math.cos(heading), distance * math.sin(heading))
            there = Outline(vertices=here.vertices + along, bottom=here.bottom, top=here.top)
            halfway = Outline(vertices=here.vertices + 0.5 * np.array(along), bottom=here.bottom, top=here.top)
            within = all(low <= value <= high for value, (low, high) in zip((x + along[0], y + along[1]), _AREA, strict=True))
            if not within or any(gap(place, other) < _APART for place in (there, halfway) for other in others):
                continue
            force = mass * (friction * _GRAVITY + _ACCELERATION)
            return Push(body=role, force=(round(force * math.cos(heading), 4), round(force * math.sin(heading), 4), 0.0))
        return None

    # -------------------------------------------------------------------------------------------------------- time-out

    def _stall(self, step: Step, watch: Watch) -> Step:
        """Stops the arms, whatever the commands are."""
        if not self.fired:
            self._sent = [*self._sent[-1:], step.command.copy()]
            moving = len(self._sent) == 2 and not np.allclose(self._sent[0], self._sent[1], atol=1e-4)
            if not moving or watch.carrying or watch.touched:
                return step
            self.fired = self._steps >= _between(self.config.stall_after, self.drawn) * self.hands[0].control_hz
            if not self.fired:
                return step
            velocity = self._sent[1] - self._sent[0]
            fastest = float(np.max(np.abs(velocity))) * self.hands[0].control_hz ** 2
            steps = max(1, math.ceil(fastest / self.hands[0].config.limits.joint_acceleration))
            fractions = np.cumsum(1.0 - np.arange(1, steps) / steps)
            self._sent = [self._sent[1] + fraction * velocity for fraction in (0.0, *fractions)]
            return step
        if len(self._sent) > 1:
            self._sent.pop(0)
        return replace(step, command=self._sent[0].copy())

    # ------------------------------------------------------------------------------------------------------- collision

    def _collisions(self, hand: Hand, role: str, state: WorldState) -> list[tuple[Pose, float]]:
        """Target poses of the tip below the table top, beside objects or with a finger above one, and the height there [m]."""
        tip, size = hand.measured_pose(state), hand.fingers
        x, y, z = tip.position
        present = outlines(self.scene, state)
        beside = []
        for aside, number in [(_LED_ASIDE[0], 0), *itertools.product(_LED_ASIDE[1:], range(8))]:
            heading = 2 * math.pi * number / 8
            there = Pose(position=(x + aside * math.cos(heading), y + aside * math.sin(heading), 0.0), quaternion=tip.quaternion)
            if room_for_fingers(moved(there, (0.0, 0.0, size.below)), hand.opening, size, present.values()) > _ROOM:
                beside.append((there, size.below))
        x, y, _ = state.object_poses[role].position
        across = turned(tip.quaternion, (0.0, hand.opening / 2 + size.thickness / 2, 0.0))
        onto = Pose(position=(x + across[0], y + across[1], 0.0), quaternion=tip.quaternion), present[role].top + size.below
        beside = beside[:4]
        goals = [onto, *beside] if self.rng.random() < 0.5 else [*beside, onto]
        if self.scene.object(role).asset.fixed_base:  # pressing on a fixed object would exceed any safe force
            goals = beside
        return [(goal, top) for goal, top in goals if z - top > _LED_HEIGHT + _LED_SLOWLY]

    def _nearest(self, state: WorldState, watch: Watch, *, also_bolted: bool = False) -> tuple[Hand, str, float] | None:
        """The hand away from home and the graspable object that are closest seen from above, and their distance [m]."""
        found: tuple[Hand, str, float] | None = None
        for hand in self.hands:
            if hand.at_home:
                continue
            x, y, _ = hand.measured_pose(state).position
            for placement in self.scene.objects:
                role = placement.role
                if not (watch.left(role) and graspable(placement.asset)) and not (also_bolted and placement.asset.fixed_base):
                    continue
                distance = math.dist((x, y), state.object_poses[role].position[:2])
                if found is None or distance < found[2]:
                    found = hand, role, distance
        return found


def _between(limits: Range, share: float) -> float:
    return limits[0] + share * (limits[1] - limits[0])
