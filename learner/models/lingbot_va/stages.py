"""Inference of LingBot-VA with a key-value cache: observe, denoise frames and actions, predict by forward dynamics.

A pass reads exactly the cache entries that its id may see, so that inference equals training under its mask.

Shapes: B batch (2B with guidance: with the instruction, then without), F frames, N latents a frame, A action channels, K actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from learner.backbone.flow import euler, shift_time, time_grid
from learner.backbone.grid import Grid
from learner.backbone.layers import KeyValue, join
from learner.backbone.packed import Group, as_step, beside, project, settle
from learner.memory.kv_cache import Entry, Kind, KvMemory
from learner.models.lingbot_va.parts import LingbotParts
from learner.models.lingbot_va.state import Noise, Remembered, TextMemory

Context = tuple[KeyValue | None, ...]
"""The keys and values that a group sees besides its own, one entry for each block."""


class LingbotStages(LingbotParts):
    """Inference on a given memory, which is never changed: every method returns new values."""

    def empty(self) -> Remembered:
        """The memory before the first frame."""
        return Remembered(memory=KvMemory(window=self.config.span))

    def absorb(
        self,
        state: Remembered,
        latents_BFNC: Tensor,
        proprio_BFA: Tensor,
        executed_BFKA: Tensor | None,
        text: TextMemory,
        grid: Grid,
        *,
        partial_BFNC: Tensor | None = None,
    ) -> Remembered:
        """The memory after F frames that make one chunk, and the actions before each (None before the first frame).

        Real frames replace all predicted entries since the last real one. Predicted frames are given twice: fully denoised
        (`latents_BFNC`), for the hints, and at flow time s_v (`partial_BFNC`), for the memory.
        """
        real, kind = partial_BFNC is None, Kind.REAL if partial_BFNC is None else Kind.PREDICTED
        if real:
            state = replace(state, memory=state.memory.without(Kind.PREDICTED), predicted=0, predicted_chunks=0)
        frames, (chunk, first) = latents_BFNC.shape[1], self._next(state)
        if executed_BFKA is None:
            executed_BFKA = proprio_BFA.new_zeros(len(proprio_BFA), frames, self.config.chunk, self.config.action_dim)
        hint, opening = self._hint(state, latents_BFNC[:, -1:], proprio_BFA[:, -1:])
        if partial_BFNC is not None:
            latents_BFNC = partial_BFNC
        if self.is_guided:
            latents_BFNC, proprio_BFA, executed_BFKA = (torch.cat([x, x]) for x in (latents_BFNC, proprio_BFA, executed_BFKA))
        scene = self.frame_group(latents_BFNC, self.clean if real else self.clean * self.config.until, first, grid)
        body = [self.action_group(executed_BFKA, self.clean, first), *self.state_group(proprio_BFA, first)]
        kept = self._write(scene, body, state.memory, 2 * chunk, text)
        entries = [Entry(id=2 * chunk + late, kind=kind, kept=part) for late, part in enumerate(kept)]
        after = replace(state, memory=state.memory.append(*entries), hint=hint, opening=opening)
        if not real:  # evict nothing: the real frame that will replace this entry has an earlier id and sees further back
            return replace(after, predicted=state.predicted + frames, predicted_chunks=state.predicted_chunks + 1)
        memory = after.memory.evict(2 * chunk + 2)
        return replace(after, memory=memory, steps=state.steps + frames, chunks=state.chunks + 1)

    def imagine(self, state: Remembered, noise: Noise, text: TextMemory, grid: Grid) -> tuple[Tensor, Tensor, Entry]:
        """The next chunk's frames at flow time s_v and fully denoised, each [B, F, N, C], and the cache entry to decide with."""
        chunk, first = self._next(state)
        context = self._context(state.memory.seen(2 * chunk))

        def field(point: Tensor, time: Tensor) -> Tensor:
            return self._frames(point, time, first, context, text, grid)[0]

        partial = euler(field, noise.video_BFNC, self.video_grid)
        until = partial.new_full((len(partial),), self.config.until)
        velocity, kept = self._frames(partial, until, first, context, text, grid)
        entry = Entry(id=2 * chunk, kind=Kind.PREDICTED, kept=kept)
        return partial, partial + (1.0 - self.config.until) * velocity, entry

    def act(self, state: Remembered, imagined: Entry, noise: Noise, text: TextMemory) -> Tensor:
        """The actions [B, F, K, A] that lead to the imagined frames; the mean over samples."""
        chunk, first = self._next(state)
        context = self._context(state.memory.append(imagined).seen(2 * chunk + 1))
        batch, samples = len(noise.video_BFNC), len(noise.action_BFKA) // len(noise.video_BFNC)
        if self.is_guided:  # actions are not guided: they need only the half of the batch that has the instruction
            context = tuple(kv and KeyValue(kv.keys[:batch], kv.values[:batch]) for kv in context)
            text = tuple((video, KeyValue(kv.keys[:batch], kv.values[:batch])) for video, kv in text)
        hint = state.hint
        if samples > 1:
            context = tuple(kv and kv.spread(samples) for kv in context)
            text = tuple((video, kv.spread(samples)) for video, kv in text)
            hint = None if hint is None else hint.repeat_interleave(samples, dim=0)

        def field(point: Tensor, time: Tensor) -> Tensor:
            group = self.action_group(point, time[:, None], first, hint)
            tokens, _ = self._run(group, context, text)
            return self.action_out(tokens, group.embedding)

        chunks = euler(field, noise.action_BFKA, time_grid(self.config.action_steps, self.config.action_shift))
        return chunks if samples == 1 else chunks.unflatten(0, (batch, samples)).mean(dim=1)

    def forward_dynamics(
        self, state: Remembered, executed_BFKA: Tensor, noise_BFNC: Tensor, text: TextMemory, grid: Grid
    ) -> tuple[Tensor, Tensor]:
        """The frames that the given chunks lead to, at flow time s_v and fully denoised, each [B, F, N, C]."""
        chunk, first = self._next(state)
        history = self._context(state.memory.seen(2 * chunk))
        given = torch.cat([executed_BFKA] * 2) if self.is_guided else executed_BFKA
        _, bare = self._run(self.action_group(given, self.clean, first), history, text, only_keep=True)
        context = tuple(own if past is None else join(past, own) for past, own in zip(history, bare, strict=True))

        def field(point: Tensor, time: Tensor) -> Tensor:
            return self._frames(point, time, first, context, text, grid)[0]

        partial = euler(field, noise_BFNC, self.video_grid)
        until = partial.new_full((len(partial),), self.config.until)
        return partial, partial + (1.0 - self.config.until) * field(partial, until)

    @property
    def video_grid(self) -> Tensor:
        """Flow times for denoising frames, from noise to s_v on the shifted grid."""
        shift = self.config.video_shift
        stop = float(shift_time(torch.tensor(self.config.until, dtype=torch.float64), 1.0 / shift))
        return time_grid(self.config.video_steps, shift, stop=stop)

    # ------------------------------------------------------------------------------------------------------------- passes

    def _next(self, state: Remembered) -> tuple[int, int]:
        """The numbers of the next chunk and of its first frame."""
        return state.chunks + state.predicted_chunks, state.steps + state.predicted

    def _context(self, seen: tuple[KeyValue | None, ...] | None) -> Context:
        return (None,) * self.config.layers if seen is None else seen

    def _hint(self, state: Remembered, latents_B1NC: Tensor, proprio_B1A: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The hint for actions after a frame, and the image moments of the episode's first frame."""
        latents = latents_B1NC.to(self.view)
        opening = self.hints.opening(latents[:, 0]) if state.opening is None else state.opening
        return self.hints(latents, opening, proprio_B1A.to(self.place)), opening

    def _frames(
        self, point: Tensor, time: Tensor, first: int, context: Context, text: TextMemory, grid: Grid
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Velocity [B, F, N, C] of noisy frames at flow times [B], with guidance if it is on, and their keys and values."""
        if self.is_guided:
            point, time = torch.cat([point, point]), torch.cat([time, time])
        group = self.frame_group(point, time[:, None], first, grid)
        tokens, kept = self._run(group, context, text)
        velocity = self.video_out(tokens, group.embedding)
        if self.is_guided:
            told, silent = velocity.chunk(2)
            velocity = silent + self.config.cfg_video * (told - silent)
        return velocity, kept

    def _run(
        self, group: Group, context: Context, text: TextMemory, *, only_keep: bool = False
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Runs a group through all blocks with its context; returns tokens, keys and values. `only_keep` skips the final tokens."""
        tokens, kept = group.tokens, []
        for index, blocks in enumerate(self.layers):
            (projected,) = project(blocks, [tokens], [group])
            kept.append(as_step(projected.own))
            if only_keep and index == self.config.layers - 1:
                break
            attended = beside(projected, context[index])
            (tokens,) = settle(blocks, [tokens], [attended], [group], text[index])
        return tokens, tuple(kept)

    def _write(
        self, scene: Group, body: Sequence[Group], memory: KvMemory, now: int, text: TextMemory
    ) -> tuple[tuple[KeyValue, ...], tuple[KeyValue, ...]]:
        """Keys and values for the cache, for every block: of a chunk's frames, id `now`, and of its body, id `now` + 1."""
        groups = [scene, *body]
        of_frames, of_body = self._context(memory.seen(now)), self._context(memory.seen(now + 1))
        tokens = [group.tokens for group in groups]
        frames: list[KeyValue] = []
        done: list[KeyValue] = []
        for index, blocks in enumerate(self.layers):
            projected = project(blocks, tokens, groups)
            seen, *parts = (as_step(part.own) for part in projected)
            together = parts[0]
            for part in parts[1:]:
                together = join(together, part)
            frames.append(seen)
            done.append(together)
            if index == self.config.layers - 1:
                break  # the outputs of the last block are not needed
            past = of_body[index]
            attended = [beside(projected[0], of_frames[index])]
            for number, part in enumerate(projected[1:]):
                others = [seen if past is None else join(past, seen), *parts[:number], *parts[number + 1 :]]
                context = others[0]
                for other in others[1:]:
                    context = join(context, other)
                attended.append(beside(part, context))
            tokens = settle(blocks, tokens, attended, groups, text[index])
        return tuple(frames), tuple(done)
