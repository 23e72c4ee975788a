"""The causal latent world model: imagines the next frame, then the actions that lead there, with a dual-state memory.

Two stages on one shared backbone: Stage 1 denoises the next frame's latents given what is remembered; Stage 2 denoises the
chunk of actions given the same and the imagined frame. Training runs a window of T steps in parallel: attention stays inside a
step, so T folds into the batch, and only the memory layers scan over T.

Attention in step t (rotary time within the step: frame t at 0, frame t + 1 at 1):
    scene    latents of frame t           attends to itself
    body     proprio and executed chunk   attends to scene and itself
    video    noisy latents of frame t+1   attends to scene, body and itself; reads the long-term memory
    ahead    imagined frame t + 1         attends to itself; only with `ClwmConfig.see_imagined`
    action   noisy chunk t                attends to scene, body, ahead and itself; reads the working memory; gets the hints
In step t the long-term memory holds frames 0..t; working memory also holds the scene tokens of the imagined frame t + 1. In
training the true next frame with history noise takes the place of the imagined one, or a frame that the model samples itself
(`ClwmConfig.own_imagination`).

Shapes: B batch, T steps, N latents per frame, C latent channels, D width, A action channels, K actions per chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from learner.backbone.flow import euler, interpolate, time_grid, velocity
from learner.backbone.grid import Grid
from learner.backbone.layers import (
    wide,
)
from learner.backbone.wan_weights import LoadReport, load_wan
from learner.models.clwm.block_pass import BlockPassed, Conditioned, block_pass
from learner.models.clwm.config import NextFrame
from learner.models.clwm.draws import ActionDraw, Draws, draw
from learner.models.clwm.flops import forward_flops
from learner.models.clwm.inputs import Noise, Preparation, TextMemory
from learner.models.clwm.memory import LongTermMemory
from learner.models.clwm.speculate import Started, StepsAhead, Variant, finish, prepare, start
from learner.models.clwm.stages import ClwmStages
from learner.models.window import Extent, Window
from learner.models.world_model import Decision, Losses, Mode, never


class Clwm(ClwmStages):
    """The causal latent world model: holds parameters and no state of an episode."""

    modes = tuple(Variant)

    # ------------------------------------------------------------------------------------------------------------ training

    def draw(self, window: Window, generator: torch.Generator) -> Draws:
        """`draws.draw` with the settings of this model."""
        return draw(self.config, window, generator)

    def velocities(self, window: Window, draws: Draws, grid: Grid) -> tuple[Tensor, Tensor, LongTermMemory]:
        """Predicted velocities of the noisy frames [B, T, N, C] and chunks [B, T, K, A], all steps in parallel.

        With `ClwmConfig.imagined`, frames of only that many steps. A model that predicts the change returns clean frames instead.

        Also returns the long-term memory after all T + 1 frames and the chunks between them.
        """
        video, actions, long_term = self._velocities(window, draws, grid, remembered=True)
        noise, time = draws.history_noise_BTNC[:, -1:], draws.history_time_BT[:, -1:, None, None]
        opening = self._opening(window.opening_BNC)
        frame = interpolate(noise, window.latents_BTNC[:, -1:], time)
        glance = self._look(frame, opening, window.proprio_BTA[:, -1:])
        return video, actions[0], replace(long_term, glance=glance, frame=self._kept(frame[:, 0]), opening=opening)

    def _velocities(
        self, window: Window, draws: Draws, grid: Grid, *, remembered: bool
    ) -> tuple[Tensor, list[Tensor], LongTermMemory]:
        """`velocities` with the chunks of every draw; the memory lacks what training does not need.

        Unless `remembered`, a model without memory skips the last frame, because nothing reads it.
        """
        latents, actions = window.latents_BTNC, window.actions_BTKA
        frames = slice(None if remembered or self._memory_of else actions.shape[1])
        share = draws.history_time_BT[..., None, None]
        history = interpolate(draws.history_noise_BTNC, latents, share)
        imagined = self.config.imagined or actions.shape[1]
        video_time = draws.video_time_BT[:, :imagined]
        clear, noise = latents[:, 1 : 1 + imagined], draws.video_noise_BTNC[:, :imagined]
        text = self.text_in(window.text_BLC.to(self.place))
        past = torch.cat([torch.zeros_like(actions[:, :1]), actions], dim=1)
        proprio = window.proprio_BTA if draws.proprio_noise_BTA is None else window.proprio_BTA + draws.proprio_noise_BTA
        told = draws.history_time_BT[:, frames] if self.config.history_noise_told else None
        observed = (
            self._scene(history[:, frames], grid, told),
            self._body(proprio[:, frames], past[:, frames], first=True),
        )
        present = history[:, :imagined]
        groups = [*observed, self._video(interpolate(noise, clear, video_time[..., None, None]), grid, video_time, present)]
        glance = self._look(history[:, :-1], self._opening(window.opening_BNC), proprio[:, :-1])
        if self.config.see_imagined:
            own = draws.imagine
            ahead = self._imagined(observed, history[:, :-1], draws.video_noise_BTNC, text, grid) if own else history[:, 1:]
            groups.append(self._ahead(ahead, grid, None if own or told is None else draws.history_time_BT[:, 1:]))
            if self.outlook is not None:
                further = self.outlook(ahead.to(self.place))
                glance = further if glance is None else glance + further
        first = len(groups)
        for noise, time in (ActionDraw(draws.action_noise_BTKA, draws.action_time_BT), *draws.further):
            groups.append(self._action(interpolate(noise, actions, time[..., None, None]), time, glance))
        tokens, long_term = self._run(groups, text, grid, see_imagined=self.config.see_imagined)
        chunks = [self.action_out(noisy, group.embedding) for noisy, group in zip(tokens[first:], groups[first:], strict=True)]
        video = self._next_frame(self.video_out(tokens[2], groups[2].embedding), present)
        return video, chunks, replace(long_term, steps=latents.shape[1])

    def _run(
        self, groups: Sequence[Conditioned], text: Tensor, grid: Grid, *, see_imagined: bool
    ) -> tuple[list[Tensor], LongTermMemory]:
        """Runs groups of tokens through all blocks and memories; returns the tokens and the final long-term memory."""
        tokens = [group.tokens for group in groups]
        weights, context = [], []
        for index, block in enumerate(self.blocks):
            slot = self._memory_of.get(index)
            memory = None if slot is None else self.memories[slot]
            last = index == len(self.blocks) - 1
            tokens, seen, state = block(self._train_block, block, memory, tokens, groups, text, grid.size, last, see_imagined)
            context.append(seen)
            weights += state
        return tokens, LongTermMemory(weights=tuple(weights), context=tuple(context))

    @torch.no_grad()
    def _imagined(self, observed: Sequence[Conditioned], present: Tensor, noise: Tensor, text: Tensor, grid: Grid) -> Tensor:
        """The next frame of every step, sampled by Stage 1 as in inference from `noise`, [B, T, N, C]; without gradients."""
        times = time_grid(self.config.video_steps, self.config.video_shift)

        def velocity(point: Tensor, time_B: Tensor) -> Tensor:
            time_BT = time_B[:, None].expand(present.shape[:2])
            video = self._video(point, grid, time_BT, present)
            tokens, _ = self._run((*observed, video), text, grid, see_imagined=False)
            predicted = self._next_frame(self.video_out(tokens[2], video.embedding), present)
            return self._velocity(predicted, point, time_BT[..., None, None])

        return euler(velocity, noise, times)

    def losses(
        self,
        window: Window,
        draws: Draws,
        grid: Grid,
        *,
        valid_BT: Tensor,
        imitate_BT: Tensor,
        action_mask_BA: Tensor,
    ) -> Losses:
        """Mean squared velocity errors: video over `valid` steps, actions over `imitate` steps and channels of the mask.

        For a model that predicts the change, video is the squared error of the frames, over windows without history noise.
        """
        video, chunks, _ = self._velocities(window, draws, grid, remembered=False)
        imagined = slice(video.shape[1])
        frames, noise = window.latents_BTNC[:, 1:][:, imagined], draws.video_noise_BTNC[:, imagined]
        judged = valid_BT[:, imagined]
        target = velocity(noise, frames)
        if self.config.next_frame is NextFrame.CHANGE:
            target, judged = frames, judged & (draws.history_time_BT == 1.0).all(dim=1, keepdim=True)
        video_error = (wide(video) - target).square().mean(dim=(2, 3))
        noises = (ActionDraw(draws.action_noise_BTKA, draws.action_time_BT), *draws.further)
        action_error = torch.stack(
            [
                (wide(chunk) - velocity(noise, window.actions_BTKA)).square().mean(dim=2)
                for chunk, (noise, _) in zip(chunks, noises, strict=True)
            ]
        )
        if self.config.action_falloff:
            shares = torch.stack([(1.0 - time) ** self.config.action_falloff for _, time in noises]).to(action_error)
            action_error = action_error * (shares / self._mean_share)[..., None]
        action_error = action_error.mean(dim=0)
        weights = imitate_BT.to(action_error)[..., None] * action_mask_BA.to(action_error)[:, None]
        video_loss = _mean(video_error, judged.to(video_error))
        action_loss = _mean(action_error, weights)
        total = video_loss + self.config.action_weight * action_loss
        return Losses(total, {"video": video_loss, "action": action_loss})

    # ----------------------------------------------------------------------------------------------------------- inference

    def noise(self, latents_BNC: Tensor, generator: torch.Generator) -> Noise:
        """Draws noise of a frame, then of `action_samples` chunks for each trajectory."""
        video = torch.randn(latents_BNC.shape, generator=generator).to(latents_BNC)
        count = self.config.action_samples * len(latents_BNC)
        action = torch.randn((count, self.config.chunk, self.config.action_dim), generator=generator).to(latents_BNC)
        return Noise(video, self.config.action_temperature * action)

    def prepare(self, noise: Noise, grid: Grid) -> Preparation:
        """See `speculate.prepare`."""
        return prepare(self, grid, noise)

    def decide(self, state: LongTermMemory, noise: Noise, text: TextMemory, grid: Grid) -> Decision:
        """Runs both stages; with several chunks, decides on their mean."""
        return self._decision(*self.generate(state, *noise, text, grid), Started.at_noise(noise))

    def check(self, mode: Mode) -> None:
        """Raises ConfigError, listing what exists, for a mode that is none of `Variant` or ends between two sampling steps."""
        StepsAhead.of(mode, self.config)

    def unbegun(self, noise: Noise) -> Started:
        """The state before the first integration step."""
        return Started.at_noise(noise)

    def begin(
        self,
        state: LongTermMemory,
        noise: Noise,
        text: TextMemory,
        grid: Grid,
        mode: Mode,
        *,
        stopped: Callable[[], bool] = never,
        made: Preparation | None = None,
    ) -> Started:
        """Phase 1 (see `speculate`)."""
        return start(self, state, noise, text, grid, StepsAhead.of(mode, self.config), stopped, made)

    def finish(
        self, state: LongTermMemory, started: Started, text: TextMemory, grid: Grid, *, made: Preparation | None = None
    ) -> Decision:
        """Phase 2 (see `speculate`); with several chunks, decides on their mean."""
        return self._decision(*finish(self, state, started, text, grid, made), started)

    def _decision(self, frame: Tensor, chunks: Tensor, started: Started) -> Decision:
        """Averages the chunks of each trajectory, which are consecutive in the batch, and counts the evaluations of Phase 2."""
        left = {"video": self.config.video_steps - started.video_steps, "action": self.config.action_steps - started.action_steps}
        return Decision(chunks.unflatten(0, (len(frame), -1)).mean(dim=1), frame, left)

    # -------------------------------------------------------------------------------------------------------- large models

    def load_backbone(self, folder: Path | str) -> LoadReport:
        """Fills the blocks, text projection and both flow-time embeddings from a Wan2.2 checkpoint."""
        return load_wan(self, folder, heads=self.config.heads, times=("video_time", "action_time"), head="video_out")

    def shards(self) -> Iterator[nn.Module]:
        """Each memory layer and each block."""
        return iter((*self.memories, *self.blocks))

    def forward_flops(self, extent: Extent) -> float:
        """See `flops.forward_flops`."""
        return forward_flops(self.config, extent)

    def compile_blocks(self, **options: Any) -> None:
        """Compiles the training pass through a block with `torch.compile` and its `options`; equal blocks share the result."""
        self._block_pass = torch.compile(block_pass, dynamic=False, **options)

    def _train_block(self, *inputs: Any) -> BlockPassed:
        """`block_pass`, checkpointed if `recompute.blocks` is set."""
        if self.recompute.blocks and torch.is_grad_enabled():
            return checkpoint(self._block_pass, *inputs, self.recompute, use_reentrant=False)
        return self._block_pass(*inputs, self.recompute)


def _mean(errors: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean; 0 if all weights are 0."""
    return (errors * weights).sum() / weights.sum().clamp_min(1.0)
