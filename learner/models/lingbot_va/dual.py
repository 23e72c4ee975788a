"""The action stream's first weights where it is narrower than the video's: rows and columns of the video's, taken at a stride.

Resampling weights smoothly would halve the deviation of what they put out; a stride keeps it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from learner.backbone.layers import Block


@torch.no_grad()
def narrow_from(wide: Block, narrow: Block) -> None:
    """Fills `narrow` from `wide` in place; where fewer inputs are summed they count sqrt(inputs / fewer) each."""
    source = dict(wide.named_parameters())
    for name, target in narrow.named_parameters():
        kept = strided(source[name], target.shape)
        target.copy_(
            kept * math.sqrt(source[name].shape[-1] / target.shape[-1]) if target.ndim == 2 and "table" not in name else kept
        )


def strided(weight: Tensor, shape: torch.Size) -> Tensor:
    """Rows and columns of `weight`, evenly spread over them, in another shape."""
    for axis, size in enumerate(shape):
        weight = weight.index_select(axis, torch.arange(size) * weight.shape[axis] // size)
    return weight
