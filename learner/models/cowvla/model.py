"""CoWVLA: keyframes as discrete codes, a query for the motion that follows, and actions as tokens, in one causal sequence.

After "Chain of World: World Model Thinking in Latent Motion" (CoWVLA). The keyframe of a step is the observed frame. The model
predicts the motion and the next keyframe besides the actions, which makes it represent what is going to move.

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
from learner.models.cowvla.sequence import StepLayout, visible
from learner.models.cowvla.stages import CowvlaStages, EpisodeMemory
from learner.models.window import Extent, Window
from learner.models.world_model import Decision, Losses, Prepared, Seen


class Draws(NamedTuple):
    """The random part of a training step: noise on the measured states."""

    proprio_noise_BTA: Tensor | None


class Predicted(NamedTuple):
    """Predictions and targets of a training step; None for parts that are switched off."""

    actions: Tensor | None
    """Logits [B, T, tokens, vocabulary]."""
    wanted: Tensor | None
    """Target tokens int64 [B, T, tokens], -1 beyond the end of a chunk."""
    keyframes: Tensor | None
    """Logits [B, T, N, codes] of the codes of every keyframe."""
    motion: Tensor | None
    """Predicted motion vectors [B, T, M]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The memory of an episode, one entry for each sample of the batch. Immutable."""

    samples: tuple[EpisodeMemory, ...] = ()

    @property
    def steps(self) -> int:
        """Number of frames observed."""
        return self.samples[0].steps if self.samples else 0

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors; bounded, because at most `span` steps are kept."""
        return sum(sample.size_bytes for sample in self.samples)


class Cowvla(CowvlaStages):
    """CoWVLA: holds parameters and no state of an episode."""

    # ------------------------------------------------------------------------------------------------------------ training

    def draw(self, window: Window, generator: torch.Generator) -> Draws:
        """Draws the noise on the measured states, if there is any."""
        if not self.config.proprio_noise:
            return Draws(None)
        noise = torch.randn(window.proprio_BTA.shape, generator=generator)
        return Draws(self.config.proprio_noise * noise.to(window.proprio_BTA))

    def frames_of(self, window: Window) -> list[int]:
        """The frames of a window that are keyframes of the sequence."""
        steps = window.actions_BTKA.shape[1]
        ahead = self.config.ahead
        if steps < ahead:
            raise ConfigError(f"a window of {steps} chunks holds no clip of {ahead}: set data.window to {ahead} or more")
        return [0, ahead] if self.config.pretrain else list(range(steps - ahead + 1))

    def predict(self, window: Window, draws: Draws, grid: Grid, valid_BT: Tensor) -> Predicted:
        """Runs the whole sequence in one masked pass and returns all predictions."""
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
            whole = torch.stack([valid_BT[:, t : t + config.ahead].all(dim=1) for t in frames[:count]], dim=1)
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
                if len(tokens) <= self.config.most_tokens:  # longer chunks are too rare to pad all others to their length
                    found[b, t, : len(tokens)] = torch.tensor(tokens)
        return found.to(window.actions_BTKA.device)

    def _tokens(
        self,
        window: Window,
        proprio: Tensor,
        frames: list[int],
        wanted: Tensor | None,
        layout: StepLayout,
        grid: Grid,
        valid_BT: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Tokens [B, S, D] of all steps, and a mask of those that are not padding, bool [B, S]."""
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

    def _rotation(self, frames: list[int], layout: StepLayout, grid: Grid) -> Rotation:
        parts = [self.rotation(frame, grid, layout.actions) for frame in frames]
        return Rotation(
            torch.cat([part.cos[: layout.size] for part in parts]), torch.cat([part.sin[: layout.size] for part in parts])
        )

    def _train_block(
        self, block: Block, tokens: Tensor, still: Tensor, rotation: Rotation, mask: Tensor, words: KeyValue
    ) -> Tensor:
        """Runs one block over the sequence, checkpointed if `recompute.blocks` is set."""
        if self.recompute.blocks and torch.is_grad_enabled():
            return checkpoint(_pass, block, tokens, still, rotation, mask, words, use_reentrant=False)
        return _pass(block, tokens, still, rotation, mask, words)

    # ----------------------------------------------------------------------------------------------------------- inference

    def empty(self) -> Remembered:
        """The memory before the first frame."""
        return Remembered()

    def observe(self, state: Remembered, seen: Seen, text: TextMemory, grid: Grid, made: Prepared = None) -> Remembered:
        """The memory after the executed actions and a keyframe."""
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
        """Draws nothing: decoding is greedy."""

    def decide(self, state: Remembered, noise: None, text: TextMemory, grid: Grid) -> Decision:
        """The greedily decoded chunk; `evaluations` counts the tokens of the sample that needed most."""
        spoken = [self.speak(sample, _sample(text, b), grid) for b, sample in enumerate(state.samples)]
        chunks = torch.stack([self.chunk_of(tokens) for tokens, _ in spoken])
        overruled = torch.tensor([count for _, count in spoken])
        extras = {"overruled": overruled} | ({} if self.motion_out is None else {"motion": self._motion(state)})
        return Decision(chunks, None, {"action": max(len(tokens) for tokens, _ in spoken)}, extras)

    def next_keyframe(self, state: Remembered, actions_BKA: Tensor, text: TextMemory, grid: Grid) -> Tensor:
        """Predicts the codes [B, N] of the keyframe that given actions lead to; `state` is not changed."""
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
        """Yields each block."""
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
    """Mean over the entries where `asked` is set; 0 if there are none."""
    weights = asked.to(errors)
    return (errors * weights).sum() / weights.sum().clamp_min(1.0)
