"""The random part of a training step of X-WAM.

Shapes: B batch, T steps, N latents a frame, C latent channels, A action channels, K actions a chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learner.models.window import Window
from learner.models.x_wam.config import XwamConfig
from learner.models.x_wam.noise import draw_levels


class Draws(NamedTuple):
    """Noise of frames 1 to T, of the chunks and of the states 1 to T, and flow times."""

    video_noise_BTNC: Tensor
    action_noise_BTKA: Tensor
    proprio_noise_BTA: Tensor
    video_time_B: Tensor
    action_time_B: Tensor
    taught_B: Tensor
    """bool [B]: samples whose actions and states count in the loss."""
    given_B: Tensor | None = None
    """Number of first actions that are clean, [B]; None in a model without prefixes."""
    body_noise_BA: Tensor | None = None
    """Noise added to the first measured state."""


def draw(config: XwamConfig, window: Window, generator: torch.Generator) -> Draws:
    """Draws noise and flow times of one training step: one pair of times for each sample, by the configured `NoiseRule`."""
    latents, actions, proprio = window.latents_BTNC, window.actions_BTKA, window.proprio_BTA

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)

    batch = len(latents)
    video, action, taught = draw_levels(config, batch, generator)
    given = None
    if config.prefix:
        given = torch.randint(0, config.prefix + 1, (batch,), generator=generator).to(latents.device)
    return Draws(
        video_noise_BTNC=normal(latents[:, 1:]),
        action_noise_BTKA=normal(actions),
        proprio_noise_BTA=normal(proprio[:, 1:]),
        video_time_B=(1.0 - video).to(latents),
        action_time_B=(1.0 - action).to(latents),
        taught_B=taught.to(latents.device),
        given_B=given,
        body_noise_BA=config.proprio_noise * normal(proprio[:, 0]) if config.proprio_noise else None,
    )
