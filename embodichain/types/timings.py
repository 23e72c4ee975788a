"""How the time of an episode is spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Timings:
    """Seconds spent in each part of the loop, summed over the episodes it was passed to."""

    physics_s: float = 0.0
    render_s: float = 0.0
    pilot_s: float = 0.0
    write_s: float = 0.0
    encode_s: float = 0.0
    """Encoding of frames before they are written; 0 where the learner encodes them."""
    blocked_s: float = 0.0
    """Waiting for a free slot, because the learner reads more slowly than workers produce."""
    physics_steps: int = 0
    frames: int = 0

    def add(self, other: Timings) -> None:
        """Adds another episode's seconds and counts."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
