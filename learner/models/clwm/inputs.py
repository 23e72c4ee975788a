"""What the Causal Latent World Model is given in inference besides observations: the instruction as it reads it, noise, tables."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from learner.backbone.grid import Grid
from learner.backbone.layers import KeyValue
from learner.models.clwm.block_pass import Setting

TextMemory = tuple[KeyValue, ...]
"""Keys and values of one instruction, per block."""


class Noise(NamedTuple):
    """Where the paths of one generation begin: the next frame's noise and the chunk's, or several chunks' of the same frame."""

    video_BNC: Tensor
    action_BKA: Tensor


class Preparation(NamedTuple):
    """All that both stages need beside points and memories: follows from weights, sampling steps and the frames' layout."""

    grid: Grid
    frame: tuple[Setting, Setting]
    """Of a frame that is observed: scene and body; the scene's also serves the frame that is imagined."""
    video: tuple[Setting, ...]
    """Of each Stage 1 evaluation."""
    action: tuple[Setting, ...]
    """Of each Stage 2 evaluation."""
