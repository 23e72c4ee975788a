"""How a policy thinks ahead; light, for command lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodichain.errors import ConfigError

OFF = "off"
"""The word for no speculation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaiConfig:
    """How far to speculate, and what to do with observations that come early, late or never."""

    variant: str = "video+action"
    """What is begun ahead of an observation: one of the names in the model's `modes`."""
    s_mid: float = 0.5
    """Where Phase 2 takes over, on the unshifted grid: a share of the sampling steps, rounded to whole ones for each stage."""
    patience_s: float = math.inf
    """How long an early observation waits for Phase 1 [s]; then it takes over what Phase 1 has. Infinite: results do not depend on
    timing."""
    expires_s: float = math.inf
    """A speculation older than this when its observation comes is dropped [s]: the world has moved on from what was predicted."""
    max_lost: int = 1
    """How many observations in a row may be lost, their chunks made from predictions alone."""
    delay: int = 4
    """Commands that the last decision still gives after an observation while the next is made, for modes that decide late."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.s_mid <= 1.0:
            raise ConfigError(f"s_mid must be in 0..1, got {self.s_mid}")
        if self.delay < 0:
            raise ConfigError(f"delay is a number of commands of a chunk, 0 or more, got {self.delay}")
        if self.patience_s < 0 or self.expires_s < 0 or self.max_lost < 0:
            raise ConfigError(f"patience_s, expires_s and max_lost must be 0 or more, got {self}")
