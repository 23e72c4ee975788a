"""The parameters of the Causal Latent World Model, and how latents, states and actions become tokens.

Shapes: B batch, T steps, N latents per frame, C latent channels, D width, A action channels, K actions per chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError, LearnerError
from learner.backbone.flow import shift_time, towards
from learner.backbone.grid import Grid
from learner.backbone.layers import (
    PLACE_WAVES,
    Block,
    Head,
    Rotation,
    TimeEmbedding,
    body_positions,
    chunk_positions,
    grid_positions,
    place_waves,
    rotations,
)
from learner.codecs.config import LatentSpec
from learner.memory.ttt import TttLayer
from learner.models.clwm.block_pass import BlockPassed, BlockSetting, Conditioned, block_pass
from learner.models.clwm.config import ClwmConfig, NextFrame
from learner.models.hints import Aim, Glance
from learner.models.world_model import BatchNeeds, WorldModel


class ClwmParts(WorldModel):
    """Parameters, embeddings and positions. Subclasses define the attention between tokens."""

    def __init__(self, config: ClwmConfig, *, latents: LatentSpec, text_dim: int) -> None:
        super().__init__()
        if config.aim and not latents.moments:
            raise ConfigError("model.aim reads where objects are seen: set encoder.segmenter, for one to builtin")
        self.config, self.needs = config, BatchNeeds(opening=bool(config.aim))
        self.horizon = config.chunk
        dim, latent_dim = config.dim, latents.channels
        self.video_in = nn.Linear(latent_dim, dim)
        self.action_in = nn.Linear(config.action_dim, dim)
        self.proprio_in = nn.Linear(config.action_dim, dim)
        self.text_in = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.view = nn.Parameter(0.02 * torch.randn(config.max_cameras, 1, dim))
        self.place = nn.Parameter(0.02 * torch.randn(config.chunk, dim))
        self.no_past = nn.Parameter(0.02 * torch.randn(dim))
        self.video_time = TimeEmbedding(dim, config.time_frequencies)
        self.action_time = TimeEmbedding(dim, config.time_frequencies)
        self.video_out = Head(dim, latent_dim)
        self.action_out = Head(dim, config.action_dim)
        blocks = [Block(dim, config.heads, config.ffn) for _ in range(config.layers)]
        memories = [TttLayer(dim, config.heads, config.ttt) for _ in config.memory_blocks]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        self.memories = cast("Sequence[TttLayer]", nn.ModuleList(memories))
        self.where = nn.Linear(2 * PLACE_WAVES * 2, config.max_cameras * dim) if config.told_place else None
        self.glance = Glance(latent_dim, config.glance, dim) if config.glance else None
        self.outlook = Glance(latent_dim, config.glance, dim) if config.glance and config.see_imagined else None
        changing = config.next_frame is NextFrame.CHANGE
        self.skip = _zero(nn.Linear(latent_dim, latent_dim)) if changing else None
        self.present_in = nn.Linear(latent_dim, dim) if changing else None
        self.aim = Aim(config.aim, config.action_dim, dim) if config.aim else None
        uniform = (torch.arange(1000, dtype=torch.float64, device="cpu") + 0.5) / 1000
        self._mean_share = float(((1.0 - shift_time(uniform, config.action_shift)) ** config.action_falloff).mean())
        self._memory_of = {block: index for index, block in enumerate(config.memory_blocks)}
        self._block_pass: Callable[..., BlockPassed] = block_pass

    def check_training(self) -> None:
        """Raises ConfigError if the model is narrower than the latents whose velocity it should predict."""
        channels, dim = self.video_out.output.out_features, self.config.dim
        if self.skip is None and dim < channels:
            raise ConfigError(
                f"a model of width {dim} cannot predict velocities of {channels} channels: in {channels - dim} directions its "
                f"frames would stay noise; set model.next_frame to change, normalizer.channels to {dim} at most, or wider model.dim"
            )

    def frame_settings(self, grid: Grid) -> tuple[BlockSetting, BlockSetting]:
        """Settings of the scene and body tokens for `observe`; `imagine` needs only the first."""
        here = self.place.new_ones(1, 1)
        scene = self._setting(self._views(grid), self.video_time(here), None, grid_positions, *grid, 0.0)
        return scene, self._setting(self.place, self.action_time(here), None, body_positions, self._past)

    def video_setting(self, time_B: Tensor, grid: Grid) -> BlockSetting:
        """Settings of a Stage 1 evaluation at flow time s."""
        return self._setting(self._views(grid), self.video_time(time_B[:, None]), self.video_out, grid_positions, *grid, 1.0)

    def action_setting(self, time_B: Tensor) -> BlockSetting:
        """Settings of a Stage 2 evaluation at flow time s."""
        return self._setting(
            self.place, self.action_time(time_B[:, None]), self.action_out, chunk_positions, self.config.chunk, 0.0
        )

    # ------------------------------------------------------------------------------------------------------------- tokens

    def _scene(self, latents_BTNC: Tensor, grid: Grid, time_BT: Tensor | None) -> Conditioned:
        return self._latents(latents_BTNC, grid, 0.0, latents_BTNC.new_ones(1, 1) if time_BT is None else time_BT)

    def _video(self, latents_BTNC: Tensor, grid: Grid, time_BT: Tensor, present_BTNC: Tensor | None) -> Conditioned:
        tokens = self._video_tokens(latents_BTNC, grid, self._views(grid), present_BTNC)
        return self._condition(tokens, self.video_time(time_BT), grid_positions, *grid, 1.0)

    def _video_tokens(self, latents: Tensor, grid: Grid, views: Tensor, present: Tensor | None) -> Tensor:
        """Tokens of noisy frames. A model that predicts the change also adds the present latent at the same place to each token,
        because attention would take long to learn to find it.
        """
        tokens = self._latent_tokens(latents, grid, views)
        if self.present_in is None:
            return tokens
        if present is None:
            raise LearnerError("this model predicts how the present frame changes, and there is none: observe one first")
        return tokens + self.present_in(present.to(self.place))

    def _ahead(self, latents_BTNC: Tensor, grid: Grid, time_BT: Tensor | None) -> Conditioned:
        """Tokens of imagined frames: like those of a real frame, one time step later."""
        return self._latents(latents_BTNC, grid, 1.0, latents_BTNC.new_ones(1, 1) if time_BT is None else time_BT)

    def _next_frame(self, put_out: Tensor, present: Tensor | None) -> Tensor:
        """The velocity or clean frame that Stage 1 predicts, from its head's output and the present frame, both [..., N, C]."""
        return put_out if self.skip is None or present is None else present + self.skip(present) + put_out

    def _velocity(self, predicted: Tensor, point: Tensor, time: Tensor) -> Tensor:
        """Converts a prediction of Stage 1 at `point` into the velocity for the sampler; `time` broadcasts."""
        return predicted if self.skip is None else towards(predicted, point, time)

    def _latents(self, latents: Tensor, grid: Grid, step_time: float, time: Tensor) -> Conditioned:
        tokens = self._latent_tokens(latents, grid, self._views(grid))
        return self._condition(tokens, self.video_time(time), grid_positions, *grid, step_time)

    def _latent_tokens(self, latents: Tensor, grid: Grid, views: Tensor) -> Tensor:
        if latents.shape[-2] != grid.size:
            raise ConfigError(
                f"a frame has {latents.shape[-2]} latents, laid out as {tuple(grid)}, which are {grid.size}: "
                "give the layout that the encoder gave with these latents"
            )
        return self.video_in(latents.to(self.place)) + views

    def _views(self, grid: Grid) -> Tensor:
        """Embeddings of each latent's camera and, with `told_place`, of its position in the image, [N, D]."""
        if grid.cameras > self.config.max_cameras:
            raise ConfigError(
                f"latents laid out as {tuple(grid)}: the model takes up to {self.config.max_cameras} cameras (max_cameras)"
            )
        views = self.view[: grid.cameras].expand(-1, grid.rows * grid.columns, -1).reshape(grid.size, -1)
        if self.where is not None:
            waves = place_waves(grid.rows, grid.columns).to(self.place)
            told = self.where(waves).unflatten(-1, (self.config.max_cameras, -1))[:, : grid.cameras]
            views = views + told.transpose(0, 1).flatten(0, 1)
        return views

    def _body(self, proprio_BTA: Tensor, past_BTKA: Tensor, *, first: bool) -> Conditioned:
        tokens = self._body_tokens(proprio_BTA, past_BTKA, first=first)
        return self._condition(tokens, self.action_time(proprio_BTA.new_ones(1, 1)), body_positions, self._past)

    def _body_tokens(self, proprio_BTA: Tensor, past_BTKA: Tensor, *, first: bool) -> Tensor:
        proprio = self.proprio_in(proprio_BTA.to(self.place)).unsqueeze(2)
        if not self.config.told_past:
            return proprio
        past = self.action_in(past_BTKA.to(self.place))
        if first:
            past = torch.cat([self.no_past.expand_as(past[:, :1]), past[:, 1:]], dim=1)
        return torch.cat([proprio, past + self.place], dim=2)

    @property
    def _past(self) -> int:
        """Number of executed actions that the model is given with a frame."""
        return self.config.chunk if self.config.told_past else 0

    def _action(self, actions_BTKA: Tensor, time_BT: Tensor, glance_BT1D: Tensor | None) -> Conditioned:
        tokens = self._action_tokens(actions_BTKA, glance_BT1D, self.place)
        return self._condition(tokens, self.action_time(time_BT), chunk_positions, self.config.chunk, 0.0)

    def _action_tokens(self, actions_BTKA: Tensor, glance_BT1D: Tensor | None, place: Tensor) -> Tensor:
        tokens = self.action_in(actions_BTKA.to(self.place)) + place
        return tokens if glance_BT1D is None else tokens + glance_BT1D

    def _look(self, latents_BTNC: Tensor, opening_BM: Tensor | None, proprio_BTA: Tensor) -> Tensor | None:
        """Hints that are added to the action tokens of each step, [B, T, 1, D]: pooled frames, and image moments."""
        latents = latents_BTNC.to(self.place)
        glance = None if self.glance is None else self.glance(latents)
        if self.aim is None or opening_BM is None:
            return glance
        aim = self.aim(self.aim.moments(latents), opening_BM, proprio_BTA.to(self.place))
        return aim if glance is None else glance + aim

    def _opening(self, latents_BNC: Tensor | None) -> Tensor | None:
        """Image moments of an episode's first frame, [B, M]; None for a model without an aim."""
        if self.aim is None:
            return None
        if latents_BNC is None:
            raise LearnerError("this model aims by the first frame of each trajectory, and the window lacks it (opening_BNC)")
        return self.aim.moments(latents_BNC.to(self.place))

    def _condition(self, tokens: Tensor, time: tuple[Tensor, Tensor], *positions: Any) -> Conditioned:
        return Conditioned(tokens, *time, self._rotation(*positions))

    def _setting(self, place: Tensor, time: tuple[Tensor, Tensor], head: Head | None, *positions: Any) -> BlockSetting:
        modulations = tuple(block.modulation(time[1]) for block in self.blocks)
        return BlockSetting(place, modulations, () if head is None else head.modulation(time[0]), self._rotation(*positions))

    def _kept(self, latents_BNC: Tensor) -> Tensor | None:
        """The present frame's latents, if the model needs them to predict the change; else None."""
        return None if self.skip is None else latents_BNC

    def _rotation(self, positions: Callable[..., Tensor], *arguments: float) -> Rotation:
        return rotations(positions, arguments, self.config.dim // self.config.heads, self.place)


def _zero(linear: nn.Linear) -> nn.Linear:
    """Sets a linear map to zero and returns it."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
