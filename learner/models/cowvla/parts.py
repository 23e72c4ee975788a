"""The parameters of CoWVLA, and how codes, states and actions become tokens.

Shapes: B batch, T steps, N codes a frame, D width, A action channels, S tokens of a sequence, M numbers of motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodichain.errors import ConfigError
from learner.backbone.grid import Grid
from learner.backbone.layers import PLACE_WAVES, Block, KeyValue, Rotation, place_waves, rotations
from learner.codecs.config import LatentSpec
from learner.codecs.fast import FastTokenizer, load_fast
from learner.models.cowvla.config import CowvlaConfig
from learner.models.cowvla.sequence import StepLayout, positions
from learner.models.hints import Hints
from learner.models.world_model import BatchNeeds, WorldModel

TextMemory = tuple[KeyValue, ...]
"""Keys and values of one instruction, one entry for each block."""
MOTIONS = 256
"""Length of the motion vector of one camera's clip."""


class CowvlaParts(WorldModel):
    """Parameters, embeddings and positions."""

    def __init__(self, config: CowvlaConfig, *, latents: LatentSpec, text_dim: int) -> None:
        super().__init__()
        self.config, self.needs = (
            config,
            BatchNeeds(
                opening=bool(config.aim), codes=config.codes, motions=config.motion, between=config.between if config.motion else 0
            ),
        )
        self.horizon = config.chunk
        self.fast: FastTokenizer = load_fast(config.fast)
        if (self.fast.chunk, self.fast.channels) != (config.chunk, len(config.channels)):
            raise ConfigError(
                f"the action tokenizer {config.fast!r} is made for {self.fast.channels} channels and chunks of {self.fast.chunk}, "
                f"model.channels are {len(config.channels)} and model.chunk is {config.chunk}: train one with "
                "`embodichain codec train fast`"
            )
        dim = config.dim
        self.code_in = nn.Embedding(config.codes, dim)
        self.action_in = nn.Embedding(len(self.fast.lengths), dim)
        self.proprio_in = nn.Linear(config.action_dim, dim) if config.told_state else None
        self.begin_view = nn.Parameter(0.02 * torch.randn(dim))
        self.begin_actions = nn.Parameter(0.02 * torch.randn(dim))
        self.query = nn.Parameter(0.02 * torch.randn(dim)) if config.motion else None
        self.view = nn.Parameter(0.02 * torch.randn(config.cameras, 1, dim))
        self.where = nn.Linear(2 * PLACE_WAVES * 2, dim)
        self.text_in = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        blocks = [Block(dim, config.heads, config.ffn) for _ in range(config.layers)]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        self.norm = nn.LayerNorm(dim)
        self.code_out = nn.Linear(dim, config.codes)
        self.action_out = nn.Linear(dim, len(self.fast.lengths))
        self.motion_out = (
            nn.Sequential(nn.Linear(dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, MOTIONS * config.cameras))
            if config.motion
            else None
        )
        self.hints = Hints(config, latents, dim)

    def layout(self, codes: int) -> StepLayout:
        """The layout of a training step whose frames have this many codes."""
        config = self.config
        return StepLayout(codes, config.told_state, config.motion, 0 if config.pretrain else config.most_tokens)

    def read_text(self, text_BLC: Tensor) -> TextMemory:
        """Keys and values of an instruction for every block."""
        text = self.text_in(text_BLC.to(self.view))
        return tuple(block.text_memory(text) for block in self.blocks)

    def view_tokens(self, codes_BN: Tensor, proprio_BA: Tensor, grid: Grid) -> Tensor:
        """Tokens [B, .., D] of a view: begin token, codes, state and motion query. Raises ConfigError if `grid` does not fit."""
        if codes_BN.shape[-1] != grid.size or grid.cameras != self.config.cameras:
            raise ConfigError(
                f"a frame has {codes_BN.shape[-1]} codes, laid out as {tuple(grid)}: the model takes {self.config.cameras} cameras "
                "(model.cameras), laid out as the codec gave them"
            )
        batch = len(codes_BN)
        where = self.where(place_waves(grid.rows, grid.columns).to(self.view))
        parts = [
            self.begin_view.expand(batch, 1, -1),
            self.code_in(codes_BN) + (self.view + where).flatten(0, 1),
        ]
        if self.proprio_in is not None:
            parts.append(self.proprio_in(proprio_BA.to(self.view)).unsqueeze(1))
        if self.query is not None:
            parts.append(self.query.expand(batch, 1, -1))
        return torch.cat(parts, dim=1)

    def code_tokens(self, codes_BN: Tensor, grid: Grid, first: int) -> Tensor:
        """Tokens [B, .., D] of codes of a frame, the first of which is code number `first`."""
        where = self.where(place_waves(grid.rows, grid.columns).to(self.view))
        place = (self.view + where).flatten(0, 1)[first : first + codes_BN.shape[1]]
        return self.code_in(codes_BN) + place

    def action_tokens(self, tokens_BS: Tensor, hint_B1D: Tensor | None) -> Tensor:
        """Begin-of-actions token and action tokens, [B, 1 + S, D]; the hint is added to each."""
        begin = self.begin_actions.expand(len(tokens_BS), 1, -1)
        found = torch.cat([begin, self.action_in(tokens_BS)], dim=1)
        return found if hint_B1D is None else found + hint_B1D

    def rotation(self, step: int, grid: Grid, actions: int) -> Rotation:
        """Rotary embedding of a whole step with this many action tokens."""
        config = self.config
        arguments = (float(step), *grid, config.told_state, config.motion, actions)
        return rotations(positions, arguments, config.dim // config.heads, self.view)

    def still(self) -> Tensor:
        """A zero modulation for every block, [1, 1, 6, D]: this model has no flow time."""
        return self.view.new_zeros(1, 1, 6, self.config.dim)

    # ------------------------------------------------------------------------------------------------------------ actions

    def tokens_of(self, chunk_KA: NDArray[np.floating]) -> list[int]:
        """Tokens of a normalised chunk [K, A]."""
        return self.fast.encode(chunk_KA[:, list(self.config.channels)])

    def chunk_of(self, tokens: Sequence[int]) -> Tensor:
        """The normalised chunk [K, A] that tokens encode."""
        decoded = torch.from_numpy(self.fast.decode(tokens)).to(self.view)
        chunk = self.view.new_zeros(len(decoded), self.config.action_dim)
        chunk[:, list(self.config.channels)] = decoded
        return chunk
