"""One pass of X-WAM over its whole sequence, with the depth branch.

Frames, actions and states all attend to each other. The depth branch consists of copies of the last blocks. It starts from the
video tokens before these blocks, and attends to itself and to the keys and values of the original blocks. Nothing attends to the
branch, so video and actions are bit for bit the same with and without it.

Shapes: B batch, F frames, N latents a frame, C latent channels, A action channels, K actions a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from learner.backbone.grid import Grid
from learner.backbone.layers import Block, KeyValue, Projected
from learner.backbone.packed import Group, masked, project, settle
from learner.models.x_wam.parts import XwamParts

Result = TypeVar("Result")

TextMemory = tuple[tuple[KeyValue, ...], tuple[KeyValue, ...]]
"""Keys and values of one instruction: of every block, and of every block of the depth branch."""


class Point(NamedTuple):
    """Frames, chunks and states of a window between noise and data, or their velocities; all normalised."""

    latents_BFNC: Tensor
    actions_BFKA: Tensor
    proprio_BFA: Tensor


class Times(NamedTuple):
    """Flow times of frames [B or 1, F], of actions ([B, 1] or, one for each, [B, F K]) and of states [B or 1, F]."""

    video: Tensor
    action: Tensor
    proprio: Tensor


class Passed(NamedTuple):
    """The result of a pass: velocities and, if requested, clean depth latents of every frame, [B, F, N, C]."""

    velocity: Point
    depth_BFNC: Tensor | None


class XwamPasses(XwamParts):
    """The pass over a sequence; stateless."""

    def read_text(self, text_BLC: Tensor) -> TextMemory:
        """Keys and values of an instruction for every block and every block of the depth branch."""
        text = self.text_in(text_BLC.to(self.view))
        return tuple(block.text_memory(text) for block in self.blocks), tuple(
            block.text_memory(text) for block in self.depth_blocks
        )

    def sweep(
        self,
        point: Point,
        times: Times,
        hint: Tensor | None,
        text: TextMemory,
        grid: Grid,
        *,
        here_BS: Tensor | None = None,
        depth: bool = False,
    ) -> Passed:
        """All velocities at a point; `here_BS` marks tokens that are not padding, and `depth` enables the depth branch."""
        groups = [
            self.frame_group(point.latents_BFNC, times.video, grid),
            self.action_group(point.actions_BFKA, times.action, hint),
            self.proprio_group(point.proprio_BFA, times.proprio),
        ]
        mask = None if here_BS is None else here_BS[:, None, None]
        tokens = [group.tokens for group in groups]
        start = len(self.blocks) - len(self.depth_blocks)
        before, kept = tokens[0], []
        for index, (block, words) in enumerate(zip(self.blocks, text[0], strict=True)):
            if index == start:
                before = tokens[0]
            tokens, projected = block(self._kept_or_not, _whole, block, tokens, groups, mask, words)
            kept.append(projected)
        velocity = Point(
            self.video_out(tokens[0], groups[0].embedding),
            self.action_out(tokens[1], groups[1].embedding).reshape(*point.actions_BFKA.shape),
            self.proprio_out(tokens[2], groups[2].embedding)[:, :, 0],
        )
        if not depth:
            return Passed(velocity, None)
        branch = before
        for block, words, read in zip(self.depth_blocks, text[1], kept[start:], strict=True):
            branch = block(self._kept_or_not, _aside, block, branch, groups[0], read, mask, words)
        return Passed(velocity, self.depth["head"](branch, groups[0].embedding))

    def _kept_or_not(self, act: Callable[..., Result], *inputs: Any) -> Result:
        """Returns act(*inputs), checkpointed if `recompute.blocks` is set."""
        if self.recompute.blocks and torch.is_grad_enabled():
            return cast(Result, checkpoint(act, *inputs, use_reentrant=False))
        return act(*inputs)


def _whole(
    block: Block, tokens: Sequence[Tensor], groups: Sequence[Group], mask: Tensor | None, words: KeyValue
) -> tuple[list[Tensor], list[Projected]]:
    """Runs one block over the whole sequence; also returns the keys and values that it attended to."""
    projected = project([block], tokens, groups)
    attended = masked(projected, mask, len(groups))
    return settle([block], tokens, attended, groups, [words]), projected


def _aside(block: Block, tokens: Tensor, group: Group, read: Sequence[Projected], mask: Tensor | None, words: KeyValue) -> Tensor:
    """Runs a block of the depth branch: attends to itself and to the keys and values of the original block."""
    (own,) = project([block], [tokens], [group])
    if mask is not None:
        mask = torch.cat([mask[..., : tokens.shape[1] * tokens.shape[2]], mask], dim=-1)
    attended = masked([own, *read], mask, 1)
    return settle([block], [tokens], attended, [group], [words])[0]
