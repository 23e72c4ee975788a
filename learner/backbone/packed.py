"""Runs groups of tokens through the blocks, as one masked sequence in training or group by group with a key-value cache.

Every group is [B, F, N, D], with flow times and rotary positions for each frame. Groups may belong to streams of different widths;
each stream has its own blocks, and all streams attend to each other (a mixture of transformers).

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
    """What blocks and output head need for the tokens of one kind, besides the tokens."""

    tokens: Tensor
    embedding: Tensor
    """Flow-time embedding for the output head, [B or 1, F or 1, 1, D]."""
    modulation: Tensor
    """Flow-time modulation for the blocks, [B or 1, F or 1, 6, D]."""
    rotation: Rotation
    """Cosines and sines, each [F, 1, N, d]."""
    stream: int = 0
    """Index of the stream whose blocks the group runs through."""


def framed(positions: Callable[..., Tensor], arguments: tuple[float, ...], frames: int, width: int, like: Tensor) -> Rotation:
    """`layers.rotations` of positions [frames x N, 3], as [frames, 1, N, d]."""
    flat = rotations(positions, arguments, width, like)
    return Rotation(*(part.unflatten(0, (frames, -1)).unsqueeze(1) for part in flat))


def project(blocks: Sequence[Block], tokens: Sequence[Tensor], groups: Sequence[Group]) -> list[Projected]:
    """Queries, keys and values of every group, from the block of its stream.

    Groups whose streams share a block are projected in one call.

    Args:
        blocks: the block of each stream at this depth.
        tokens: of each group, [B, F, N, D].
        groups: what belongs to the tokens.
    """
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
    """Tokens after the rest of the block: attention output projection, cross-attention to text, feed-forward.

    Args:
        blocks: the block of each stream at this depth.
        tokens: of each group before the block, [B, F, N, D].
        attended: attention outputs of each group, [B, F, H, N, d].
        groups: what belongs to the tokens.
        texts: keys and values of the instruction, for each stream.
    """
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
    """Flattens frames [B, F, H, N, d] into one sequence [B, H, F N, d]."""
    return x.transpose(1, 2).flatten(2, 3)


def as_step(seen: KeyValue) -> KeyValue:
    """Keys and values of all frames flattened into a single time step, [B, 1, H, F N, d], the layout of cache entries."""
    return KeyValue(one_sequence(seen.keys).unsqueeze(1), one_sequence(seen.values).unsqueeze(1))


def in_frames(x: Tensor, frames: int) -> Tensor:
    """The inverse of `one_sequence`."""
    return x.unflatten(2, (frames, -1)).transpose(1, 2)


def masked(projected: Sequence[Projected], mask: Tensor | None, outputs: int) -> list[Tensor]:
    """Joint attention: the first `outputs` groups attend to all groups.

    Args:
        projected: of each group.
        mask: True where a query may attend to a key, [queries or 1, S] or [B, 1, queries or 1, S]; None for full attention.
        outputs: how many groups, from the first, have queries.

    Returns:
        The outputs of those groups, each [B, F, H, N, d].
    """
    # One attention call for all groups: several small calls would launch more kernels and read the keys again.
    queries = torch.cat([one_sequence(part.queries) for part in projected[:outputs]], dim=2)
    keys = torch.cat([one_sequence(part.own.keys) for part in projected], dim=2)
    values = torch.cat([one_sequence(part.own.values) for part in projected], dim=2)
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    sizes = [part.queries.shape[1] * part.queries.shape[3] for part in projected[:outputs]]
    return [in_frames(x, part.queries.shape[1]) for x, part in zip(out.split(sizes, dim=2), projected, strict=False)]


def beside(projected: Projected, others: KeyValue | None) -> Tensor:
    """Full attention of one group, all frames together, over itself and cached keys `others` [B, 1, H, n, d]; [B, F, H, N, d]."""
    # The cached keys come first, in causal order; without a mask the order does not change the result.
    own = as_step(projected.own)
    seen = own if others is None else join(others, own)
    out = F.scaled_dot_product_attention(one_sequence(projected.queries), seen.keys[:, 0], seen.values[:, 0])
    return in_frames(out, projected.queries.shape[1])
