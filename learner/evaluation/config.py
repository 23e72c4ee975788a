"""How a policy is evaluated. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embodichain.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How often the policy is evaluated, and the baseline beside it."""

    episodes: int = 4
    """Held-out scenes for each task; every pilot plays the same ones."""
    measured: int = 24
    """Held-out expert episodes on which a run with `train.measure_every` measures its loss during training. All runs with the same
    world configuration use the same episodes."""
    random_step: float = 0.15
    """Standard deviation of the random pilot's joint targets around the current joints [rad]."""

    def __post_init__(self) -> None:
        if self.episodes < 0:
            raise ConfigError(f"episodes must be 0 or more, got {self.episodes}")
        if self.measured < 1:
            raise ConfigError(f"measured must be at least 1, got {self.measured}")


class Shift(StrEnum):
    """How a held-out set differs from the training distribution."""

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
"""Measures that the Efficiency Law can be fitted to: each should fall as the experience throughput E grows."""
