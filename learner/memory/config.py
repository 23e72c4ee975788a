"""Settings of the memory layers; light, for command lines."""

from __future__ import annotations

from dataclasses import dataclass

from embodichain.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TttConfig:
    """The memory layer: `ratio` m / d, `base_rate` the largest inner step size, `gate` where alpha starts."""

    ratio: int = 4
    base_rate: float = 0.1
    gate: float = 0.1
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        if self.ratio < 1 or self.base_rate <= 0 or self.initial_std <= 0:
            raise ConfigError(f"TTT needs ratio >= 1, base_rate > 0 and initial_std > 0, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompute:
    """What the backward pass of training computes again instead of keeping it: less memory for about a third more work."""

    blocks: bool = False
    """Keep only the inputs of each transformer block. Changes no result."""
    scan_steps: int = 0
    """Keep only every how many-th state of a memory's scan over time; 0 keeps everything. Changes no result."""
    truncate: bool = False
    """Stop gradients of the memory where such a stretch of `scan_steps` begins: cheaper still, but another gradient."""

    def __post_init__(self) -> None:
        if self.scan_steps < 0 or (self.truncate and not self.scan_steps):
            raise ConfigError(f"recompute needs scan_steps >= 0, and more than 0 to truncate, got {self}")
