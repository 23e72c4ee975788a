"""Holding: which hands touch an object, which hold it between their fingers, and what it rests on, computed from contacts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from embodichain.types import ArmParts, Contact, WorldState

OPPOSED = -0.7
"""Largest cosine of the angle between the forces of two fingers on an object for which they hold it between them: 135 degrees.

Experts stay below -0.92 on tapered bowls and below -0.99 on boxes. Fingers that carry something on top of them have 1.
"""


def touches(state: WorldState, role: str) -> Iterator[tuple[str, Contact]]:
    """For everything that touches the object under `role`: the other body, and the contact."""
    name = f"{role}/"
    for contact in state.contacts:
        if contact.second.startswith(name):
            yield contact.first, contact
        elif contact.first.startswith(name):
            yield contact.second, contact


def touching_arms(state: WorldState, role: str) -> frozenset[str]:
    """Names of the arms of which any part presses on an object."""
    bodies = {body for body, contact in touches(state, role) if contact.force > 0.0}
    return frozenset(arm.name for arm in state.arms if not bodies.isdisjoint(arm.bodies))


def holders(state: WorldState, role: str) -> frozenset[str]:
    """Names of the arms that hold an object between their fingers: two fingers of one hand press on it from opposite sides."""
    pushes: dict[str, NDArray[np.float64]] = {}
    for body, contact in touches(state, role):
        if body.startswith("robot/"):
            push = np.array(contact.push)
            pushes[body] = pushes.get(body, 0.0) + (push if body == contact.first else -push)
    return frozenset(arm.name for arm in state.arms if pushes and _between(arm, pushes))


def _between(arm: ArmParts, pushes: Mapping[str, NDArray[np.float64]]) -> bool:
    fingers: dict[int, NDArray[np.float64]] = {}
    for body, push in pushes.items():
        if (number := arm.fingers.get(body)) is not None:
            fingers[number] = fingers.get(number, 0.0) + push
    forces = list(fingers.values())
    for index, one in enumerate(forces):
        for other in forces[index + 1 :]:
            size = float(np.linalg.norm(one) * np.linalg.norm(other))
            if size > 0.0 and float(one @ other) <= OPPOSED * size:
                return True
    return False


def resting_on(state: WorldState, role: str) -> frozenset[str]:
    """What touches an object besides the robot: "table", "world" for the floor, "grains", and the roles of other objects."""
    found = {body.partition("/")[0] for body, contact in touches(state, role) if contact.force > 0.0}
    return frozenset(found - {"robot", role})
