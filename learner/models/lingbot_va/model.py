"""LingBot-VA: one causal sequence of frames and actions; it imagines frames first, then the actions that lead to them.

Training denoises the frames and actions of a whole window at once, in one packed sequence under a mask (`sequence`). Inference
caches keys and values of the past (`stages`). While the robot moves, the next decision may be made from predicted frames: those
of the last decision ("naive"), or those that forward dynamics predicts from the real past and the actions being executed
("grounded").

Shapes: B batch, T steps, N latents a frame, C latent channels, A action channels, K actions a chunk, F frames of a decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from embodichain.errors import unknown
from learner.backbone.flow import interpolate, velocity
from learner.backbone.grid import Grid
from learner.backbone.layers import Block, KeyValue, wide
from learner.backbone.packed import Group, masked, project, settle
from learner.backbone.wan_weights import LoadReport, load_wan
from learner.codecs.config import LatentSpec
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.lingbot_va.draws import Draws, draw
from learner.models.lingbot_va.dual import narrow_from
from learner.models.lingbot_va.flops import forward_flops
from learner.models.lingbot_va.released import released
from learner.models.lingbot_va.sequence import Role, Span, chunk_of, present, visible, without_padding
from learner.models.lingbot_va.stages import LingbotStages
from learner.models.lingbot_va.state import Noise, Remembered, Started, TextMemory
from learner.models.window import Extent, Window
from learner.models.world_model import Decision, Losses, Mode, Prepared, Seen, never

NAIVE, GROUNDED = "naive", "grounded"
_OUTPUTS = (Role.NOISY_FRAMES, Role.NOISY_ACTIONS, Role.FORWARD_FRAMES)


class Velocities(NamedTuple):
    """Predicted velocities of a training step."""

    video_BTNC: Tensor
    action_BTKA: Tensor
    forward_BTNC: Tensor | None


class LingbotVa(LingbotStages):
    """LingBot-VA: holds parameters and no state of an episode."""

    def __init__(self, config: LingbotConfig, *, latents: LatentSpec, text_dim: int) -> None:
        super().__init__(config, latents=latents, text_dim=text_dim)
        self.modes = (NAIVE, GROUNDED) if config.forward_share else (NAIVE,)  # "grounded" needs forward dynamics

    # ------------------------------------------------------------------------------------------------------------ training

    def draw(self, window: Window, generator: torch.Generator) -> Draws:
        """`draws.draw` with the settings of this model."""
        return draw(self.config, window, generator)

    def velocities(self, window: Window, draws: Draws, grid: Grid, valid_BT: Tensor | None = None) -> Velocities:
        """Predicted velocities of the noisy frames 1 to T and of the chunks before them, all steps in parallel."""
        groups, spans = self._groups(window, draws, grid)
        outputs = sum(span.role in _OUTPUTS for span in spans)
        mask = visible(spans, len(spans), draws.size, draws.window).to(self.view.device)
        if valid_BT is not None:
            frames = torch.cat([torch.ones_like(valid_BT[:, :1]), valid_BT], dim=1)
            mask = without_padding(mask, present(spans, frames))
        text = window.text_BLC
        if draws.silent_B is not None:
            text = torch.where(draws.silent_B[:, None, None], 0.0, text)
        memory = self.text_memory(text)
        tokens = [group.tokens for group in groups]
        for index, blocks in enumerate(self.layers):
            last = index == self.config.layers - 1
            inner = (self._train_layer, blocks, tokens, groups, mask, outputs if last else len(groups), memory[index])
            tokens = blocks[0](*inner) if blocks[1] is blocks[0] else blocks[0](blocks[1], *inner)
        heads = (self.video_out, self.action_out, self.video_out)
        done = {span.role: head(x, group.embedding) for span, head, x, group in zip(spans, heads, tokens, groups, strict=False)}
        return Velocities(done[Role.NOISY_FRAMES], done[Role.NOISY_ACTIONS], done.get(Role.FORWARD_FRAMES))

    def losses(
        self, window: Window, draws: Draws, grid: Grid, *, valid_BT: Tensor, imitate_BT: Tensor, action_mask_BA: Tensor
    ) -> Losses:
        """Weighted squared velocity errors: frames over `valid` steps, actions over `imitate` steps and channels of the mask."""
        found = self.velocities(window, draws, grid, valid_BT)
        frames = window.latents_BTNC[:, 1:]
        valid = valid_BT.to(found.video_BTNC)

        def of_frames(predicted: Tensor, noise: Tensor, time: Tensor) -> Tensor:
            errors = (wide(predicted) - velocity(noise, frames)).square().mean(dim=(2, 3))
            return _mean(errors * self._video_weights(time), valid)

        video = of_frames(found.video_BTNC, draws.video_noise_BTNC, draws.video_time_BT)
        errors = (wide(found.action_BTKA) - velocity(draws.action_noise_BTKA, window.actions_BTKA)).square().mean(dim=2)
        errors = errors * self._action_weights(draws.action_time_BT)[..., None]
        action = _mean(errors, imitate_BT.to(errors)[..., None] * action_mask_BA.to(errors)[:, None])
        total, parts = video + self.config.action_weight * action, {"video": video, "action": action}
        if found.forward_BTNC is not None:
            assert draws.forward_noise_BTNC is not None and draws.forward_time_BT is not None
            parts["forward"] = of_frames(found.forward_BTNC, draws.forward_noise_BTNC, draws.forward_time_BT)
            total = total + self.config.forward_weight * parts["forward"]
        return Losses(total, parts)

    def _groups(self, window: Window, draws: Draws, grid: Grid) -> tuple[list[Group], list[Span]]:
        """The groups of the packed sequence; those with outputs come first."""
        latents, actions = window.latents_BTNC, window.actions_BTKA
        steps = actions.shape[1]
        proprio = window.proprio_BTA if draws.proprio_noise_BTA is None else window.proprio_BTA + draws.proprio_noise_BTA
        past = torch.cat([torch.zeros_like(actions[:, :1]), actions], dim=1)
        share = draws.history_time_BT[..., None, None]
        history = torch.where(share < 1.0, interpolate(draws.history_noise_BTNC, latents, share), latents)
        before = [draws.size * (chunk_of(frame, draws.size) - 1) for frame in range(1, steps + 1)]  # last frame before each chunk
        opening = self.hints.opening(None if window.opening_BNC is None else window.opening_BNC.to(self.view))
        hint = self.hints(latents[:, before].to(self.view), opening, proprio[:, before].to(self.place))
        noisy = interpolate(draws.video_noise_BTNC, latents[:, 1:], draws.video_time_BT[..., None, None])
        chunks = interpolate(draws.action_noise_BTKA, actions, draws.action_time_BT[..., None, None])
        groups = [
            self.frame_group(noisy, draws.video_time_BT, 1, grid),
            self.action_group(chunks, draws.action_time_BT, 1, hint),
        ]
        spans = [Span(Role.NOISY_FRAMES, 1, steps, grid.size), Span(Role.NOISY_ACTIONS, 1, steps, self.config.chunk)]
        if draws.forward_noise_BTNC is not None:
            assert draws.forward_time_BT is not None
            led = interpolate(draws.forward_noise_BTNC, latents[:, 1:], draws.forward_time_BT[..., None, None])
            groups += [self.frame_group(led, draws.forward_time_BT, 1, grid), self.action_group(actions, self.clean, 1)]
            spans += [Span(Role.FORWARD_FRAMES, 1, steps, grid.size), Span(Role.BARE_ACTIONS, 1, steps, self.config.chunk)]
        groups += [
            self.frame_group(history, draws.history_time_BT, 0, grid),
            self.action_group(past, self.clean, 0),
            *self.state_group(proprio, 0),
        ]
        spans += [Span(Role.CLEAN_FRAMES, 0, steps + 1, grid.size), Span(Role.CLEAN_BODY, 0, steps + 1, self.config.chunk)]
        return groups, [*spans, Span(Role.CLEAN_BODY, 0, steps + 1, 1)][: len(groups)]

    def _train_layer(self, *inputs: object) -> list[Tensor]:
        """`_layer`, checkpointed if `recompute.blocks` is set."""
        if self.recompute.blocks and torch.is_grad_enabled():
            return checkpoint(_layer, *inputs, use_reentrant=False)
        return _layer(*inputs)  # type: ignore[arg-type]

    # ----------------------------------------------------------------------------------------------------------- inference

    def observe(self, state: Remembered, seen: Seen, text: TextMemory, grid: Grid, made: Prepared = None) -> Remembered:
        """The memory after the executed chunk and a frame, which counts as a chunk by itself."""
        executed = None if seen.executed_BKA is None else seen.executed_BKA[:, None]
        partial = None if seen.imagined is None else seen.imagined["partial"][:, :1]
        return self.absorb(state, seen.latents_BNC[:, None], seen.proprio_BA[:, None], executed, text, grid, partial_BFNC=partial)

    def noise(self, latents_BNC: Tensor, generator: torch.Generator) -> Noise:
        """Draws noise for the frames of a decision, for its chunks, `action_samples` times, and for a frame of forward dynamics."""
        frames = self.config.frames

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(latents_BNC)

        batch, *latent = latents_BNC.shape
        video = normal(batch, frames, *latent)
        chunks = normal(self.config.action_samples * batch, frames, self.config.chunk, self.config.action_dim)
        return Noise(video, chunks, normal(batch, 1, *latent))

    def decide(self, state: Remembered, noise: Noise, text: TextMemory, grid: Grid) -> Decision:
        """Partly denoises the next frames, then decides the actions that lead to them."""
        partial, frames, entry = self.imagine(state, noise, text, grid)
        actions = self.act(state, entry, noise, text)
        evaluations = {"video": self.config.video_steps, "cache": 1, "action": self.config.action_steps}
        return Decision(actions.flatten(1, 2), frames[:, 0], evaluations, {"frames": frames, "partial": partial})

    def foresee(self, state: Remembered, seen: Seen, noise: Noise, text: TextMemory, grid: Grid, mode: Mode) -> Seen:
        """In mode "grounded", replaces `seen` by the frame that forward dynamics predicts for the chunk being executed."""
        if mode.name != GROUNDED:
            return seen
        assert seen.executed_BKA is not None, "a chunk is under way"
        partial, frames = self.forward_dynamics(state, seen.executed_BKA[:, None], noise.forward_BFNC, text, grid)
        return seen._replace(latents_BNC=frames[:, 0], imagined={"partial": partial})

    def check(self, mode: Mode) -> None:
        """Raises ConfigError for a mode that is not one of `modes`. Every mode makes the whole decision in advance."""
        if mode.name not in self.modes:
            raise unknown("mode", mode.name, self.modes)

    def unbegun(self, noise: Noise) -> Started:
        """The state before a decision has begun."""
        return Started(noise)

    def begin(
        self,
        state: Remembered,
        noise: Noise,
        text: TextMemory,
        grid: Grid,
        mode: Mode,
        *,
        stopped: Callable[[], bool] = never,
        made: Prepared = None,
    ) -> Started:
        """Makes the whole decision, from a memory in which a prediction stands in for the observation."""
        return Started(noise) if stopped() else Started(noise, self.decide(state, noise, text, grid))

    def finish(self, state: Remembered, started: Started, text: TextMemory, grid: Grid, *, made: Prepared = None) -> Decision:
        """Returns the decision that `begin` made, without any evaluation; if it made none, decides now."""
        if started.decision is None:
            return self.decide(state, started.noise, text, grid)
        return started.decision._replace(evaluations=dict.fromkeys(started.decision.evaluations, 0), is_ahead=True)

    # -------------------------------------------------------------------------------------------------------- large models

    def load_backbone(self, folder: Path | str) -> LoadReport:
        """Fills blocks, text projection and flow-time embeddings from a Wan2.2 checkpoint, and a narrow action stream from those;
        or the whole model from the released weights.
        """
        times = ("video_time",) if self.config.dual else ("video_time", "action_time")
        report = load_wan(self, folder, heads=self.config.heads, times=times, head="video_out", released=released(self.config))
        for video, action in self.layers:
            if action is not video:
                narrow_from(video, action)
        return report

    def shards(self) -> Iterator[nn.Module]:
        """Yields each block."""
        return iter(dict.fromkeys(block for blocks in self.layers for block in blocks))

    def forward_flops(self, extent: Extent) -> float:
        """See `flops.forward_flops`."""
        return forward_flops(self.config, extent)


def _layer(
    blocks: tuple[Block, Block],
    tokens: Sequence[Tensor],
    groups: Sequence[Group],
    mask: Tensor,
    outputs: int,
    texts: tuple[KeyValue, KeyValue],
) -> list[Tensor]:
    """Runs one layer of both streams over the packed sequence; returns the tokens of the first `outputs` groups."""
    projected = project(blocks, tokens, groups)
    queries = sum(group.tokens.shape[1] * group.tokens.shape[2] for group in groups[:outputs])
    attended = masked(projected, mask[..., :queries, :], outputs)
    return settle(blocks, tokens[:outputs], attended, groups[:outputs], texts)


def _mean(errors: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean; 0 if all weights are 0."""
    return (errors * weights).sum() / weights.sum().clamp_min(1.0)
