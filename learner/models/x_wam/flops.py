"""Counts the arithmetic of a training step of X-WAM."""

from __future__ import annotations

from learner.models.hints import AIM_WIDTH, GLANCE_CHANNELS, aim_inputs
from learner.models.window import Extent
from learner.models.x_wam.config import XwamConfig


def forward_flops(config: XwamConfig, extent: Extent) -> float:
    """FLOPs of the forward pass of one training step."""
    B, T, N, C, L, E = extent
    D, F = config.dim, config.ffn
    video, actions, states = (T + 1) * N, T * config.chunk, T + 1
    S = video + actions + states
    total = 2.0 * video * (C * D + D * C)
    total += 2.0 * (actions + states) * 2 * (config.action_dim * D + D * D)
    if config.glance:
        total += 2.0 * (N * GLANCE_CHANNELS * (C + 2 * D) + 2 * D * D)
    if config.aim:
        wide = AIM_WIDTH * D
        total += 2.0 * wide * (aim_inputs(config.aim, config.action_dim) + wide + D)
    total += 2.0 * L * (E * D + D * D)
    times = (T + 1) + (actions if config.prefix else 1) + (T + 1)
    total += 2.0 * times * (config.time_frequencies * D + 7 * D * D)
    block = 2.0 * S * 4 * D * D + 4.0 * D * S * S + _own(S, D, F, L)
    total += config.layers * block
    branch = 2.0 * video * 4 * D * D + 4.0 * D * video * (S + video) + _own(video, D, F, L)
    total += config.depth * branch + (2.0 * video * D * C if config.depth else 0.0)
    return B * total


def _own(tokens: int, D: int, F: int, L: int) -> float:
    """FLOPs of cross-attention to text and of the feed-forward of a block."""
    return 2.0 * tokens * 2 * D * D + 4.0 * D * tokens * L + 2.0 * L * 2 * D * D + 4.0 * tokens * D * F
