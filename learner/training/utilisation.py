"""How much arithmetic a training step is, and which share of what the device could do it reaches (model FLOPs utilisation).

Counts multiplications and additions of matrix products and attention, as Chowdhery et al. 2022 ("PaLM", appendix B) do: the
backward pass as twice the forward pass, what is computed again for lack of memory not at all, nor the frozen encoder.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from embodichain.types import ACTION_DIM, CHUNK
from learner.backbone.layers import AIM_WIDTH, GLANCE_CHANNELS, aim_inputs
from learner.models.clwm.config import ClwmConfig

PEAK_BF16 = {  # dense bf16 tensor-core FLOP/s in the vendors' data sheets, by a part of the device's name; the first match counts
    "B200": 2.25e15,
    "H200": 989.5e12,
    "GH200": 989.5e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989.5e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165.2e12,
    "V100": 125e12,
}


class Extent(NamedTuple):
    """What one training step goes over: B windows of T chunks, N latents of C channels a frame, L text tokens of E channels."""

    windows: int
    steps: int
    latents: int
    latent_dim: int
    text_tokens: int
    text_dim: int


def peak_flops(device: torch.device | str) -> float | None:
    """Dense bf16 FLOP/s of a device; None for CPUs and for devices that the table does not know."""
    if torch.device(device).type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_BF16.items() if part in name), None)


def forward_flops(config: ClwmConfig, extent: Extent) -> float:
    """FLOPs of the forward pass of one training step."""
    B, T, N, C, L, E = extent
    D, F = config.dim, config.ffn
    past, draws = CHUNK if config.told_past else 0, config.action_draws
    scene, body, video, action = N, 1 + past, N, CHUNK  # tokens of a step; actions have several draws
    V, frames = min(config.imagined or T, T), T + bool(config.memory_blocks)  # imagined, and seen: the last only to be remembered
    still, noisy = frames * (scene + body), V * video + T * draws * action
    total = 2.0 * D * (frames * (scene * C + body * ACTION_DIM) + V * video * C * 2 + T * draws * action * ACTION_DIM * 2)
    if config.glance:
        total += T * 2.0 * (N * GLANCE_CHANNELS * (C + 2 * D) + 2 * D * D)
    if config.aim:
        wide = AIM_WIDTH * D
        total += T * 2.0 * wide * (aim_inputs(config.aim) + wide + D)
    total += 2.0 * L * (E * D + D * D)
    flow_times = V + draws * T + 2  # of both noisy groups, and the two clean ones'
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
            (T * draws, action, scene + body + action),
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
    return B * total


def utilisation(config: ClwmConfig, extent: Extent, step_s: float, peak: float | None, devices: int = 1) -> float | None:
    """Share of `devices` times the peak that training steps of `step_s` seconds reach; None without a known peak."""
    return None if peak is None else 3.0 * forward_flops(config, extent) / (step_s * peak * devices)
