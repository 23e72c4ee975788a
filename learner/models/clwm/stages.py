"""Inference of the Causal Latent World Model: observe a frame, imagine the next one (Stage 1), decide the chunk (Stage 2).

Shapes: B batch, T steps, N latents per frame, C latent channels, D width, A action channels, K actions per chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learner.backbone.flow import euler, time_grid
from learner.backbone.grid import Grid
from learner.backbone.layers import (
    Head,
    KeyValue,
    Rotation,
    attend,
    grid_positions,
    join,
    modulated,
)
from learner.memory.ttt import FastWeights, TttLayer, apply, update
from learner.models.clwm.block_pass import BlockSetting, cat_rotations
from learner.models.clwm.inputs import Preparation, TextMemory
from learner.models.clwm.memory import LongTermMemory, WorkingMemory
from learner.models.clwm.parts import ClwmParts
from learner.models.world_model import Seen


class ClwmStages(ClwmParts):
    """Inference on a given memory, which is never changed: every method returns new values."""

    def empty(self, opening: Tensor | None = None) -> LongTermMemory:
        """The memory before the first frame, for any batch size. `opening` keeps the image moments of an episode's first frame."""
        return LongTermMemory(weights=tuple(layer.initial() for layer in self.memories), opening=opening)

    def restart(self, state: LongTermMemory, span: int) -> LongTermMemory:
        """Empties a memory that holds `span` frames, as training windows began with an empty one; keeps the first frame's moments.

        With span 0, for a model trained along whole episodes, the memory is never emptied.
        """
        return self.empty(state.opening) if span and state.steps >= span else state

    def read_text(self, text_BLC: Tensor) -> TextMemory:
        """Keys and values of an instruction for every block; computed once for each instruction."""
        text = self.text_in(text_BLC.to(self.place))
        return tuple(block.text_memory(text) for block in self.blocks)

    def observe(
        self, state: LongTermMemory, seen: Seen, text: TextMemory, grid: Grid, made: Preparation | None = None
    ) -> LongTermMemory:
        """Long-term memory after a real frame and the chunk executed before it."""
        memory, (latents_BNC, proprio_BA, executed_BKA) = state, seen[:3]
        none = (proprio_BA.shape[0], self.config.chunk, self.config.action_dim)
        past = proprio_BA.new_zeros(none) if executed_BKA is None else executed_BKA
        scene, body = made.frame if made else self.frame_settings(grid)
        tokens = [
            self._latent_tokens(latents_BNC[:, None], grid, scene.place),
            self._body_tokens(proprio_BA[:, None], past[:, None], first=executed_BKA is None),
        ]
        weights, context = self._absorb(memory.weights, tokens, [scene, body], text, last=len(self.blocks) - 1)
        opening = self._opening(latents_BNC) if memory.opening is None else memory.opening
        glance = self._look(latents_BNC[:, None], opening, proprio_BA[:, None])
        kept = self._kept(latents_BNC)
        steps = memory.steps + 1
        return LongTermMemory(weights=weights, context=context, glance=glance, frame=kept, opening=opening, steps=steps)

    def imagine(
        self, working: WorkingMemory, latents_BNC: Tensor, text: TextMemory, grid: Grid, made: BlockSetting | None = None
    ) -> WorkingMemory:
        """Working memory after its update with the frame that Stage 1 predicted; with `see_imagined`, also with its tokens."""
        see = self.config.see_imagined
        if not self._memory_of and not see:
            return working.imagine(())
        scene = made or self.frame_settings(grid)[0]
        tokens = [self._latent_tokens(latents_BNC[:, None], grid, scene.place)]
        if not see:
            weights, _ = self._absorb(working.weights, tokens, [scene], text, last=max(self._memory_of))
            return working.imagine(weights)
        ahead = scene._replace(rotation=self._rotation(grid_positions, *grid, 1.0))
        last = len(self.blocks) - 1
        weights, context = self._absorb(working.weights, tokens, [ahead], text, last=last, scanned=scene.rotation)
        glance = None if self.outlook is None else self.outlook(latents_BNC[:, None].to(self.place))
        return working.imagine(weights, context, glance)

    def video_velocity(
        self,
        memory: WorkingMemory,
        point_BNC: Tensor,
        time_B: Tensor,
        text: TextMemory,
        grid: Grid,
        made: BlockSetting | None = None,
    ) -> Tensor:
        """Stage 1: velocity of the noisy next frame at flow time s, [B, N, C]. Reads the memory, changes nothing."""
        setting = made or self.video_setting(time_B, grid)
        present = None if memory.frame is None else memory.frame[:, None]
        tokens = self._video_tokens(point_BNC[:, None], grid, setting.place, present)
        put_out = self._consult(memory, tokens, setting, text, self.video_out)[:, 0]
        return self._velocity(self._next_frame(put_out, memory.frame), point_BNC, time_B[:, None, None])

    def action_velocity(
        self, memory: WorkingMemory, point_BKA: Tensor, time_B: Tensor, text: TextMemory, made: BlockSetting | None = None
    ) -> Tensor:
        """Stage 2: velocity of the noisy chunk at flow time s, [B, K, A]. Reads the memory, changes nothing.

        For a memory of B trajectories there may be n B chunks; the n chunks of a trajectory are consecutive in the batch.
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
        """The next frame [B, N, C] and the chunk [B, K, A] that leads to it, both normalised; `memory` is not changed.

        With noise for n B chunks, returns all n B.
        """
        working = memory.fork()
        video_grid = time_grid(self.config.video_steps, self.config.video_shift)
        frame = euler(lambda x, s: self.video_velocity(working, x, s, text, grid), video_noise_BNC, video_grid)
        working = self.imagine(working, frame, text, grid)
        action_grid = time_grid(self.config.action_steps, self.config.action_shift)
        chunk = euler(lambda x, s: self.action_velocity(working, x, s, text), action_noise_BKA, action_grid)
        return frame, chunk

    # ------------------------------------------------------------------------------------------------------------- passes

    def _absorb(
        self,
        weights: tuple[FastWeights, ...],
        tokens: list[Tensor],
        settings: list[BlockSetting],
        text: TextMemory,
        *,
        last: int,
        scanned: Rotation | None = None,
    ) -> tuple[tuple[FastWeights, ...], tuple[KeyValue, ...]]:
        """Runs scene tokens, and body tokens if given, through the blocks up to `last` and writes them into each block's memory.

        `scanned` are the rotary embeddings for writing, if they differ from those of attention: attention sees imagined frames one
        step ahead, but the memory stores them as it will store the real frame.
        """
        rotations = [setting.rotation for setting in settings]
        sizes = [group.shape[2] for group in tokens]
        scanned = cat_rotations(*rotations) if scanned is None else scanned
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
                break  # after the last memory, the tokens themselves are not needed any more
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

    def _consult(self, memory: WorkingMemory, tokens: Tensor, setting: BlockSetting, text: TextMemory, head: Head) -> Tensor:
        """Runs noisy tokens through the blocks, reading the memory, and applies the output head."""
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
