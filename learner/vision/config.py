"""Settings of the segmenter. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from embodichain.errors import ConfigError
from learner.records.schedules import warm_cosine

BUILTIN = "builtin"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterConfig:
    """Size and training of the segmenter: AdamW with `rate`, linear warm-up over `warmup_steps`, cosine decay to 0 at `steps`."""

    channels: int = 16
    """Channels of the first layer; other layers have twice as many."""
    steps: int = 4000
    rate: float = 4e-3
    warmup_steps: int = 50
    weight_decay: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.channels, self.steps, self.warmup_steps) < 1 or self.rate <= 0:
            raise ConfigError(f"a segmenter needs channels, steps and warmup_steps >= 1 and rate > 0, got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate at a step."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps)
