"""Joint noise levels of video and actions: the pairs drawn in training, and those along the sampler's path.

This file uses the paper's noise levels, sigma = 1 - s; everywhere else flow times s are used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learner.models.x_wam.config import NoiseRule, XwamConfig

_BETA = 1.5
"""First parameter of Beta(1.5, 1), the distribution of the video's noise in excess of the actions'."""


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Shifted noise levels k sigma / (1 + (k - 1) sigma); monotonic, and fixed at 0 and 1."""
    return shift * sigma / (1.0 + (shift - 1.0) * sigma)


def draw_levels(config: XwamConfig, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draws noise levels of video and actions, and which samples train actions, each [B]."""
    first, second, coin = torch.rand((3, batch), generator=generator, dtype=torch.float64)
    taught = torch.ones(batch, dtype=torch.bool)
    match config.rule:
        case NoiseRule.ANS:
            taught = coin < 0.5
            above = first + (1.0 - first) * second ** (1.0 / _BETA)  # samples Beta(a, 1) by inverting its CDF x^a
            video, action = torch.where(taught, above, first), torch.where(taught, first, 0.0)
        case NoiseRule.SYNCHRONOUS:
            video, action = first, first
        case NoiseRule.DECOUPLED:
            video, action = first, second
    return shifted(video, config.shift), shifted(action, config.shift), taught


def paths(config: XwamConfig) -> tuple[Tensor, Tensor]:
    """Noise levels of video and of actions at each point of the sampler, float64 [video_steps + 1] each.

    Both decrease together step by step; actions reach 0 after `action_steps`.
    """
    index = torch.arange(config.video_steps + 1, dtype=torch.float64)
    video = 1.0 - index / config.video_steps
    action = (1.0 - index / config.action_steps).clamp_min(0.0)
    return shifted(video, config.shift), shifted(action, config.shift)
