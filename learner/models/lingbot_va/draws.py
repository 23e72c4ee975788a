"""The random part of a training step of LingBot-VA, and the weighting of errors over flow time.

Shapes: B batch, T steps, N latents a frame, C latent channels, A action channels, K actions a chunk.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from learner.backbone.flow import shift_time
from learner.models.lingbot_va.config import LingbotConfig, Weighting
from learner.models.window import Window


class Draws(NamedTuple):
    """Noise and flow times: of frames 1 to T, of actions, and of the history, frames 0 to T."""

    size: int
    """K, frames in a chunk."""
    window: int
    """W, how far back a query attends, in half chunks."""
    video_noise_BTNC: Tensor
    video_time_BT: Tensor
    action_noise_BTKA: Tensor
    action_time_BT: Tensor
    history_noise_BTNC: Tensor
    history_time_BT: Tensor
    """Clean share of each frame, [B, T + 1]; 1 for frames without noise."""
    forward_noise_BTNC: Tensor | None = None
    """None if this batch does not train forward dynamics."""
    forward_time_BT: Tensor | None = None
    proprio_noise_BTA: Tensor | None = None
    silent_B: Tensor | None = None
    """bool [B]: sequences that train without their instruction."""


def draw(config: LingbotConfig, window: Window, generator: torch.Generator) -> Draws:
    """Draws noise and flow times of one training step; K and W are drawn once for the whole batch."""
    latents, actions = window.latents_BTNC, window.actions_BTKA
    steps, frames = actions.shape[:2], latents.shape[:2]

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float32).to(latents)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    size, span = whole(1, config.most_frames), whole(config.span_low, config.span_high)
    forward = bool(uniform() < config.forward_share)
    noisy = uniform(frames[0], 1) < config.history_noise_prob
    share = config.history_noise_low + (1.0 - config.history_noise_low) * uniform(*frames)
    return Draws(
        size=size,
        window=span,
        video_noise_BTNC=normal(latents[:, 1:]),
        video_time_BT=shift_time(uniform(*steps), config.video_shift),
        action_noise_BTKA=normal(actions),
        action_time_BT=shift_time(uniform(*steps), config.action_shift),
        history_noise_BTNC=normal(latents),
        history_time_BT=torch.where(noisy, share, torch.ones_like(share)),
        forward_noise_BTNC=normal(latents[:, 1:]) if forward else None,
        forward_time_BT=shift_time(uniform(*steps), config.video_shift) if forward else None,
        proprio_noise_BTA=config.proprio_noise * normal(window.proprio_BTA) if config.proprio_noise else None,
        silent_B=uniform(frames[0]) < config.text_dropout if config.text_dropout else None,
    )


class Weights:
    """Weight of the error at each flow time, with a mean of 1 over the flow times that training draws."""

    def __init__(self, weighting: Weighting, shift: float) -> None:
        self._weighting = weighting
        uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
        self._mean = float(self._raw(shift_time(uniform, shift)).mean())

    def __call__(self, time: Tensor) -> Tensor:
        """Weights of flow times, any shape."""
        return self._raw(time) / self._mean

    def _raw(self, time: Tensor) -> Tensor:
        match self._weighting:
            case Weighting.MIDDLE:
                return torch.exp(-2.0 * (0.5 - time).square()) - math.exp(-0.5)
            case Weighting.FALLOFF:
                return (1.0 - time).square()
            case Weighting.NONE:
                return torch.ones_like(time)
