"""The parameters of LingBot-VA, and how latents, actions and states become groups of tokens.

Shapes: B batch, F frames of a group, N latents a frame, C latent channels, D width of a stream, A action channels, K actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError
from learner.backbone.grid import Grid
from learner.backbone.layers import PLACE_WAVES, Block, Head, KeyValue, TimeEmbedding, place_waves
from learner.backbone.packed import Group, framed
from learner.codecs.config import LatentSpec
from learner.models.hints import Hints
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.lingbot_va.draws import Weights
from learner.models.lingbot_va.sequence import action_positions, frame_positions, state_positions
from learner.models.lingbot_va.state import TextMemory
from learner.models.world_model import BatchNeeds, WorldModel

VIDEO, ACTION = 0, 1
"""Indices of the two streams."""


class LingbotParts(WorldModel):
    """Parameters, embeddings and positions. Subclasses define the attention between tokens."""

    def __init__(self, config: LingbotConfig, *, latents: LatentSpec, text_dim: int) -> None:
        super().__init__()
        self.config, self.needs = config, BatchNeeds(opening=bool(config.aim))
        self.horizon = config.chunk * config.frames
        dim, narrow = config.dim, config.dual or config.dim
        self.video_in = nn.Linear(latents.channels, dim)
        self.action_in = nn.Linear(config.action_dim, narrow)
        self.proprio_in = nn.Linear(config.action_dim, narrow) if config.told_state else None
        self.text_in = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.view = nn.Parameter(0.02 * torch.randn(config.max_cameras, 1, dim))
        self.where = nn.Linear(2 * PLACE_WAVES * 2, dim)
        self.place = nn.Parameter(0.02 * torch.randn(config.chunk, narrow))
        self.video_time = TimeEmbedding(dim, config.time_frequencies)
        self.action_time = TimeEmbedding(narrow, config.time_frequencies)
        self.video_out = Head(dim, latents.channels)
        self.action_out = Head(narrow, config.action_dim)
        blocks = [Block(dim, config.heads, config.ffn) for _ in range(config.layers)]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        self.narrow = nn.ModuleDict()
        if config.dual:
            own = [Block(narrow, config.heads, 4 * narrow, joint=dim, text=dim) for _ in range(config.layers)]
            self.narrow["blocks"] = nn.ModuleList(own)
        self.hints = Hints(config, latents, narrow)
        self._video_weights = Weights(config.video_weighting, config.video_shift)
        self._action_weights = Weights(config.action_weighting, config.action_shift)

    @property
    def layers(self) -> list[tuple[Block, Block]]:
        """The blocks of both streams, layer by layer; twice the same block if the streams share it."""
        own = cast("Sequence[Block]", self.narrow["blocks"]) if self.narrow else self.blocks
        return list(zip(self.blocks, own, strict=True))

    @property
    def is_guided(self) -> bool:
        """Whether classifier-free guidance is on, so that frames are denoised with and without the instruction."""
        return self.config.cfg_video != 1.0

    # ------------------------------------------------------------------------------------------------------------- tokens

    def frame_group(self, latents_BFNC: Tensor, time_BF: Tensor, first: int, grid: Grid) -> Group:
        """Tokens of frames from number `first` on, at flow times [B or 1, F or 1]; raises ConfigError if `grid` does not fit."""
        if latents_BFNC.shape[-2] != grid.size:
            raise ConfigError(
                f"a frame has {latents_BFNC.shape[-2]} latents, laid out as {tuple(grid)}, which are {grid.size}: "
                "give the layout that the encoder gave with these latents"
            )
        tokens = self.video_in(latents_BFNC.to(self.view)) + self._views(grid)
        frames = tokens.shape[1]
        return self._group(tokens, self.video_time(time_BF), frame_positions, (first, frames, *grid), VIDEO)

    def action_group(self, actions_BFKA: Tensor, time_BF: Tensor, first: int, hint: Tensor | None = None) -> Group:
        """Tokens of the chunks before frames from number `first` on; `hint` [B, F or 1, 1, D] is added to each action."""
        tokens = self.action_in(actions_BFKA.to(self.place)) + self.place
        tokens = tokens if hint is None else tokens + hint
        where = (first, tokens.shape[1], self.config.chunk, self.config.released)
        return self._group(tokens, self.action_time(time_BF), action_positions, where, ACTION)

    def state_group(self, proprio_BFA: Tensor, first: int) -> list[Group]:
        """Tokens of the states measured at frames from `first` on, as a list of one group; empty without `told_state`."""
        if self.proprio_in is None:
            return []
        tokens = self.proprio_in(proprio_BFA.to(self.place)).unsqueeze(2)
        return [self._group(tokens, self.action_time(self.clean), state_positions, (first, tokens.shape[1]), ACTION)]

    @property
    def clean(self) -> Tensor:
        """The flow time of tokens without noise, 1, as [1, 1]."""
        return self.place.new_ones(1, 1)

    def read_text(self, text_BLC: Tensor) -> TextMemory:
        """Keys and values of an instruction for every block and stream; with guidance, also those of an empty instruction."""
        text = text_BLC.to(self.view)
        return self.text_memory(torch.cat([text, torch.zeros_like(text)]) if self.is_guided else text)

    def text_memory(self, text_BLC: Tensor) -> TextMemory:
        """Keys and values of text tokens for every block and stream."""
        text = self.text_in(text_BLC.to(self.view))
        found: list[tuple[KeyValue, KeyValue]] = []
        for video, action in self.layers:
            kept = video.text_memory(text)
            found.append((kept, kept if action is video else action.text_memory(text)))
        return tuple(found)

    def _views(self, grid: Grid) -> Tensor:
        """Embeddings of each latent's camera and of its position in the image, [N, D]."""
        if grid.cameras > self.config.max_cameras:
            raise ConfigError(
                f"latents laid out as {tuple(grid)}: the model takes up to {self.config.max_cameras} cameras (max_cameras)"
            )
        where = self.where(place_waves(grid.rows, grid.columns).to(self.view))
        return (self.view[: grid.cameras] + where).flatten(0, 1)

    def _group(
        self,
        tokens: Tensor,
        time: tuple[Tensor, Tensor],
        positions: Callable[..., Tensor],
        arguments: tuple[float, ...],
        stream: int,
    ) -> Group:
        width = self.config.dim // self.config.heads
        return Group(tokens, time[0], time[1], framed(positions, arguments, tokens.shape[1], width, self.view), stream)
