"""Counts the arithmetic of a training step of CoWVLA."""

from __future__ import annotations

from learner.models.cowvla.config import CowvlaConfig
from learner.models.hints import AIM_WIDTH, GLANCE_CHANNELS, aim_inputs
from learner.models.window import Extent

_MOTIONS = 256


def forward_flops(config: CowvlaConfig, extent: Extent, *, vocabulary: int) -> float:
    """FLOPs of the forward pass of one training step."""
    B, T, N, C, L, E = extent
    D, F = config.dim, config.ffn
    steps = 2 if config.pretrain else max(T - config.ahead + 1, 1)
    actions = 0 if config.pretrain else config.most_tokens
    S = steps * (1 + N + config.told_state + config.motion + (1 + actions if actions else 0))
    total = 2.0 * L * (E * D + D * D) + 2.0 * steps * config.action_dim * D * config.told_state
    if config.glance:
        total += 2.0 * steps * (N * GLANCE_CHANNELS * (C + 2 * D) + 2 * D * D)
    if config.aim:
        wide = AIM_WIDTH * D
        total += 2.0 * steps * wide * (aim_inputs(config.aim, config.action_dim) + wide + D)
    block = 2.0 * S * 4 * D * D + 4.0 * D * S * S
    block += 2.0 * S * 2 * D * D + 4.0 * D * S * L + 2.0 * L * 2 * D * D + 4.0 * S * D * F
    total += config.layers * block
    total += 2.0 * steps * D * (actions * vocabulary + config.keyframes * N * config.codes)
    total += 2.0 * steps * config.motion * (D * D + D * _MOTIONS * config.cameras)
    return B * total
