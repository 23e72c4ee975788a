"""Counts the arithmetic of a training step of the Causal Latent World Model."""

from __future__ import annotations

from learner.models.clwm.config import ClwmConfig, NextFrame
from learner.models.hints import AIM_WIDTH, GLANCE_CHANNELS, aim_inputs
from learner.models.window import Extent


def forward_flops(config: ClwmConfig, extent: Extent) -> float:
    """FLOPs of the forward pass of one training step that samples no imagined frames (`ClwmConfig.own_imagination`)."""
    B, T, N, C, L, E = extent
    D, F = config.dim, config.ffn
    past, draws = config.chunk if config.told_past else 0, config.action_draws
    scene, body, video, action = N, 1 + past, N, config.chunk  # tokens in a step; actions have several draws
    V, frames = min(config.imagined or T, T), T + bool(config.memory_blocks)  # the last frame is needed only for the memory
    A = config.action_dim
    still, noisy = frames * (scene + body), V * video + T * draws * action + T * (N if config.see_imagined else 0)
    ahead = N if config.see_imagined else 0  # imagined frames as actions see them
    total = 2.0 * D * (frames * (scene * C + body * A) + V * video * C * 2 + T * draws * action * A * 2)
    total += 2.0 * T * ahead * C * D
    if config.next_frame is NextFrame.CHANGE:
        total += 2.0 * V * video * C * (D + C)
    if config.glance:
        total += (1 + config.see_imagined) * T * 2.0 * (N * GLANCE_CHANNELS * (C + 2 * D) + 2 * D * D)
    if config.aim:
        wide = AIM_WIDTH * D
        total += T * 2.0 * wide * (aim_inputs(config.aim, A) + wide + D)
    total += 2.0 * L * (E * D + D * D)
    flow_times = V + draws * T + 2 + config.see_imagined  # of both noisy groups, and the clean ones'
    total += flow_times * 2.0 * (config.time_frequencies * D + D * D + 6 * D * D)
    for index in range(config.layers):
        last, memory = index == config.layers - 1, index in config.memory_blocks
        active = noisy if last else still + noisy
        merged = noisy if last and not memory else still + noisy
        total += 2.0 * (still + noisy) * 3 * D * D + 2.0 * merged * D * D
        seen = [
            (frames, scene, scene),
            (frames, body, scene + body),
            (V, video, scene + body + video),
            (T * draws, action, scene + body + ahead + action),
            (T, ahead, ahead),
        ]
        seen = seen[2:] if merged == noisy else seen
        total += sum(4.0 * D * steps * queries * keys for steps, queries, keys in seen)
        total += 2.0 * active * 2 * D * D + 2.0 * L * 2 * D * D + 4.0 * D * active * L
        total += 4.0 * active * D * F
        if memory:
            reading = noisy if last else still + noisy
            hidden = D * config.ttt.ratio * (D // config.heads)
            total += 2.0 * D * D * (reading + 2 * still + reading) + 2.0 * D * config.heads * still
            total += hidden * (10.0 * still + 4.0 * reading)
            total += T * ahead * (4.0 * D * D + 2.0 * D * config.heads + 10.0 * hidden)
    return B * total
