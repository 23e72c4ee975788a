"""Inputs of the Causal Latent World Model in inference besides observations: encoded instruction, noise, precomputed tables."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from learner.backbone.grid import Grid
from learner.backbone.layers import KeyValue
from learner.models.clwm.block_pass import BlockSetting

TextMemory = tuple[KeyValue, ...]
"""Keys and values of one instruction, one entry for each block."""


class Noise(NamedTuple):
    """The noise of one generation: of the next frame, and of one or more chunks that share it."""

    video_BNC: Tensor
    action_BKA: Tensor


class Preparation(NamedTuple):
    """Everything that both stages need besides points and memories. It depends only on weights, sampling steps and layout."""

    grid: Grid
    frame: tuple[BlockSetting, BlockSetting]
    """For an observed frame: of scene and body. That of the scene also serves the imagined frame."""
    video: tuple[BlockSetting, ...]
    """For each evaluation of Stage 1."""
    action: tuple[BlockSetting, ...]
    """For each evaluation of Stage 2."""
