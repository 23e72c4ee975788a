"""The parameters of X-WAM, and how latents, actions and states become groups of tokens.

Shapes: B batch, F frames of a group, N latents a frame, C latent channels, D width, A action channels, K actions a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError
from learner.backbone.grid import Grid
from learner.backbone.layers import PLACE_WAVES, Block, Head, TimeEmbedding, grid_positions, modulated, place_waves
from learner.backbone.packed import Group, framed
from learner.codecs.config import LatentSpec
from learner.models.hints import Hints
from learner.models.world_model import BatchNeeds, WorldModel
from learner.models.x_wam.config import XwamConfig


class MlpHead(nn.Module):
    """Output head of actions or states: modulated layer norm, unless `plain`, then two linear layers."""

    def __init__(self, dim: int, channels: int, *, plain: bool = False) -> None:
        super().__init__()
        self.table = None if plain else nn.Parameter(torch.randn(2, dim) / math.sqrt(dim))
        self.layers = two_layers(dim, channels, dim)

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """Tokens [B, F, N, D] and flow-time embedding [B, F, 1, D] → [B, F, N, channels]."""
        if self.table is None:
            return self.layers(tokens)
        shift, scale = (self.table + embedding).chunk(2, dim=-2)
        return self.layers(modulated(tokens, shift, 1.0 + scale))


def two_layers(inputs: int, outputs: int, dim: int) -> nn.Sequential:
    """An MLP with one hidden layer and GELU; weights are drawn from N(0, 0.02)."""
    layers = nn.Sequential(nn.Linear(inputs, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, outputs))
    for layer in (layers[0], layers[2]):
        nn.init.normal_(cast("nn.Linear", layer).weight, std=0.02)
    return layers


class XwamParts(WorldModel):
    """Parameters, embeddings and positions."""

    def __init__(self, config: XwamConfig, *, latents: LatentSpec, text_dim: int) -> None:
        super().__init__()
        self.config, self.needs = config, BatchNeeds(opening=bool(config.aim), depth=bool(config.depth))
        self.horizon = config.chunk * config.frames
        dim = config.dim
        self.video_in = nn.Linear(latents.channels, dim)
        self.action_in = two_layers(config.action_dim, dim, dim)
        self.proprio_in = two_layers(config.action_dim, dim, dim)
        self.text_in = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.view = nn.Parameter(0.02 * torch.randn(config.max_cameras, 1, dim))
        self.where = nn.Linear(2 * PLACE_WAVES * 2, dim)
        self.video_time = TimeEmbedding(dim, config.time_frequencies)
        self.action_time = TimeEmbedding(dim, config.time_frequencies)
        self.video_out = Head(dim, latents.channels)
        self.action_out = MlpHead(dim, config.action_dim, plain=config.released)
        self.proprio_out = MlpHead(dim, config.action_dim, plain=config.released)
        blocks = [Block(dim, config.heads, config.ffn) for _ in range(config.layers)]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        self.hints = Hints(config, latents, dim)
        self.depth = nn.ModuleDict()
        if config.depth:
            self.depth["blocks"] = nn.ModuleList(deepcopy(block) for block in blocks[-config.depth :])
            self.depth["head"] = Head(dim, latents.channels)

    @property
    def depth_blocks(self) -> Sequence[Block]:
        """The blocks of the depth branch, first to last; empty in a model without depth."""
        return cast("Sequence[Block]", self.depth["blocks"]) if self.depth else ()

    def frame_group(self, latents_BFNC: Tensor, time_BF: Tensor, grid: Grid) -> Group:
        """Tokens of frames 0 to F - 1 at flow times [B or 1, F]; raises ConfigError if `grid` does not fit."""
        if latents_BFNC.shape[-2] != grid.size or grid.cameras > self.config.max_cameras:
            raise ConfigError(
                f"a frame has {latents_BFNC.shape[-2]} latents, laid out as {tuple(grid)}: give the layout that the encoder "
                f"gave with them, of up to {self.config.max_cameras} cameras (max_cameras)"
            )
        where = self.where(place_waves(grid.rows, grid.columns).to(self.view))
        tokens = self.video_in(latents_BFNC.to(self.view)) + (self.view[: grid.cameras] + where).flatten(0, 1)
        frames = tokens.shape[1]
        return self._group(tokens, self.video_time(time_BF), _frames, (frames, *grid))

    def action_group(self, actions_BFKA: Tensor, time: Tensor, hint_B11D: Tensor | None) -> Group:
        """Tokens of chunks at flow times [B, 1], one for all actions, or [B, F K], one for each."""
        tokens = self.action_in(actions_BFKA.to(self.view))
        tokens = tokens if hint_B11D is None else tokens + hint_B11D
        count = tokens.shape[1] * self.config.chunk
        # Flow times belong to frames of a group: every action is a frame of its own, or one frame holds all actions.
        tokens = tokens.flatten(1, 2).unsqueeze(2 if time.shape[1] > 1 else 1)
        return self._group(tokens, self.action_time(time), _actions, (count, self.config.chunk, self.config.released))

    def proprio_group(self, proprio_BFA: Tensor, time_BF: Tensor) -> Group:
        """Tokens of states measured at frames 0 to F - 1, at flow times [B or 1, F]."""
        tokens = self.proprio_in(proprio_BFA.to(self.view)).unsqueeze(2)
        frames = tokens.shape[1]
        return self._group(tokens, self.action_time(time_BF), _states, (frames, self.config.released))

    def _group(
        self, tokens: Tensor, time: tuple[Tensor, Tensor], positions: Callable[..., Tensor], arguments: tuple[float, ...]
    ) -> Group:
        width = self.config.dim // self.config.heads
        return Group(tokens, time[0], time[1], framed(positions, arguments, tokens.shape[1], width, self.view))


def _frames(frames: int, cameras: int, rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    return torch.cat([grid_positions(cameras, rows, columns, float(frame), device) for frame in range(frames)])


def _actions(count: int, chunk: int, released: bool, device: torch.device | None = None) -> Tensor:
    """Action i at time (i + 1) / chunk, outside of the picture; in the released layout at i / chunk, in its corner."""
    first = 0 if released else 1
    t = torch.arange(first, count + first, dtype=torch.float64, device=device) / chunk
    return _at(t, 0.0 if released else -1.0)


def _states(frames: int, released: bool, device: torch.device | None = None) -> Tensor:
    return _at(torch.arange(frames, dtype=torch.float64, device=device), 0.0 if released else -1.0)


def _at(times: Tensor, place: float) -> Tensor:
    """Positions (t, h, w) with h = w = `place`, [N, 3]."""
    return torch.stack([times, torch.full_like(times, place), torch.full_like(times, place)], dim=1)
