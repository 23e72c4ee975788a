"""Settings of the memory layers. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from embodichain.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TttConfig:
    """The memory layer: `ratio` is hidden width / head width, `base_rate` the largest inner step size, `gate` the initial alpha."""

    ratio: int = 4
    base_rate: float = 0.1
    gate: float = 0.1
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        if self.ratio < 1 or self.base_rate <= 0 or self.initial_std <= 0:
            raise ConfigError(f"TTT needs ratio >= 1, base_rate > 0 and initial_std > 0, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompute:
    """Activation checkpointing: what the backward pass recomputes instead of storing. Saves memory for about a third more work."""

    blocks: bool = False
    """Store only the inputs of each transformer block. Results do not change."""
    scan_steps: int = 0
    """In a memory's scan over time, store only every `scan_steps`-th state; 0 stores all. Results do not change."""
    truncate: bool = False
    """Stop gradients through the memory at the start of each stretch of `scan_steps`: cheaper still, but the gradient differs."""

    def __post_init__(self) -> None:
        if self.scan_steps < 0 or (self.truncate and not self.scan_steps):
            raise ConfigError(f"recompute needs scan_steps >= 0, and more than 0 to truncate, got {self}")
