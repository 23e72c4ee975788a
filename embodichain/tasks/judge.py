"""The base of every grader: checks the robot's conduct, the treatment of each object, then the task's own goal."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embodichain.tasks.custody import Custody
from embodichain.types import ArmParts, Bounds, Contact, Scene, Verdict, WorldState

Floats = NDArray[np.float64]
_GROUND = ("table", "world")
"""Names of the table and the floor in contacts."""


class Conduct:
    """Watches the robot, whatever its task. The first breach of the scene's `Bounds` is kept, and is never forgiven."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._joints: Floats | None = None
        self._velocity: Floats | None = None
        self.fault = ""
        """Describes the first breach; "" when there is none."""

    def observe(self, state: WorldState) -> None:
        """Takes in the state after one control step."""
        if not self.fault:
            self.fault = self._motion(state) or self._contacts(state)

    def _motion(self, state: WorldState) -> str:
        """Describes a joint that moved too fast, by differences from one control step to the next."""
        joints = np.concatenate([np.empty(0), *(state.measured[arm.joints] for arm in state.arms)])
        before, velocity_before = self._joints, self._velocity
        self._joints = joints
        if before is None or not len(joints):
            return ""
        velocity = self._velocity = (joints - before) * state.control_hz
        bounds, speed = self._bounds, float(np.abs(velocity).max())
        if speed > bounds.joint_speed:
            return f"a joint moved at {speed:.2f} rad/s, {bounds.joint_speed:g} rad/s allowed"
        if velocity_before is None:
            return ""
        acceleration = float(np.abs(velocity - velocity_before).max()) * state.control_hz
        if acceleration > bounds.joint_acceleration:
            return f"a joint was accelerated at {acceleration:.0f} rad/s^2, {bounds.joint_acceleration:g} rad/s^2 allowed"
        return ""

    def _contacts(self, state: WorldState) -> str:
        """Describes what the robot pressed on too hard."""
        objects: dict[tuple[str, str], float] = {}
        for contact in state.contacts:
            first, second = contact.first.startswith("robot/"), contact.second.startswith("robot/")
            if first and second:
                if fault := self._within(state.arms, contact):
                    return fault
            elif first or second:
                body, other = (contact.first, contact.second) if first else (contact.second, contact.first)
                thing = other.partition("/")[0]
                objects[body, thing] = objects.get((body, thing), 0.0) + _hardest(contact)
        for (body, thing), force in objects.items():
            allowed = self._bounds.table_force if thing in _GROUND else self._grip(state.arms, body)
            if force > allowed:
                return f"{body.removeprefix('robot/')} pressed on the {thing} with {force:.0f} N, {allowed:.0f} N allowed"
        return ""

    def _within(self, arms: tuple[ArmParts, ...], contact: Contact) -> str:
        """Describes a forbidden contact between two parts of the robot."""
        first, second = (next((arm for arm in arms if body in arm.bodies), None) for body in (contact.first, contact.second))
        allowed = self._bounds.arms_force
        if first is not None and first is second:
            fingers = [first.fingers.get(body) for body in (contact.first, contact.second)]
            closed = None not in fingers and fingers[0] != fingers[1]  # a closed hand presses its fingers together
            allowed = self._grip(arms, contact.first) if closed else self._bounds.self_force
        force = _hardest(contact)
        if force <= allowed:
            return ""
        one, other = (body.removeprefix("robot/") for body in (contact.first, contact.second))
        return f"{one} pressed on {other} with {force:.0f} N, {allowed:.0f} N allowed"

    def _grip(self, arms: tuple[ArmParts, ...], body: str) -> float:
        """Largest force [N] that a part of the robot may exert on an object."""
        own = next((arm.grip_force for arm in arms if body in arm.bodies), 0.0)
        return self._bounds.grip_share * (own or self._bounds.grip_force)


def _hardest(contact: Contact) -> float:
    """Largest force of one physics step where it is known, else the mean of the period [N]."""
    return contact.peak or contact.force


class Judge(ABC):
    """The part that all graders share; implements `protocols.Grader`.

    An episode is a success when no object in `things` has a fault, the task's goal is reached (`_missing`), the robot stayed within
    the scene's bounds, and every object rests at the end on an allowed support. A task defines its goal, and may `_follow` the
    episode to know it.
    """

    done = "the goal is reached"
    """The reason given for a success."""

    def __init__(self, scene: Scene, things: Sequence[Custody] = ()) -> None:
        self._scene = scene
        self._things = tuple(things)
        self._conduct = Conduct(scene.bounds)
        self._state: WorldState | None = None

    def observe(self, state: WorldState) -> None:
        """Takes in the state after one control step."""
        self._conduct.observe(state)
        for thing in self._things:
            thing.observe(state)
        self._follow(state)
        self._state = state

    def pardon(self) -> None:
        """Ends a labelled failure: what led to it is forgiven, but must be made good.

        The robot's speeds and forces are not forgiven.
        """
        self._forgive(tuple(thing for thing in self._things if thing.pardon()))

    def verdict(self) -> Verdict:
        """The judgement of everything observed so far."""
        if self._state is None:
            return Verdict(success=False, reason="nothing was observed")
        faults = (thing.fault for thing in self._things)
        supports = (thing.misplaced for thing in self._things)
        for reason in (*faults, self._missing(self._state), self._conduct.fault, *supports):
            if reason:
                return Verdict(success=False, reason=reason, progress=self._progress(self._state))
        return Verdict(success=True, reason=self.done, progress=1.0)

    def _follow(self, state: WorldState) -> None:
        """Updates the task's own goal with a state, after the objects."""
        return

    def _forgive(self, things: tuple[Custody, ...]) -> None:
        """Forgives, for the task's own goal, what led to a labelled failure; `things` are the objects with something to forgive."""
        return

    @abstractmethod
    def _missing(self, state: WorldState) -> str:
        """Why the goal is not reached; "" when it is."""

    @abstractmethod
    def _progress(self, state: WorldState) -> float:
        """Progress of a failed episode, 0..1."""

    def _unrest(self, needed_s: float, what: str, verb: str = "lay") -> str:
        """Why the objects have not rested for `needed_s` [s]; "" when they have."""
        rest_s = min((thing.rest_s for thing in self._things), default=math.inf)
        if rest_s < needed_s:
            return f"{what} {verb} still and untouched for {rest_s:.2f} s only, {needed_s} s needed"
        return ""
