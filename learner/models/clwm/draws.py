"""The random part of a training step: noise and flow times.

Shapes: B batch, T steps, N latents per frame, C latent channels, A action channels, K actions per chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learner.backbone.flow import shift_time
from learner.models.clwm.config import ClwmConfig, NextFrame
from learner.models.window import Window


class ActionDraw(NamedTuple):
    """Noise and flow times of all chunks."""

    noise_BTKA: Tensor
    time_BT: Tensor


class Draws(NamedTuple):
    """The random part of a training step."""

    video_noise_BTNC: Tensor
    video_time_BT: Tensor
    action_noise_BTKA: Tensor
    action_time_BT: Tensor
    history_noise_BTNC: Tensor
    history_time_BT: Tensor
    """Clean share of each frame, [B, T + 1]; 1 for frames without noise."""
    further: tuple[ActionDraw, ...] = ()
    """Further noise samples and flow times for the same chunks (`ClwmConfig.action_draws`)."""
    proprio_noise_BTA: Tensor | None = None
    """Noise added to the measured states, [B, T + 1, A]."""
    imagine: bool = False
    """Whether actions see next frames that the model samples from `video_noise`, instead of the true ones."""


def draw(config: ClwmConfig, window: Window, generator: torch.Generator) -> Draws:
    """Draws noise and flow times of one training step. Flow times are uniform, then shifted as on the sampler's grid.

    Each frame has one draw of history noise, used both in the memory and where the frame stands in for its imperfect prediction. A
    model that predicts the change has windows in which all frames are noisy, and windows in which none is.
    """
    latents, actions = window.latents_BTNC, window.actions_BTKA
    steps = actions.shape[:2]

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float32).to(latents)

    frames = latents.shape[:2]
    share = config.history_noise_low + (1.0 - config.history_noise_low) * uniform(*frames)
    by_window = config.next_frame is NextFrame.CHANGE
    noisy = uniform(frames[0], 1 if by_window else frames[1]) < config.history_noise_prob
    return Draws(
        video_noise_BTNC=normal(latents[:, 1:]),
        video_time_BT=shift_time(uniform(*steps), config.video_shift),
        action_noise_BTKA=normal(actions),
        action_time_BT=shift_time(uniform(*steps), config.action_shift),
        history_noise_BTNC=normal(latents),
        history_time_BT=torch.where(noisy, share, torch.ones_like(share)),
        further=tuple(
            ActionDraw(normal(actions), shift_time(uniform(*steps), config.action_shift)) for _ in range(config.action_draws - 1)
        ),
        proprio_noise_BTA=config.proprio_noise * normal(window.proprio_BTA) if config.proprio_noise else None,
        imagine=bool(torch.rand((), generator=generator) < config.own_imagination) if config.own_imagination else False,
    )
