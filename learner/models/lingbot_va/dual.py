"""Initialises a narrow action stream from the video stream, by taking rows and columns of its weights at a stride.

Smooth interpolation of the weights would halve the standard deviation of the outputs; a stride preserves it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from learner.backbone.layers import Block


@torch.no_grad()
def narrow_from(wide: Block, narrow: Block) -> None:
    """Fills `narrow` from `wide` in place. Weights are scaled by sqrt(wide inputs / narrow inputs) to keep the output variance."""
    source = dict(wide.named_parameters())
    for name, target in narrow.named_parameters():
        kept = strided(source[name], target.shape)
        target.copy_(
            kept * math.sqrt(source[name].shape[-1] / target.shape[-1]) if target.ndim == 2 and "table" not in name else kept
        )


def strided(weight: Tensor, shape: torch.Size) -> Tensor:
    """Evenly spaced rows and columns of `weight`, as many as `shape` has."""
    for axis, size in enumerate(shape):
        weight = weight.index_select(axis, torch.arange(size) * weight.shape[axis] // size)
    return weight
