"""How a policy is judged; light, for command lines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embodichain.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How the policy is judged."""

    episodes: int = 4
    """Held-out scenes for each task; every pilot meets the same ones."""
    measured: int = 24
    """Held-out expert episodes on which a run with `train.measure_every` measures its loss as it goes; the same in every run of a
    world."""
    random_step: float = 0.15
    """Standard deviation of the random pilot's joint targets around the current joints [rad]."""

    def __post_init__(self) -> None:
        if self.episodes < 0:
            raise ConfigError(f"episodes must be 0 or more, got {self.episodes}")
        if self.measured < 1:
            raise ConfigError(f"measured must be at least 1, got {self.measured}")


class Shift(StrEnum):
    """What sets a held-out set apart from the training's world."""

    NONE = "in distribution"
    INSTANCES = "instances"
    LOOKS = "looks"
    PHYSICS = "physics"
    PLACEMENT = "placement"
    WORDS = "words"
    ALL = "all at once"


PILOTS = ("policy", "do nothing", "random", "expert")

SHIFTS = {
    "instances": (Shift.INSTANCES,),
    "looks": (Shift.LOOKS,),
    "physics": (Shift.PHYSICS,),
    "placement": (Shift.PLACEMENT,),
    "words": (Shift.WORDS,),
    "all": (Shift.INSTANCES, Shift.LOOKS, Shift.PHYSICS, Shift.PLACEMENT, Shift.WORDS, Shift.ALL),
}

MEASURES = ("loss", "loss_video", "loss_action", "failure")
"""What may fall with the experience of a run's iterations."""
