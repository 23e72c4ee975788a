"""Groups of tokens that run through the blocks as one packed sequence under a mask, or one after another beside a cache.

Every group lies in frames of its own, [B, F, N, D], with flow times and rotary positions a frame. Groups may belong to streams of
different widths, each with its own blocks, that meet in attention.

Shapes: B batch, F frames of a group, N tokens a frame, D width of its stream, H heads, d width of a head, S tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from learner.backbone.layers import Block, KeyValue, Projected, Rotation, join, rotations


class Group(NamedTuple):
    """Tokens of one kind, and what blocks and heads need beside them."""

    tokens: Tensor
    embedding: Tensor
    """Of the flow times, for the head, [B or 1, F or 1, 1, D]."""
    modulation: Tensor
    """Of the flow times, for the blocks, [B or 1, F or 1, 6, D]."""
    rotation: Rotation
    """Each [F, 1, N, d]."""
    stream: int = 0
    """Which stream's blocks it runs through."""


def framed(positions: Callable[..., Tensor], arguments: tuple[float, ...], frames: int, width: int, like: Tensor) -> Rotation:
    """`layers.rotations` of positions [frames x N, 3], as [frames, 1, N, d]."""
    flat = rotations(positions, arguments, width, like)
    return Rotation(*(part.unflatten(0, (frames, -1)).unsqueeze(1) for part in flat))


def project(blocks: Sequence[Block], tokens: Sequence[Tensor], groups: Sequence[Group]) -> list[Projected]:
    """Queries, keys and values of every group, through the block of its stream; streams that share one go through it at once."""
    found: dict[int, Projected] = {}
    for block in dict.fromkeys(blocks):
        mine = [i for i, group in enumerate(groups) if blocks[group.stream] is block]
        if not mine:
            continue
        modulations = [block.modulation(groups[i].modulation) for i in mine]
        parts = block.project([tokens[i] for i in mine], modulations, [groups[i].rotation for i in mine])
        found |= dict(zip(mine, parts, strict=True))
    return [found[i] for i in range(len(groups))]


def settle(
    blocks: Sequence[Block],
    tokens: Sequence[Tensor],
    attended: Sequence[Tensor],
    groups: Sequence[Group],
    texts: Sequence[KeyValue],
) -> list[Tensor]:
    """Tokens after attention outputs [B, F, H, N, d], text and feed-forward, for groups as in `project`; `texts` of each stream."""
    found: dict[int, Tensor] = {}
    for block in dict.fromkeys(blocks):
        mine = [i for i, group in enumerate(groups) if blocks[group.stream] is block]
        if not mine:
            continue
        modulations = [block.modulation(groups[i].modulation) for i in mine]
        merged = block.merge([tokens[i] for i in mine], [attended[i] for i in mine], modulations)
        out = block.express(merged, modulations, texts[groups[mine[0]].stream])
        found |= dict(zip(mine, out, strict=True))
    return [found[i] for i in range(len(groups))]


def one_sequence(x: Tensor) -> Tensor:
    """Frames [B, F, H, N, d] one after the other, [B, H, F N, d]."""
    return x.transpose(1, 2).flatten(2, 3)


def as_step(seen: KeyValue) -> KeyValue:
    """Keys and values of all frames as those of one step, [B, 1, H, F N, d]: what a cache keeps."""
    return KeyValue(one_sequence(seen.keys).unsqueeze(1), one_sequence(seen.values).unsqueeze(1))


def in_frames(x: Tensor, frames: int) -> Tensor:
    """The inverse of `one_sequence`."""
    return x.unflatten(2, (frames, -1)).transpose(1, 2)


def masked(projected: Sequence[Projected], mask: Tensor | None, outputs: int) -> list[Tensor]:
    """Attention of the first `outputs` groups over all, under a boolean mask [(B, 1,) queries or 1, S]; as [B, F, H, N, d] each."""
    queries = torch.cat([one_sequence(part.queries) for part in projected[:outputs]], dim=2)
    keys = torch.cat([one_sequence(part.own.keys) for part in projected], dim=2)
    values = torch.cat([one_sequence(part.own.values) for part in projected], dim=2)
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    sizes = [part.queries.shape[1] * part.queries.shape[3] for part in projected[:outputs]]
    return [in_frames(x, part.queries.shape[1]) for x, part in zip(out.split(sizes, dim=2), projected, strict=False)]


def beside(projected: Projected, others: KeyValue | None) -> Tensor:
    """Attention of a group, all its frames at once, over itself and `others` [B, 1, H, n, d]; as [B, F, H, N, d]."""
    own = as_step(projected.own)
    seen = own if others is None else join(others, own)
    out = F.scaled_dot_product_attention(one_sequence(projected.queries), seen.keys[:, 0], seen.values[:, 0])
    return in_frames(out, projected.queries.shape[1])
