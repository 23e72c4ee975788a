"""Counts the arithmetic of a training step of LingBot-VA."""

from __future__ import annotations

from learner.models.hints import AIM_WIDTH, GLANCE_CHANNELS, aim_inputs
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.window import Extent


def forward_flops(config: LingbotConfig, extent: Extent) -> float:
    """Mean FLOPs of the forward pass of a training step; forward dynamics count with their share of the batches."""
    share = config.forward_share
    return (1.0 - share) * step_flops(config, extent, forward=False) + share * step_flops(config, extent, forward=True)


def step_flops(config: LingbotConfig, extent: Extent, *, forward: bool) -> float:
    """FLOPs of the forward pass of one training step with or without forward dynamics."""
    B, T, N, C, L, E = extent
    D, A = config.dim, config.dual or config.dim  # widths of the streams
    state = int(config.told_state)
    video_out, action_out = T * N * (1 + forward), T * config.chunk  # tokens with an output head
    video = video_out + (T + 1) * N
    actions = action_out + (T + 1) * config.chunk + forward * T * config.chunk
    body = actions + (T + 1) * state
    total = 2.0 * (video * C * D + video_out * D * C)
    total += 2.0 * A * config.action_dim * (actions + (T + 1) * state + action_out)
    if config.glance:
        total += T * 2.0 * (N * GLANCE_CHANNELS * (C + 2 * A) + 2 * A * A)
    if config.aim:
        wide = AIM_WIDTH * A
        total += T * 2.0 * wide * (aim_inputs(config.aim, config.action_dim) + wide + A)
    total += 2.0 * L * (E * D + D * D)
    embedded = (config.time_frequencies * D + 7 * D * D, config.time_frequencies * A + 7 * A * A)
    total += 2.0 * (T * (1 + forward) + T + 1) * embedded[0] + 2.0 * T * embedded[1]
    once = 2.0 * (1 + state + forward) * embedded[1]  # clean tokens share one flow time, so its embedding is computed once
    for index in range(config.layers):
        last = index == config.layers - 1
        queries_v, queries_a = (video_out, action_out) if last else (video, body)
        total += 2.0 * 3 * D * (video * D + body * A)
        total += 2.0 * D * (queries_v * D + queries_a * A)
        total += 4.0 * D * (queries_v + queries_a) * (video + body)
        for tokens, width, ffn in ((queries_v, D, config.ffn), (queries_a, A, config.ffn if A == D else 4 * A)):
            total += 2.0 * tokens * 2 * width * width + 4.0 * width * tokens * L + 4.0 * tokens * width * ffn
        total += 2.0 * L * 2 * D * D + (2.0 * L * 2 * D * A if config.dual else 0.0)
    return B * total + once
