"""One block of the world model over a whole training window: attention between groups of tokens, then the memory layer.

Shapes: B batch, T steps, N tokens of a group, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from learner.backbone.layers import Block, KeyValue, Rotation, attend, join
from learner.memory.config import Recompute
from learner.memory.ttt import FastWeights, Rotations, TttLayer


class Conditioned(NamedTuple):
    """A group of tokens with its flow-time embedding, modulation and rotation."""

    tokens: Tensor
    embedding: Tensor
    modulation: Tensor
    rotation: Rotation


class BlockSetting(NamedTuple):
    """What a pass over a group of tokens needs besides tokens and memory. It depends only on flow time, layout and weights.

    Inference computes it for every pass unless the caller passes one that was `made` in advance.
    """

    place: Tensor
    """Embedding added to the projected tokens: of the camera, or of the action's place in the chunk, [N, D]."""
    modulations: tuple[tuple[Tensor, ...], ...]
    """Of each block, as `Block.modulation` gives it: six, each [B, T, 1, D]."""
    head: tuple[Tensor, ...]
    """Shift and gain of the output head, each [B, T, 1, D]; () for tokens without an output."""
    rotation: Rotation


BlockPassed = tuple[list[Tensor], KeyValue, tuple[FastWeights, ...]]
"""Tokens after a block, keys and values of the last frame, and the final fast weights (() without a memory)."""


def block_pass(
    block: Block,
    memory: TttLayer | None,
    tokens: Sequence[Tensor],
    groups: Sequence[Conditioned],
    text: Tensor,
    scene_size: int,
    last: bool,
    see_imagined: bool,
    recompute: Recompute,
) -> BlockPassed:
    """Runs one block and its memory over a whole window of scene, body and video tokens, and action tokens of one or more draws.

    With `see_imagined`, tokens of imagined frames come before the action tokens. Actions and imagined frames have T time steps;
    scene and body have T + 1, or T if the last frame need not be remembered; video has T, or fewer in a model without memory. There
    are no actions when only frames are imagined.
    """
    tokens = list(tokens)
    rotations = [group.rotation for group in groups]
    modulations = [block.modulation(group.modulation) for group in groups]
    scene, body, video, *acting = block.project(tokens, modulations, rotations)
    ahead, actions = (acting[:1], acting[1:]) if see_imagined else ([], acting)
    seen = join(scene.own, body.own)
    steps = (acting[-1] if acting else video).queries.shape[1]
    now = seen if seen.keys.shape[1] == steps else seen.first(-1)
    imagined = video.queries.shape[1]
    # If every step imagines its next frame, reuse the same tensor: a slice would change the order in which autograd sums gradients,
    # and thereby their last bits.
    before = now if imagined == now.keys.shape[1] else now.first(imagined)
    reads = [(scene, scene.own), (body, seen), (video, join(before, video.own))]
    for expected in ahead:
        reads.append((expected, expected.own))
        now = join(now, expected.own)
    reads += [(action, join(now, action.own)) for action in actions]
    # In the last block, scene and body are needed only to write the memory. They are merged in a call of their own, so that the
    # other groups are computed in the same shapes, and hence to the same bits, with and without memory.
    parts = [slice(0, None)]
    if last:
        parts = [slice(2, None)] if memory is None else [slice(0, 2), slice(2, None)]
    for part in parts:
        attended = [attend(group.queries, own) for group, own in reads[part]]
        tokens[part] = block.merge(tokens[part], attended, modulations[part])
    state: tuple[FastWeights, ...] = ()
    if memory is not None:
        frames = torch.cat(tokens[:2], dim=2)
        first = 3 + len(ahead)
        of_chunks = cat_rotations(*rotations[first:]) if actions else rotations[2]
        scanned = Rotations(cat_rotations(rotations[0], rotations[1]), rotations[2], of_chunks)
        sizes = [action.shape[2] for action in tokens[first:]]
        chunks = torch.cat(tokens[first:], dim=2) if actions else tokens[2][:, :, :0]
        frames, tokens[2], chunks, expected, after = memory(
            frames,
            tokens[2],
            chunks,
            scanned,
            scene_size,
            last=last,
            recompute=recompute,
            imagined=tokens[3] if see_imagined else None,
        )
        if expected is not None:
            tokens[3] = expected
        tokens[first:] = chunks.split(sizes, dim=2) if actions else []
        tokens[:2] = frames.split([scene_size, frames.shape[2] - scene_size], dim=2)
        state = (after,)
    keep = 2 if last else 0
    tokens = tokens[:keep] + block.express(tokens[keep:], modulations[keep:], block.text_memory(text))
    return tokens, KeyValue(seen.keys[:, -1:], seen.values[:, -1:]), state


def cat_rotations(*rotations: Rotation) -> Rotation:
    """Concatenates the rotary embeddings of groups along their tokens."""
    return Rotation(*(torch.cat(parts) for parts in zip(*rotations, strict=True)))
