"""The causal latent world model: imagines the next frame, then the actions that lead there, with a dual-state memory.

Two stages on one shared backbone: Stage 1 denoises the next frame's latents given what is remembered; Stage 2 denoises the
chunk of actions given the same and the imagined frame. Training runs a window of T steps in parallel: attention stays inside a
step, so T folds into the batch, and only the memory layers scan over T.

Who sees whom in step t (time within the step: frame t at 0, frame t + 1 at 1):
    scene    latents of frame t           attends to itself
    body     proprio and executed chunk   attends to scene and itself
    video    noisy latents of frame t+1   attends to scene, body and itself; reads the long-term memory
    action   noisy chunk t                attends to scene, body and itself; reads the working memory; glances at frame t, and aims
The memory before step t holds frames 0..t; working memory also holds the scene tokens of frame t + 1.

Shapes: B batch, T steps, N latents per frame, C latent channels, D width, A action channels, K actions per chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from embodichain.errors import ConfigError, LearnerError
from embodichain.types import ACTION_DIM, CHUNK
from learner.backbone.flow import euler, interpolate, shift_time, time_grid, velocity
from learner.backbone.layers import (
    PLACE_WAVES,
    Aim,
    Block,
    Glance,
    Head,
    KeyValue,
    Rotation,
    TimeEmbedding,
    attend,
    body_positions,
    chunk_positions,
    grid_positions,
    join,
    modulated,
    place_waves,
    rotations,
    wide,
)
from learner.memory.ttt import FastWeights, Recompute, TttLayer, apply, update
from learner.models.clwm.block_pass import BlockPassed, Conditioned, Setting, block_pass, cat_rotations
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.draws import ActionDraw, Draws, Grid, Window, draw
from learner.models.clwm.memory import LongTermMemory, WorkingMemory


class Losses(NamedTuple):
    """Flow-matching losses: their weighted sum, and the two parts, scalars."""

    total: Tensor
    video: Tensor
    action: Tensor


TextMemory = tuple[KeyValue, ...]
"""Keys and values of one instruction, per block."""


class Clwm(nn.Module):
    """The model between normalised latents and normalised actions; it holds parameters and no state."""

    def __init__(self, config: ClwmConfig, *, latent_dim: int, text_dim: int) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.video_in = nn.Linear(latent_dim, dim)
        self.action_in = nn.Linear(ACTION_DIM, dim)
        self.proprio_in = nn.Linear(ACTION_DIM, dim)
        self.text_in = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.view = nn.Parameter(0.02 * torch.randn(config.max_cameras, 1, dim))
        self.place = nn.Parameter(0.02 * torch.randn(CHUNK, dim))
        self.no_past = nn.Parameter(0.02 * torch.randn(dim))
        self.video_time = TimeEmbedding(dim, config.time_frequencies)
        self.action_time = TimeEmbedding(dim, config.time_frequencies)
        self.video_out = Head(dim, latent_dim)
        self.action_out = Head(dim, ACTION_DIM)
        blocks = [Block(dim, config.heads, config.ffn) for _ in range(config.layers)]
        memories = [TttLayer(dim, config.heads, config.ttt) for _ in config.memory_blocks]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        self.memories = cast("Sequence[TttLayer]", nn.ModuleList(memories))
        self.where = nn.Linear(2 * PLACE_WAVES * 2, config.max_cameras * dim) if config.told_place else None
        self.glance = Glance(latent_dim, config.glance, dim) if config.glance else None
        self.aim = Aim(config.aim, dim) if config.aim else None
        uniform = (torch.arange(1000, dtype=torch.float64, device="cpu") + 0.5) / 1000
        self._mean_share = float(((1.0 - shift_time(uniform, config.action_shift)) ** config.action_falloff).mean())
        self._memory_of = {block: index for index, block in enumerate(config.memory_blocks)}
        self._block_pass: Callable[..., BlockPassed] = block_pass
        self.recompute = Recompute()
        """How training trades work for memory; may be set at any time."""

    # ------------------------------------------------------------------------------------------------------------ training

    def draw(self, window: Window, generator: torch.Generator) -> Draws:
        """`draws.draw` with the settings of this model."""
        return draw(self.config, window, generator)

    def velocities(self, window: Window, draws: Draws, grid: Grid) -> tuple[Tensor, Tensor, LongTermMemory]:
        """Predicted velocities of the noisy frames [B, T, N, C] and chunks [B, T, K, A], all steps in parallel.

        With `ClwmConfig.imagined` frames of that many steps alone.

        Also returns the long-term memory after all T + 1 frames and the chunks between them.
        """
        video, actions, long_term = self._velocities(window, draws, grid, remembered=True)
        noise, time = draws.history_noise_BTNC[:, -1:], draws.history_time_BT[:, -1:, None, None]
        opening = self._opening(window.opening_BNC)
        glance = self._look(interpolate(noise, window.latents_BTNC[:, -1:], time), opening, window.proprio_BTA[:, -1:])
        return video, actions[0], replace(long_term, glance=glance, opening=opening)

    def _velocities(
        self, window: Window, draws: Draws, grid: Grid, *, remembered: bool
    ) -> tuple[Tensor, list[Tensor], LongTermMemory]:
        """`velocities`, with those of the chunks for every draw; the memory lacks the glance, which training has no use for.

        Unless all are to be `remembered`, a model without memory passes over the last frame, which nothing else reads.
        """
        latents, actions = window.latents_BTNC, window.actions_BTKA
        frames = slice(None if remembered or self._memory_of else actions.shape[1])
        share = draws.history_time_BT[..., None, None]
        history = interpolate(draws.history_noise_BTNC, latents, share)
        imagined = self.config.imagined or actions.shape[1]
        video_time = draws.video_time_BT[:, :imagined]
        clear, noise = latents[:, 1 : 1 + imagined], draws.video_noise_BTNC[:, :imagined]
        past = torch.cat([torch.zeros_like(actions[:, :1]), actions], dim=1)
        proprio = window.proprio_BTA if draws.proprio_noise_BTA is None else window.proprio_BTA + draws.proprio_noise_BTA
        told = draws.history_time_BT[:, frames] if self.config.history_noise_told else None
        groups = [
            self._scene(history[:, frames], grid, told),
            self._body(proprio[:, frames], past[:, frames], first=True),
            self._video(interpolate(noise, clear, video_time[..., None, None]), grid, video_time),
        ]
        glance = self._look(history[:, :-1], self._opening(window.opening_BNC), proprio[:, :-1])
        for noise, time in (ActionDraw(draws.action_noise_BTKA, draws.action_time_BT), *draws.further):
            groups.append(self._action(interpolate(noise, actions, time[..., None, None]), time, glance))
        text = self.text_in(window.text_BLC.to(self.place))
        tokens = [group.tokens for group in groups]
        weights, context = [], []
        for index, block in enumerate(self.blocks):
            slot = self._memory_of.get(index)
            memory = None if slot is None else self.memories[slot]
            last = index == len(self.blocks) - 1
            tokens, seen, state = block(self._train_block, block, memory, tokens, groups, text, grid.size, last)
            context.append(seen)
            weights += state
        long_term = LongTermMemory(weights=tuple(weights), context=tuple(context), steps=latents.shape[1])
        chunks = [self.action_out(noisy, group.embedding) for noisy, group in zip(tokens[3:], groups[3:], strict=True)]
        return self.video_out(tokens[2], groups[2].embedding), chunks, long_term

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
        """Mean squared velocity errors: video over `valid` steps, actions over `imitate` steps and channels of the mask."""
        video, chunks, _ = self._velocities(window, draws, grid, remembered=False)
        imagined = slice(video.shape[1])
        frames, noise = window.latents_BTNC[:, 1:][:, imagined], draws.video_noise_BTNC[:, imagined]
        video_error = (wide(video) - velocity(noise, frames)).square().mean(dim=(2, 3))
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
        video_loss = _mean(video_error, valid_BT[:, imagined].to(video_error))
        action_loss = _mean(action_error, weights)
        return Losses(video_loss + self.config.action_weight * action_loss, video_loss, action_loss)

    # ----------------------------------------------------------------------------------------------------------- inference

    def empty_memory(self, opening: Tensor | None = None) -> LongTermMemory:
        """The memory before the first frame, for any batch size; or one that starts afresh in an episode with that `opening`."""
        return LongTermMemory(weights=tuple(layer.initial() for layer in self.memories), opening=opening)

    def read_text(self, text_BLC: Tensor) -> TextMemory:
        """Keys and values of an instruction for every block: once per instruction."""
        text = self.text_in(text_BLC.to(self.place))
        return tuple(block.text_memory(text) for block in self.blocks)

    def frame_settings(self, grid: Grid) -> tuple[Setting, Setting]:
        """What `observe` needs beside what is observed: of the scene and of the body. The first is what `imagine` needs."""
        here = self.place.new_ones(1, 1)
        scene = self._setting(self._views(grid), self.video_time(here), None, grid_positions, *grid, 0.0)
        return scene, self._setting(self.place, self.action_time(here), None, body_positions, self._past)

    def video_setting(self, time_B: Tensor, grid: Grid) -> Setting:
        """What a Stage 1 evaluation at flow time s needs beside point and memory."""
        return self._setting(self._views(grid), self.video_time(time_B[:, None]), self.video_out, grid_positions, *grid, 1.0)

    def action_setting(self, time_B: Tensor) -> Setting:
        """What a Stage 2 evaluation at flow time s needs beside point and memory."""
        return self._setting(self.place, self.action_time(time_B[:, None]), self.action_out, chunk_positions, CHUNK, 0.0)

    def observe(
        self,
        memory: LongTermMemory,
        latents_BNC: Tensor,
        proprio_BA: Tensor,
        executed_BKA: Tensor | None,
        text: TextMemory,
        grid: Grid,
        made: tuple[Setting, Setting] | None = None,
    ) -> LongTermMemory:
        """Long-term memory after a real frame and the chunk executed before it (None at the first frame)."""
        past = proprio_BA.new_zeros(proprio_BA.shape[0], CHUNK, ACTION_DIM) if executed_BKA is None else executed_BKA
        scene, body = made or self.frame_settings(grid)
        tokens = [
            self._latent_tokens(latents_BNC[:, None], grid, scene.place),
            self._body_tokens(proprio_BA[:, None], past[:, None], first=executed_BKA is None),
        ]
        weights, context = self._absorb(memory.weights, tokens, [scene, body], text, last=len(self.blocks) - 1)
        opening = self._opening(latents_BNC) if memory.opening is None else memory.opening
        glance = self._look(latents_BNC[:, None], opening, proprio_BA[:, None])
        return LongTermMemory(weights=weights, context=context, glance=glance, opening=opening, steps=memory.steps + 1)

    def imagine(
        self, working: WorkingMemory, latents_BNC: Tensor, text: TextMemory, grid: Grid, made: Setting | None = None
    ) -> WorkingMemory:
        """Working memory after its one update, with the frame that Stage 1 predicted."""
        if not self._memory_of:
            return working.imagine(())
        scene = made or self.frame_settings(grid)[0]
        tokens = [self._latent_tokens(latents_BNC[:, None], grid, scene.place)]
        weights, _ = self._absorb(working.weights, tokens, [scene], text, last=max(self._memory_of))
        return working.imagine(weights)

    def video_velocity(
        self, memory: WorkingMemory, point_BNC: Tensor, time_B: Tensor, text: TextMemory, grid: Grid, made: Setting | None = None
    ) -> Tensor:
        """Stage 1: velocity of the noisy next frame at flow time s, [B, N, C]. Reads the memory, changes nothing."""
        setting = made or self.video_setting(time_B, grid)
        tokens = self._latent_tokens(point_BNC[:, None], grid, setting.place)
        return self._consult(memory, tokens, setting, text, self.video_out)[:, 0]

    def action_velocity(
        self, memory: WorkingMemory, point_BKA: Tensor, time_B: Tensor, text: TextMemory, made: Setting | None = None
    ) -> Tensor:
        """Stage 2: velocity of the noisy chunk at flow time s, [B, K, A]. Reads the memory, changes nothing.

        There may be several chunks for each trajectory that the memory is of: n B in all, those of one after each other.
        """
        count = len(point_BKA) // len(memory.context[0].keys)
        if count > 1:
            memory, text = memory.spread(count), tuple(entry.spread(count) for entry in text)
        setting = made or self.action_setting(time_B)
        tokens = self._action_tokens(point_BKA[:, None], memory.glance, setting.place)
        return self._consult(memory, tokens, setting, text, self.action_out)[:, 0]

    def generate(
        self, memory: LongTermMemory, video_noise_BNC: Tensor, action_noise_BKA: Tensor, text: TextMemory, grid: Grid
    ) -> tuple[Tensor, Tensor]:
        """The next frame [B, N, C] and the chunk that leads there [B, K, A], both normalised; `memory` stays as it is.

        Of noises for n B chunks all n B are made.
        """
        working = memory.fork()
        video_grid = time_grid(self.config.video_steps, self.config.video_shift)
        frame = euler(lambda x, s: self.video_velocity(working, x, s, text, grid), video_noise_BNC, video_grid)
        working = self.imagine(working, frame, text, grid)
        action_grid = time_grid(self.config.action_steps, self.config.action_shift)
        chunk = euler(lambda x, s: self.action_velocity(working, x, s, text), action_noise_BKA, action_grid)
        return frame, chunk

    def compile_blocks(self, **options: Any) -> None:
        """Has `torch.compile` make training's pass through a block, once for all that are alike; options are its own."""
        self._block_pass = torch.compile(block_pass, dynamic=False, **options)

    def _train_block(self, *inputs: Any) -> BlockPassed:
        """`block_pass`, kept for the backward pass or not."""
        if self.recompute.blocks and torch.is_grad_enabled():
            return checkpoint(self._block_pass, *inputs, self.recompute, use_reentrant=False)
        return self._block_pass(*inputs, self.recompute)

    # ------------------------------------------------------------------------------------------------------------- passes

    def _absorb(
        self, weights: tuple[FastWeights, ...], tokens: list[Tensor], settings: list[Setting], text: TextMemory, *, last: int
    ) -> tuple[tuple[FastWeights, ...], tuple[KeyValue, ...]]:
        """Runs scene tokens, and body tokens if any, through the blocks up to `last` and writes them into the memory of each."""
        rotations = [setting.rotation for setting in settings]
        sizes = [group.shape[2] for group in tokens]
        scanned = cat_rotations(*rotations)
        written, context = [], []
        for index, block in enumerate(self.blocks[: last + 1]):
            modulations = [setting.modulations[index] for setting in settings]
            projected = block.project(tokens, modulations, rotations)
            seen = [projected[0].own]
            for body in projected[1:]:
                seen.append(join(seen[-1], body.own))
            context.append(seen[-1])
            slot = self._memory_of.get(index)
            if index == last and slot is None:
                break  # nobody reads or remembers what tokens become here
            attended = [attend(group.queries, whom) for group, whom in zip(projected, seen, strict=True)]
            tokens = block.merge(tokens, attended, modulations)
            if slot is not None:
                layer, state = self.memories[slot], weights[slot]
                frame = torch.cat(tokens, dim=2)
                write = layer.writes(frame, scanned, sizes[0])
                written.append(update(state, *(part[:, 0] for part in write)))
                if index != last:
                    tokens = list(self._recall(layer, state, frame, scanned).split(sizes, dim=2))
            if index != last:
                tokens = block.express(tokens, modulations, text[index])
        return tuple(written), tuple(context)

    def _consult(self, memory: WorkingMemory, tokens: Tensor, setting: Setting, text: TextMemory, head: Head) -> Tensor:
        """Runs noisy tokens through the blocks, reading the memory, and projects what they became."""
        for index, block in enumerate(self.blocks):
            modulation = [setting.modulations[index]]
            (projected,) = block.project([tokens], modulation, [setting.rotation])
            attended = attend(projected.queries, join(memory.context[index], projected.own))
            (tokens,) = block.merge([tokens], [attended], modulation)
            slot = self._memory_of.get(index)
            if slot is not None:
                tokens = self._recall(self.memories[slot], memory.weights[slot], tokens, setting.rotation)
            (tokens,) = block.express([tokens], modulation, text[index])
        return head.output(modulated(tokens, *setting.head))

    @staticmethod
    def _recall(layer: TttLayer, state: FastWeights, tokens: Tensor, rotation: Rotation) -> Tensor:
        return layer.gated(tokens, apply(state, layer.queries(tokens, rotation)[:, 0])[:, None])

    # ------------------------------------------------------------------------------------------------------------- tokens

    def _scene(self, latents_BTNC: Tensor, grid: Grid, time_BT: Tensor | None) -> Conditioned:
        return self._latents(latents_BTNC, grid, 0.0, latents_BTNC.new_ones(1, 1) if time_BT is None else time_BT)

    def _video(self, latents_BTNC: Tensor, grid: Grid, time_BT: Tensor) -> Conditioned:
        return self._latents(latents_BTNC, grid, 1.0, time_BT)

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
        """What tells latents which camera saw them and, where the model is told, where in its picture, [N, D]."""
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
        """How many executed actions the model sees with a frame."""
        return CHUNK if self.config.told_past else 0

    def _action(self, actions_BTKA: Tensor, time_BT: Tensor, glance_BT1D: Tensor | None) -> Conditioned:
        tokens = self._action_tokens(actions_BTKA, glance_BT1D, self.place)
        return self._condition(tokens, self.action_time(time_BT), chunk_positions, CHUNK, 0.0)

    def _action_tokens(self, actions_BTKA: Tensor, glance_BT1D: Tensor | None, place: Tensor) -> Tensor:
        tokens = self.action_in(actions_BTKA.to(self.place)) + place
        return tokens if glance_BT1D is None else tokens + glance_BT1D

    def _look(self, latents_BTNC: Tensor, opening_BM: Tensor | None, proprio_BTA: Tensor) -> Tensor | None:
        """What actions are told at once of each frame, [B, T, 1, D]: frames at a glance, and the aim."""
        latents = latents_BTNC.to(self.place)
        glance = None if self.glance is None else self.glance(latents)
        if self.aim is None or opening_BM is None:
            return glance
        aim = self.aim(self.aim.moments(latents), opening_BM, proprio_BTA.to(self.place))
        return aim if glance is None else glance + aim

    def _opening(self, latents_BNC: Tensor | None) -> Tensor | None:
        """What the aim keeps of an episode's first frame, [B, M]."""
        if self.aim is None:
            return None
        if latents_BNC is None:
            raise LearnerError("this model aims by the first frame of each trajectory, and the window lacks it (opening_BNC)")
        return self.aim.moments(latents_BNC.to(self.place))

    def _condition(self, tokens: Tensor, time: tuple[Tensor, Tensor], *positions: Any) -> Conditioned:
        return Conditioned(tokens, *time, self._rotation(*positions))

    def _setting(self, place: Tensor, time: tuple[Tensor, Tensor], head: Head | None, *positions: Any) -> Setting:
        modulations = tuple(block.modulation(time[1]) for block in self.blocks)
        return Setting(place, modulations, () if head is None else head.modulation(time[0]), self._rotation(*positions))

    def _rotation(self, positions: Callable[..., Tensor], *arguments: float) -> Rotation:
        return rotations(positions, arguments, self.config.dim // self.config.heads, self.place)


def _mean(errors: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean; 0 where nothing has weight."""
    return (errors * weights).sum() / weights.sum().clamp_min(1.0)
