"""Passing: whether an object went from one hand to the other in the air, judged step by step; a part that graders share."""

from __future__ import annotations

from embodichain.motion.frames import world_from_asset
from embodichain.motion.outlines import bottom_of
from embodichain.types import Scene, WorldState


class Passing:
    """Follows one object: held up by the giver alone, by both at once, by the receiver alone, never resting between.

    A hand holds an object when at least two of its bodies press on it and nothing but hands touches it. Whatever supports the
    object between the first and the last of these sends it back to the beginning.
    """

    LIFT = 0.05
    """How high above the table its lowest point must be while both hold it [m]."""
    HOLD_S = 0.06
    """How long each of the three must last [s]."""

    def __init__(self, scene: Scene, role: str, giver: str, receiver: str) -> None:
        self._asset, self._role = scene.object(role).asset, role
        self._giver, self._receiver = giver, receiver
        self._steps = [0, 0, 0]
        self.stage = 0
        """How far it came: 1 held up by the giver, 2 by both, 3 by the receiver alone."""

    def observe(self, state: WorldState) -> None:
        """Takes in the state after one control step."""
        pressing: dict[str, set[str]] = {}
        supported = False
        name = f"{self._role}/"
        for contact in state.contacts:
            for body, other in ((contact.first, contact.second), (contact.second, contact.first)):
                if not body.startswith(name) or contact.force <= 0.0:
                    continue
                if other.startswith("robot/"):
                    pressing.setdefault(other.split("/")[1], set()).add(other)
                else:
                    supported = True
        by_giver, by_receiver = (len(pressing.get(arm, ())) >= 2 for arm in (self._giver, self._receiver))
        if supported:
            if self.stage < 3:
                self.stage, self._steps = 0, [0, 0, 0]
            return
        high = bottom_of(self._asset, world_from_asset(self._asset, state.object_poses[self._role])) >= self.LIFT
        reached = (
            by_giver and self._receiver not in pressing,
            by_giver and by_receiver and high,
            by_receiver and self._giver not in pressing,
        )
        for stage, now in enumerate(reached):
            if now and self.stage >= stage:
                self._steps[stage] += 1
                if self._steps[stage] >= round(self.HOLD_S * state.control_hz):
                    self.stage = max(self.stage, stage + 1)

    def restart(self) -> None:
        """Whatever happened so far counts no more."""
        self.stage, self._steps = 0, [0, 0, 0]

    @property
    def missing(self) -> str:
        """What has not happened yet; "" when the object was passed on."""
        return (
            f"the {self._giver} hand never held the {self._role} up by itself",
            f"the two hands never held the {self._role} up together",
            f"the {self._receiver} hand never held the {self._role} up by itself after both had",
            "",
        )[self.stage]
