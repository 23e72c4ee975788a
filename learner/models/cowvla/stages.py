"""Inference of CoWVLA: autoregressive decoding with a key-value cache of the last steps.

Action tokens are restricted to those that fit into the rest of the chunk, so that every decoded chunk is complete. Chunks have
different numbers of tokens, so each sample of a batch has a memory of its own.

Shapes: N codes a frame, D width, A action channels, S new tokens; batches of one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from learner.backbone.grid import Grid
from learner.backbone.layers import KeyValue, Rotation, join
from learner.memory.kv_cache import Entry, Kind, KvMemory
from learner.models.cowvla.parts import CowvlaParts, TextMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeMemory:
    """The memory of one episode: completed steps, and the current step up to its motion query."""

    memory: KvMemory
    open: tuple[KeyValue, ...] = ()
    steps: int = 0
    hint: Tensor | None = None
    opening: Tensor | None = None
    motion: Tensor | None = None
    """Predicted motion of the clip that begins now, standardised, [1, M]."""

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        others = [x for x in (self.hint, self.opening, self.motion) if x is not None]
        held = [x for block in self.open for x in block] + others
        return self.memory.size_bytes + sum(x.numel() * x.element_size() for x in held)


class CowvlaStages(CowvlaParts):
    """Inference on a given memory, which is never changed: every method returns new values."""

    def fresh(self) -> EpisodeMemory:
        """The memory before the first frame."""
        return EpisodeMemory(memory=KvMemory(window=self.config.span - 1))

    def look(
        self, sample: EpisodeMemory, codes_1N: Tensor, latents_1NC: Tensor, proprio_1A: Tensor, text: TextMemory, grid: Grid
    ) -> EpisodeMemory:
        """Begins a step with a keyframe; the step before must have been completed by `close`."""
        tokens = self.view_tokens(codes_1N, proprio_1A, grid)
        rotation = _part(self.rotation(sample.steps, grid, 0), 0, tokens.shape[1])
        context = sample.memory.seen(sample.steps)
        hidden, kept = self.extend(tokens, rotation, context, text)
        latents = latents_1NC.to(self.view)
        opening = self.hints.opening(latents) if sample.opening is None else sample.opening
        hint = self.hints(latents[:, None], opening, proprio_1A[:, None].to(self.view))
        motion = None if self.motion_out is None else self.motion_out(hidden[:, -1])
        return replace(
            sample, open=kept, steps=sample.steps + 1, hint=None if hint is None else hint[:, 0], opening=opening, motion=motion
        )

    def close(self, sample: EpisodeMemory, tokens: list[int], text: TextMemory, grid: Grid) -> EpisodeMemory:
        """Completes the current step with the actions that were executed."""
        step = sample.steps - 1
        given = torch.tensor([tokens], device=self.view.device)
        whole = self.rotation(step, grid, len(tokens))
        first = len(whole.cos) - len(tokens) - 1
        _, kept = self.extend(
            self.action_tokens(given, sample.hint), _part(whole, first, len(whole.cos)), self._before(sample, sample.open), text
        )
        entry = Entry(id=step, kind=Kind.REAL, kept=tuple(join(a, b) for a, b in zip(sample.open, kept, strict=True)))
        return replace(sample, memory=sample.memory.append(entry).evict(step + 1), open=())

    def speak(self, sample: EpisodeMemory, text: TextMemory, grid: Grid) -> tuple[list[int], int]:
        """Greedily decodes the next chunk's tokens among those that still fit; also counts how often that changed the choice."""
        step, left, overruled = sample.steps - 1, self.fast.num_symbols, 0
        whole = self.rotation(step, grid, left)
        place = len(whole.cos) - left - 1
        context: tuple[KeyValue, ...] = self._before(sample, sample.open)
        embedded = self.action_tokens(torch.zeros(1, 0, dtype=torch.long, device=self.view.device), sample.hint)
        tokens: list[int] = []
        while left:
            hidden, kept = self.extend(embedded, _part(whole, place, place + 1), context, text)
            logits = self.action_out(hidden[0, -1])
            wanted = int(logits.argmax())
            allowed = torch.from_numpy(self.fast.allowed(left)).to(logits.device)
            token = int(logits.masked_fill(~allowed, -torch.inf).argmax())
            overruled += token != wanted
            tokens.append(token)
            left -= int(self.fast.lengths[token])
            context = tuple(join(a, b) for a, b in zip(context, kept, strict=True))
            embedded = self.action_tokens(torch.tensor([[token]], device=self.view.device), sample.hint)[:, 1:]
            place += 1
        return tokens, overruled

    def predict_codes(self, sample: EpisodeMemory, text: TextMemory, grid: Grid) -> Tensor:
        """Greedily decodes the codes [1, N] of the keyframe after the last completed step; `sample` is not changed."""
        whole, context = self.rotation(sample.steps, grid, 0), sample.memory.seen(sample.steps)
        embedded, found = self.begin_view.expand(1, 1, -1), []
        for place in range(grid.size):
            hidden, kept = self.extend(embedded, _part(whole, place, place + 1), context, text)
            found.append(self.code_out(hidden[:, -1]).argmax(dim=-1, keepdim=True))
            context = kept if context is None else tuple(b if a is None else join(a, b) for a, b in zip(context, kept, strict=True))
            embedded = self.code_tokens(found[-1], grid, place)
        return torch.cat(found, dim=1)

    def extend(
        self, tokens: Tensor, rotation: Rotation, context: tuple[KeyValue | None, ...] | None, text: TextMemory
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Runs new tokens [1, S, D] after a context; returns their normalised outputs, and their keys and values."""
        count, still = tokens.shape[1], self.still()
        tokens, kept = tokens.unsqueeze(1), []
        for index, block in enumerate(self.blocks):
            modulation = [block.modulation(still)]
            (projected,) = block.project([tokens], modulation, [rotation])
            kept.append(projected.own)
            past = None if context is None else context[index]
            seen = projected.own if past is None else join(past, projected.own)
            before = seen.keys.shape[-2] - count
            mask = torch.ones(count, before + count, dtype=torch.bool, device=tokens.device).tril(before)
            attended = F.scaled_dot_product_attention(projected.queries[:, 0], seen.keys[:, 0], seen.values[:, 0], attn_mask=mask)
            (tokens,) = block.merge([tokens], [attended.unsqueeze(1)], modulation)
            (tokens,) = block.express([tokens], modulation, text[index])
        return self.norm(tokens[:, 0]), tuple(kept)

    def _before(self, sample: EpisodeMemory, kept: tuple[KeyValue, ...]) -> tuple[KeyValue, ...]:
        """The context of further tokens of the current step: completed steps within the span, and the current step so far."""
        past = sample.memory.seen(sample.steps - 1)
        if past is None:
            return kept
        return tuple(own if old is None else join(old, own) for old, own in zip(past, kept, strict=True))


def _part(rotation: Rotation, first: int, end: int) -> Rotation:
    return Rotation(rotation.cos[first:end], rotation.sin[first:end])
