"""The watch: notices failures during an attempt, and their kind, from commands and states alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodichain.motion.clearance import Floats
from embodichain.motion.hand import Hand
from embodichain.types import Mishap, Scene, Vec3, WorldState

_CARRIED_STEPS, _LOST_STEPS = 3, 2
"""An object in the air between two fingers for `_CARRIED_STEPS` steps is carried; untouched for `_LOST_STEPS`, it is lost."""
_RELEASE = 0.003
"""A gripper that is commanded to open by more than this [m] releases on purpose."""
_LEFT_S, _STILL = 0.2, 0.02
"""An object counts as left at its place after it was untouched and slower than `_STILL` [m/s] for `_LEFT_S` [s]."""
_STRAY, _BELOW_TABLE = 0.025, -0.05
"""An object is out of bounds if it is farther than `_STRAY` [m] from where it was left, or lower than `_BELOW_TABLE` [m]."""
_LATE_S, _LATE = 0.4, 0.12
"""A joint is late if it differs by more than `_LATE` [rad] from all of its commands in the last `_LATE_S` [s]."""
_LATE_EVERY = 5
_TABLE_FORCE, _ARM_FORCE, _LED_FORCE = 40.0, 8.0, 1.5
"""Contact forces [N] that count as a collision: with the table, with another arm, and of a hand that should touch nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """A failure, its description, and the hand concerned (None if no hand is)."""

    mishap: Mishap
    words: str
    hand: Hand | None = None


@dataclass(slots=True, kw_only=True)
class Carrying:
    """An object held by a hand: number of control steps so far, opening of the hand [m], and initial position of the object [m]."""

    role: str
    hand: Hand
    opening: float
    start: Vec3
    steps: int = 0
    free_steps: int = 0


