"""How a policy speculates. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodichain.errors import ConfigError

OFF = "off"
"""The command-line value for no speculation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaiConfig:
    """Settings of speculative asynchronous inference (SAI), and of observations that come early, late or never."""

    variant: str = "video+action"
    """What is computed before an observation arrives: one of the model's `modes`."""
    s_mid: float = 0.5
    """Share of the sampling steps made in Phase 1, on the unshifted time grid, rounded to whole steps for each stage."""
    patience_s: float = math.inf
    """How long an early observation waits for Phase 1 [s] before it continues from what is done. With infinity, results do not
    depend on timing."""
    expires_s: float = math.inf
    """Age [s] from which a speculation is discarded when its observation arrives, as the prediction no longer fits the world."""
    max_lost: int = 1
    """How many observations in a row may be lost and bridged by predictions."""
    delay: int = 4
    """Control steps for which the previous decision continues after an observation, in the modes of real-time chunking."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.s_mid <= 1.0:
            raise ConfigError(f"s_mid must be in 0..1, got {self.s_mid}")
        if self.delay < 0:
            raise ConfigError(f"delay is a number of commands of a chunk, 0 or more, got {self.delay}")
        if self.patience_s < 0 or self.expires_s < 0 or self.max_lost < 0:
            raise ConfigError(f"patience_s, expires_s and max_lost must be 0 or more, got {self}")
