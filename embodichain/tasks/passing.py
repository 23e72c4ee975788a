"""Passing: judges step by step whether an object went from one hand to the other in the air. Several graders use it."""

from __future__ import annotations

from embodichain.motion.frames import world_from_asset
from embodichain.motion.outlines import bottom_of
from embodichain.tasks.holding import holders, resting_on, touching_arms
from embodichain.types import Scene, WorldState


class Passing:
    """Follows one object, which must be held up by the giver alone, by both, then by the receiver alone, and never rest in between.

    A hand holds an object when it has it between its fingers and only hands touch it. Any other support between the first and the
    last stage resets the sequence. After that the giver must not touch the object: the receiver is to set it down.
    """

    LIFT = 0.05
    """Least height of its lowest point above the table while both hold it [m]."""
    HOLD_S = 0.06
    """How long each of the three stages must last, all its moments together [s]: contacts come and go between two steps."""

    def __init__(self, scene: Scene, role: str, giver: str, receiver: str) -> None:
        self._asset, self._role = scene.object(role).asset, role
        self._giver, self._receiver = giver, receiver
        self._steps = [0, 0, 0]
        self._again = False
        """Whether the giver touched it again after the receiver held it alone."""
        self.stage = 0
        """The stage reached: 1 held up by the giver, 2 by both, 3 by the receiver alone."""

    def observe(self, state: WorldState) -> None:
        """Takes in the state after one control step."""
        if self.stage == 3:
            self._again |= self._giver in touching_arms(state, self._role)
            return
        if resting_on(state, self._role):
            self.stage, self._steps = 0, [0, 0, 0]
            return
        touching, holding = touching_arms(state, self._role), holders(state, self._role)
        high = bottom_of(self._asset, world_from_asset(self._asset, state.object_poses[self._role])) >= self.LIFT
        reached = (
            self._giver in holding and self._receiver not in touching,
            self._giver in holding and self._receiver in holding and high,
            self._receiver in holding and self._giver not in touching,
        )
        for stage, now in enumerate(reached):
            if now and self.stage >= stage:
                self._steps[stage] += 1
                if self._steps[stage] >= round(self.HOLD_S * state.control_hz):
                    self.stage = max(self.stage, stage + 1)

    def restart(self) -> None:
        """Resets the sequence."""
        self.stage, self._steps, self._again = 0, [0, 0, 0], False

    @property
    def missing(self) -> str:
        """Describes what has not happened yet, or should not have; "" when the object was handed over."""
        if self._again:
            return f"the {self._giver} hand took the {self._role} again that it had handed over"
        return (
            f"the {self._giver} hand never held the {self._role} up by itself",
            f"the two hands never held the {self._role} up together",
            f"the {self._receiver} hand never held the {self._role} up by itself after both had",
            "",
        )[self.stage]