class Watch:
    """Checks every control step of one attempt."""

    def __init__(self, hands: Sequence[Hand], scene: Scene, state: WorldState) -> None:
        self._hands = tuple(hands)
        self._hand_of = {body: hand for hand in hands for body in hand.chain.bodies}
        loose = [placement.role for placement in scene.objects if not placement.asset.fixed_base]
        self._left_steps = round(_LEFT_S * state.control_hz)
        self._left: dict[str, tuple[Vec3, int]] = {role: (state.object_poses[role].position, self._left_steps) for role in loose}
        """Where each loose object was left [m], and the number of steps that it had been at rest there."""
        self._told: deque[Floats] = deque(maxlen=round(_LATE_S * state.control_hz))
        self._late = self._steps = 0
        self._grasps: dict[tuple[str, str], Carrying] = {}
        self._widest = {hand.name: 0.0 for hand in hands}
        self._closed_empty = False
        self.touched: frozenset[str] = frozenset()
        """Roles that a hand touched in the last control step."""
        self.led: Hand | None = None
        """A hand that should touch nothing."""

    @property
    def carrying(self) -> list[Carrying]:
        """The objects that hands hold in the air."""
        return [grasp for grasp in self._grasps.values() if grasp.steps >= _CARRIED_STEPS]

    def left(self, role: str) -> bool:
        """Whether a loose object has come to rest and has not been touched since."""
        return self._left.get(role, ((0.0, 0.0, 0.0), 0))[1] >= self._left_steps

    def observe(self, told: Floats, state: WorldState) -> Noticed | None:
        """Checks one command and the state after it; returns a failure, if any."""
        self._steps += 1
        self._told.append(told)
        struck: dict[str, tuple[Hand, float, str]] = {}
        pressing: dict[str, dict[str, set[str]]] = {}
        supported: set[str] = set()
        for contact in state.contacts:
            first, second = self._hand_of.get(contact.first), self._hand_of.get(contact.second)
            if first is None and second is None:
                supported |= {contact.first.partition("/")[0], contact.second.partition("/")[0]}
                continue
            hand = first or second
            assert hand is not None
            body, other = (contact.first, contact.second) if first is not None else (contact.second, contact.first)
            if first is not None and second is not None:
                if first is not second and contact.force > _ARM_FORCE:
                    return Noticed(mishap=Mishap.COLLISION, words="the arms ran into each other", hand=hand)
                continue
            role = other.partition("/")[0]
            if role in self._left:
                pressing.setdefault(role, {}).setdefault(hand.name, set()).add(body)
            _, force, _ = struck.get(hand.name, (hand, 0.0, ""))
            if other == "table" or hand is self.led:
                struck[hand.name] = (hand, force + contact.force, role)
        self.touched = frozenset(pressing)
        for hand, force, what in struck.values():
            if force > (_LED_FORCE if hand is self.led else _TABLE_FORCE):
                return Noticed(mishap=Mishap.COLLISION, words=f"the {hand.name} hand ran into the {what}", hand=hand)
        return self._slip(told, state, pressing, supported) or self._stray(state, pressing) or self._tardy(state)

    def why(self) -> Mishap:
        """The kind of failure of an attempt that reported failure itself, as far as it was observed."""
        if any(grasp.free_steps for grasp in self.carrying):
            return Mishap.SLIP
        return Mishap.MISALIGNED if self._closed_empty else Mishap.MISPLACED

    def _slip(
        self, told: Floats, state: WorldState, pressing: dict[str, dict[str, set[str]]], supported: set[str]
    ) -> Noticed | None:
        """Tracks the objects that hands hold, and notices when one is lost."""
        for hand in self._hands:
            opening = hand.opening_in(told)
            self._widest[hand.name] = max(self._widest[hand.name], opening)
            if opening <= 0.001 and self._widest[hand.name] > 0.02:
                self._closed_empty = True
        for role, hands in pressing.items():
            for hand in self._hands:
                if len(hands.get(hand.name, ())) < 2 or role in supported:
                    continue
                found = self._grasps.get((role, hand.name))
                if found is None:
                    position = state.object_poses[role].position
                    found = Carrying(role=role, hand=hand, opening=hand.opening_in(told), start=position)
                    self._grasps[role, hand.name] = found
                found.steps += 1
                found.opening = min(found.opening, hand.opening_in(told))
        for key, grasp in tuple(self._grasps.items()):
            if grasp.hand.opening_in(told) > grasp.opening + _RELEASE:
                del self._grasps[key]
                continue
            grasp.free_steps = 0 if grasp.role in pressing else grasp.free_steps + 1
            if grasp.free_steps >= _LOST_STEPS:
                if grasp.steps >= _CARRIED_STEPS:
                    return Noticed(mishap=Mishap.SLIP, words=f"the {grasp.role} slipped out of the fingers", hand=grasp.hand)
                del self._grasps[key]
        return None

    def _stray(self, state: WorldState, pressing: dict[str, dict[str, set[str]]]) -> Noticed | None:
        """Notices an object that moves without being touched by a hand."""
        for role, (where, steps) in self._left.items():
            position = state.object_poses[role].position
            if role in pressing:
                self._left[role] = (position, 0)
            elif steps < self._left_steps:
                speed = float(np.linalg.norm(state.object_velocities[role][:3]))
                self._left[role] = (position, steps + 1 if speed < _STILL else 0)
            elif math.dist(where[:2], position[:2]) > _STRAY or position[2] < _BELOW_TABLE:
                words = f"the {role} lies {1e3 * math.dist(where, position):.0f} mm from where it was left"
                return Noticed(mishap=Mishap.OUT_OF_BOUNDS, words=words)
        return None

    def _tardy(self, state: WorldState) -> Noticed | None:
        """Notices an arm that has been far from its commands for some time."""
        if self._steps % _LATE_EVERY or len(self._told) < (self._told.maxlen or 0):
            return None
        worst = 0.0
        for hand in self._hands:
            gaps = np.abs(np.stack([hand.joints_in(told) for told in self._told]) - hand.joints_in(state.measured))
            late = float(gaps.max(axis=1).min())
            if late > max(_LATE, worst):
                worst, slow = late, hand
        if not worst:
            self._late = 0
            return None
        self._late += 1
        if self._late < 2:
            return None
        return Noticed(mishap=Mishap.TIME_OUT, words=f"the {slow.name} arm is {worst:.2f} rad behind for over 0.4 s", hand=slow)
