"""CoWVLA: a keyframe as codes, a query for the motion that follows, and actions as tokens, all in one causal sequence.

After "Chain of World: World Model Thinking in Latent Motion" (CoWVLA). The keyframe of a step is what was seen; motion and the next
keyframe are predicted beside the actions, so that what the model thinks of is what will move.

Shapes: B batch, T steps, N codes a frame, D width, A action channels, S tokens of the sequence, M numbers of motion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from embodichain.errors import ConfigError, LearnerError
from learner.backbone.grid import Grid
from learner.backbone.layers import Block, KeyValue, Rotation
from learner.backbone.packed import Group, masked, project, settle
from learner.models.cowvla.flops import forward_flops
from learner.models.cowvla.parts import TextMemory
from learner.models.cowvla.sequence import Layout, visible
from learner.models.cowvla.stages import CowvlaStages, Sample
from learner.models.window import Extent, Window
from learner.models.world_model import Decision, Losses, Prepared, Seen

AHEAD = 4
"""Chunks that a clip reaches beyond its first frame."""


class Draws(NamedTuple):
    """All that is random in a training step: noise on the measured states."""

    proprio_noise_BTA: Tensor | None


class Predicted(NamedTuple):
    """What a training step predicts, and what was asked: [B, T, ..] each; None where it is switched off."""

    actions: Tensor | None
    """Logits [B, T, tokens, vocabulary]."""
    wanted: Tensor | None
    """Tokens int64 [B, T, tokens], -1 where there are none."""
    keyframes: Tensor | None
    """Logits [B, T, N, codes] of the codes of every keyframe."""
    motion: Tensor | None
    """[B, T, M]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """One memory for each sample of the batch. Immutable."""

    samples: tuple[Sample, ...] = ()

    @property
    def steps(self) -> int:
        """Frames observed."""
        return self.samples[0].steps if self.samples else 0

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors: bounded by what `span` steps hold."""
        return sum(sample.size_bytes for sample in self.samples)


class Cowvla(CowvlaStages):
    """CoWVLA: parameters, and no state."""

    # ------------------------------------------------------------------------------------------------------------ training

    def draw(self, window: Window, generator: torch.Generator) -> Draws:
        """Noise on the measured states, where there is any."""
        if not self.config.proprio_noise:
            return Draws(None)
        noise = torch.randn(window.proprio_BTA.shape, generator=generator)
        return Draws(self.config.proprio_noise * noise.to(window.proprio_BTA))

    def frames_of(self, window: Window) -> list[int]:
        """Which frames of a window are keyframes of the sequence."""
        steps = window.actions_BTKA.shape[1]
        if steps < AHEAD:
            raise ConfigError(f"a window of {steps} chunks holds no clip of {AHEAD}: set data.window to {AHEAD} or more")
        return [0, AHEAD] if self.config.pretrain else list(range(steps - AHEAD + 1))

    def predict(self, window: Window, draws: Draws, grid: Grid, valid_BT: Tensor) -> Predicted:
        """Everything that the sequence predicts, in one masked pass."""
        if window.codes_BTN is None:
            raise LearnerError("this model reads codes, and the window lacks them (codes_BTN): use codec vq")
        frames, layout = self.frames_of(window), self.layout(grid.size)
        proprio = window.proprio_BTA if draws.proprio_noise_BTA is None else window.proprio_BTA + draws.proprio_noise_BTA
        wanted = None if self.config.pretrain else self._wanted(window, len(frames))
        tokens, used = self._tokens(window, proprio, frames, wanted, layout, grid, valid_BT)
        rotation = self._rotation(frames, layout, grid)
        mask = visible(layout, len(frames), self.config.span, used)
        hidden = tokens.unsqueeze(1)
        still = self.still()
        for block, words in zip(self.blocks, self.read_text(window.text_BLC), strict=True):
            hidden = block(self._train_block, block, hidden, still, rotation, mask, words)
        steps = self.norm(hidden[:, 0]).unflatten(1, (len(frames), layout.size))
        actions = None if wanted is None else self.action_out(steps[:, :, layout.view : layout.view + layout.actions])
        keyframes = self.code_out(steps[:, :, : layout.codes]) if self.config.keyframes else None
        motion = None if self.motion_out is None else self.motion_out(steps[:, :, layout.view - 1])
        return Predicted(actions, wanted, keyframes, motion)

    def losses(
        self, window: Window, draws: Draws, grid: Grid, *, valid_BT: Tensor, imitate_BT: Tensor, action_mask_BA: Tensor
    ) -> Losses:
        """Cross entropy of actions and of keyframes after the first, squared error of motions; each a masked mean."""
        config, frames = self.config, self.frames_of(window)
        found = self.predict(window, draws, grid, valid_BT)
        seen = torch.cat([torch.ones_like(valid_BT[:, :1]), valid_BT], dim=1)[:, frames]
        parts: dict[str, Tensor] = {}
        total = self.begin_view.new_zeros(())
        if found.actions is not None and found.wanted is not None:
            asked = (found.wanted >= 0) & imitate_BT[:, : len(frames), None]
            error = F.cross_entropy(found.actions.flatten(0, 2), found.wanted.clamp_min(0).flatten(), reduction="none")
            parts["action"] = _mean(error.view(asked.shape), asked)
            total = total + config.action_weight * parts["action"]
        if found.keyframes is not None:
            assert window.codes_BTN is not None
            codes, later = window.codes_BTN[:, frames][:, 1:], found.keyframes[:, 1:]
            error = F.cross_entropy(later.flatten(0, 2), codes.flatten(), reduction="none").view(codes.shape)
            parts["keyframe"] = _mean(error, seen[:, 1:, None].expand_as(error))
            total = total + config.keyframe_weight * parts["keyframe"]
        if found.motion is not None:
            assert window.motion_BTM is not None
            count = 1 if config.pretrain else len(frames)
            whole = torch.stack([valid_BT[:, t : t + AHEAD].all(dim=1) for t in frames[:count]], dim=1)
            error = (found.motion[:, :count] - window.motion_BTM[:, frames[:count]]).square().mean(dim=-1)
            parts["motion"] = _mean(error, whole)
            total = total + config.motion_weight * parts["motion"]
        return Losses(total, parts)

    def _wanted(self, window: Window, steps: int) -> Tensor:
        """Action tokens of every step, -1 beyond their end, int64 [B, T, most_tokens]."""
        chunks = window.actions_BTKA[:, :steps].double().cpu().numpy()
        found = torch.full((*chunks.shape[:2], self.config.most_tokens), -1)
        for b, row in enumerate(chunks):
            for t, chunk in enumerate(row):
                tokens = self.tokens_of(chunk)
                if len(tokens) <= self.config.most_tokens:  # what is longer is too rare to give room to: it is not learned
                    found[b, t, : len(tokens)] = torch.tensor(tokens)
        return found.to(window.actions_BTKA.device)

    def _tokens(
        self,
        window: Window,
        proprio: Tensor,
        frames: list[int],
        wanted: Tensor | None,
        layout: Layout,
        grid: Grid,
        valid_BT: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Tokens [B, S, D] of all steps and which of them are used, bool [B, S]."""
        assert window.codes_BTN is not None
        seen = torch.cat([torch.ones_like(valid_BT[:, :1]), valid_BT], dim=1)
        opening = self.hints.opening(None if window.opening_BNC is None else window.opening_BNC.to(self.view))
        hint = self.hints(window.latents_BTNC[:, frames].to(self.view), opening, proprio[:, frames].to(self.view))
        tokens, used = [], []
        for index, frame in enumerate(frames):
            here = seen[:, frame, None]
            tokens.append(self.view_tokens(window.codes_BTN[:, frame], proprio[:, frame], grid))
            used.append(here.expand(-1, layout.view))
            if wanted is not None:
                acts = wanted[:, index]
                tokens.append(self.action_tokens(acts.clamp_min(0), None if hint is None else hint[:, index]))
                used += [here, (acts >= 0) & here]
        return torch.cat(tokens, dim=1), torch.cat(used, dim=1)

    def _rotation(self, frames: list[int], layout: Layout, grid: Grid) -> Rotation:
        parts = [self.rotation(frame, grid, layout.actions) for frame in frames]
        return Rotation(
            torch.cat([part.cos[: layout.size] for part in parts]), torch.cat([part.sin[: layout.size] for part in parts])
        )

    def _train_block(
        self, block: Block, tokens: Tensor, still: Tensor, rotation: Rotation, mask: Tensor, words: KeyValue
    ) -> Tensor:
        """One block over the sequence, kept for the backward pass or made again there."""
        if self.recompute.blocks and torch.is_grad_enabled():
            return checkpoint(_pass, block, tokens, still, rotation, mask, words, use_reentrant=False)
        return _pass(block, tokens, still, rotation, mask, words)

    # ----------------------------------------------------------------------------------------------------------- inference

    def empty(self) -> Remembered:
        """Nothing seen."""
        return Remembered()

    def observe(self, state: Remembered, seen: Seen, text: TextMemory, grid: Grid, made: Prepared = None) -> Remembered:
        """The state after a keyframe, and after the actions executed before it."""
        if seen.codes_BN is None:
            raise LearnerError("this model reads codes, and the observation lacks them (codes_BN): use codec vq")
        samples = state.samples or tuple(self.fresh() for _ in seen.codes_BN)
        found = []
        for b, sample in enumerate(samples):
            words, one = _sample(text, b), slice(b, b + 1)
            if sample.open and seen.executed_BKA is not None:
                sample = self.close(sample, self.tokens_of(seen.executed_BKA[b].double().cpu().numpy()), words, grid)
            found.append(self.look(sample, seen.codes_BN[one], seen.latents_BNC[one], seen.proprio_BA[one], words, grid))
        return replace(state, samples=tuple(found))

    def noise(self, latents_BNC: Tensor, generator: torch.Generator) -> None:
        """Nothing is drawn: tokens are the likeliest."""

    def decide(self, state: Remembered, noise: None, text: TextMemory, grid: Grid) -> Decision:
        """The likeliest chunk; evaluations are its tokens, of the sample that needed most."""
        spoken = [self.speak(sample, _sample(text, b), grid) for b, sample in enumerate(state.samples)]
        chunks = torch.stack([self.chunk_of(tokens) for tokens, _ in spoken])
        overruled = torch.tensor([count for _, count in spoken])
        extras = {"overruled": overruled} | ({} if self.motion_out is None else {"motion": self._motion(state)})
        return Decision(chunks, None, {"action": max(len(tokens) for tokens, _ in spoken)}, extras)

    def next_keyframe(self, state: Remembered, actions_BKA: Tensor, text: TextMemory, grid: Grid) -> Tensor:
        """Codes [B, N] of the keyframe that given actions lead to, on a fork: `state` stays as it is."""
        found = []
        for b, sample in enumerate(state.samples):
            words = _sample(text, b)
            done = self.close(sample, self.tokens_of(actions_BKA[b].double().cpu().numpy()), words, grid)
            found.append(self.predict_codes(done, words, grid))
        return torch.cat(found)

    @staticmethod
    def _motion(state: Remembered) -> Tensor:
        return torch.cat([sample.motion for sample in state.samples if sample.motion is not None])

    # -------------------------------------------------------------------------------------------------------- large models

    def shards(self) -> Iterator[nn.Module]:
        """Each block."""
        return iter(self.blocks)

    def forward_flops(self, extent: Extent) -> float:
        """See `flops.forward_flops`."""
        return forward_flops(self.config, extent, vocabulary=len(self.fast.lengths))


def _pass(block: Block, tokens: Tensor, still: Tensor, rotation: Rotation, mask: Tensor, words: KeyValue) -> Tensor:
    group = Group(tokens, still, still, rotation)
    projected = project([block], [tokens], [group])
    return settle([block], [tokens], masked(projected, mask, 1), [group], [words])[0]


def _sample(text: TextMemory, b: int) -> TextMemory:
    return tuple(KeyValue(words.keys[b : b + 1], words.values[b : b + 1]) for words in text)


def _mean(errors: Tensor, asked: Tensor) -> Tensor:
    """Mean over what is asked; 0 where nothing is."""
    weights = asked.to(errors)
    return (errors * weights).sum() / weights.sum().clamp_min(1.0)
