"""X-WAM: denoises frames, actions and measured states of a window together, given one clean frame, and predicts their depth.

Its memory of an episode is the last frame alone. Actions are clean after fewer steps than video; a decision stops there, without
running the depth branch.

Shapes: B batch, T steps, N latents a frame, C channels, A action channels, K actions a chunk, F frames of a decision, H = F K.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError, LearnerError, unknown
from learner.backbone.flow import interpolate, velocity
from learner.backbone.grid import Grid
from learner.backbone.layers import wide
from learner.backbone.wan_weights import LoadReport, load_wan
from learner.codecs.config import LatentSpec
from learner.models.window import Extent, Window
from learner.models.world_model import Decision, Losses, Mode, Prefix, Prepared, Seen
from learner.models.x_wam.chunking import guided, overlap_weights
from learner.models.x_wam.config import XwamConfig
from learner.models.x_wam.draws import Draws, draw
from learner.models.x_wam.flops import forward_flops
from learner.models.x_wam.noise import paths
from learner.models.x_wam.passes import Passed, Point, TextMemory, Times, XwamPasses
from learner.models.x_wam.released import released

GUIDED, PREFIX = "guided", "prefix"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFrame:
    """The memory of an episode: the last frame, its measured state, and the image moments of the first frame."""

    latents_BNC: Tensor | None = None
    proprio_BA: Tensor | None = None
    opening: Tensor | None = None
    steps: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors; does not grow with `steps`."""
        held = (self.latents_BNC, self.proprio_BA, self.opening)
        return sum(x.numel() * x.element_size() for x in held if x is not None)


class Noise(NamedTuple):
    """The noise of one decision: of frames 1 to F, of F chunks, of states 1 to F."""

    video_BFNC: Tensor
    action_BFKA: Tensor
    proprio_BFA: Tensor


class Xwam(XwamPasses):
    """X-WAM: holds parameters and no state of an episode."""

    def __init__(self, config: XwamConfig, *, latents: LatentSpec, text_dim: int) -> None:
        super().__init__(config, latents=latents, text_dim=text_dim)
        self.late_modes = (GUIDED, PREFIX) if config.prefix else (GUIDED,)  # "prefix" needs training with clean prefixes

    # ------------------------------------------------------------------------------------------------------------ training

    def draw(self, window: Window, generator: torch.Generator) -> Draws:
        """`draws.draw` with the settings of this model."""
        return draw(self.config, window, generator)

    def passed(
        self, window: Window, draws: Draws, grid: Grid, valid_BT: Tensor | None = None, *, depth: bool | None = None
    ) -> Passed:
        """Runs a training step: velocities of frames, chunks and states (those of frame 0 are meaningless), and depths."""
        steps = window.actions_BTKA.shape[1]
        if steps != self.config.frames:
            raise ConfigError(
                f"a window of {steps} chunks does not fit a model that decides {self.config.frames} at once: set data.window and "
                "model.frames alike"
            )
        s_v, s_a = draws.video_time_B[:, None], draws.action_time_B[:, None]
        one = torch.ones_like(s_v)
        times = Times(torch.cat([one, s_v.expand(-1, steps)], 1), s_a, torch.cat([one, s_a.expand(-1, steps)], 1))
        if draws.given_B is not None:
            given = torch.arange(steps * self.config.chunk, device=s_a.device)[None] < draws.given_B[:, None]
            times = times._replace(action=torch.where(given, one, s_a))
        latents, proprio = window.latents_BTNC, window.proprio_BTA
        first = proprio[:, :1] if draws.body_noise_BA is None else proprio[:, :1] + draws.body_noise_BA[:, None]
        share = times.action.expand(-1, steps * self.config.chunk).unflatten(1, (steps, self.config.chunk))[..., None]
        point = Point(
            torch.cat([latents[:, :1], interpolate(draws.video_noise_BTNC, latents[:, 1:], s_v[..., None, None])], dim=1),
            interpolate(draws.action_noise_BTKA, window.actions_BTKA, share),
            torch.cat([first, interpolate(draws.proprio_noise_BTA, proprio[:, 1:], s_a[..., None])], dim=1),
        )
        opening = self.hints.opening(None if window.opening_BNC is None else window.opening_BNC.to(self.view))
        hint = self.hints(latents[:, :1].to(self.view), opening, first.to(self.view))
        here = None if valid_BT is None else self._present(valid_BT, grid)
        run = bool(self.config.depth) if depth is None else depth
        return self.sweep(point, times, hint, self.read_text(window.text_BLC), grid, here_BS=here, depth=run)

    def losses(
        self, window: Window, draws: Draws, grid: Grid, *, valid_BT: Tensor, imitate_BT: Tensor, action_mask_BA: Tensor
    ) -> Losses:
        """Squared velocity errors of frames, actions and states, and squared errors of the depths' latents, each a masked mean."""
        config = self.config
        found, depth = self.passed(window, draws, grid, valid_BT)
        valid = valid_BT.to(found.latents_BFNC)
        taught, channels = draws.taught_B.to(valid)[:, None], action_mask_BA.to(valid)
        error = (wide(found.latents_BFNC[:, 1:]) - velocity(draws.video_noise_BTNC, window.latents_BTNC[:, 1:])).square()
        video = _mean(error.mean(dim=(2, 3)), valid)
        error = (wide(found.actions_BFKA) - velocity(draws.action_noise_BTKA, window.actions_BTKA)).square()
        asked = (imitate_BT.to(valid) * taught)[..., None, None] * channels[:, None, None]
        if draws.given_B is not None:
            index = torch.arange(config.frames * self.config.chunk, device=valid.device).view(1, -1, self.config.chunk, 1)
            asked = asked * (index >= draws.given_B.view(-1, 1, 1, 1))
        action = _mean(error, asked.expand_as(error))
        error = (wide(found.proprio_BFA[:, 1:]) - velocity(draws.proprio_noise_BTA, window.proprio_BTA[:, 1:])).square()
        proprio = _mean(error, (valid * taught)[..., None] * channels[:, None])
        total = video + config.action_weight * action + config.proprio_weight * proprio
        parts = {"video": video, "action": action, "proprio": proprio}
        if depth is not None:
            if window.depth_BTNC is None:
                raise LearnerError("this model learns depth, and the window lacks it (depth_BTNC): set world.depth true")
            frames = torch.cat([torch.ones_like(valid[:, :1]), valid], dim=1)
            parts["depth"] = _mean((wide(depth) - window.depth_BTNC).square().mean(dim=(2, 3)), frames)
            total = total + config.depth_weight * parts["depth"]
        return Losses(total, parts)

    def _present(self, valid_BT: Tensor, grid: Grid) -> Tensor:
        """Which tokens of the sequence are not padding, bool [B, S]."""
        frames = torch.cat([torch.ones_like(valid_BT[:, :1]), valid_BT], dim=1)
        return torch.cat([frames.repeat_interleave(grid.size, 1), valid_BT.repeat_interleave(self.config.chunk, 1), frames], dim=1)

    # ----------------------------------------------------------------------------------------------------------- inference

    def empty(self) -> LastFrame:
        """The memory before the first frame."""
        return LastFrame()

    def observe(self, state: LastFrame, seen: Seen, text: TextMemory, grid: Grid, made: Prepared = None) -> LastFrame:
        """Replaces the last frame by the new one; executed actions are not used."""
        opening = self.hints.opening(seen.latents_BNC.to(self.view)) if state.opening is None else state.opening
        return LastFrame(latents_BNC=seen.latents_BNC, proprio_BA=seen.proprio_BA, opening=opening, steps=state.steps + 1)

    def noise(self, latents_BNC: Tensor, generator: torch.Generator) -> Noise:
        """Draws noise for frames, chunks and states, `samples` times for each batch entry."""
        batch, *latent = latents_BNC.shape
        frames = self.config.frames

        def normal(*shape: int) -> Tensor:
            return torch.randn((self.config.samples * batch, frames, *shape), generator=generator).to(latents_BNC)

        return Noise(normal(*latent), normal(self.config.chunk, self.config.action_dim), normal(self.config.action_dim))

    def decide(self, state: LastFrame, noise: Noise, text: TextMemory, grid: Grid) -> Decision:
        """Denoises until actions are clean. Frames are still noisy then; the imagined frame is their predicted clean end."""
        return self._integrate(state, noise, text, grid, steps=self.config.action_steps)

    def dream(self, state: LastFrame, noise: Noise, text: TextMemory, grid: Grid, *, depth: bool = False) -> Decision:
        """`decide`, but denoises until frames are clean too. With `depth`, extras contain depth latents of frames 0 to F."""
        return self._integrate(state, noise, text, grid, steps=self.config.video_steps, depth=depth)

    def decide_from(self, state: LastFrame, noise: Noise, prefix: Prefix, text: TextMemory, grid: Grid, mode: Mode) -> Decision:
        """A decision that continues actions being executed, by guidance ("guided") or with them as input ("prefix")."""
        self.check(mode)
        return self._integrate(state, noise, text, grid, steps=self.config.action_steps, prefix=prefix, rule=mode.name)

    def check(self, mode: Mode) -> None:
        """Raises ConfigError for a mode that is not one of `late_modes`. The model cannot begin before the observation."""
        if mode.name not in self.late_modes:
            raise unknown("mode", mode.name, self.late_modes)

    def _integrate(
        self,
        state: LastFrame,
        noise: Noise,
        text: TextMemory,
        grid: Grid,
        *,
        steps: int,
        depth: bool = False,
        prefix: Prefix | None = None,
        rule: str = "",
    ) -> Decision:
        """Makes `steps` Euler steps along both time grids together."""
        first, measured = state.latents_BNC, state.proprio_BA
        assert first is not None and measured is not None, "a decision follows an observation"
        video, action = (1.0 - level for level in paths(self.config))
        hint = self.hints(first[:, None].to(self.view), state.opening, measured[:, None].to(self.view))
        frames, actions, proprio = noise
        samples = len(frames) // len(first)
        if samples > 1:
            first, measured = (x.repeat_interleave(samples, dim=0) for x in (first, measured))
            hint = None if hint is None else hint.repeat_interleave(samples, dim=0)
            text = tuple(word.spread(samples) for word in text[0]), tuple(word.spread(samples) for word in text[1])
            if prefix is not None:
                prefix = prefix._replace(actions_BHA=prefix.actions_BHA.repeat_interleave(samples, dim=0))
        now = first.new_ones(len(frames), 1)
        given = None
        if prefix is not None and rule == PREFIX:
            given = (torch.arange(self.horizon, device=now.device) < prefix.delay)[None]
            held = _padded(prefix.actions_BHA, self.horizon).view_as(actions)
            actions = torch.where(given.view(1, -1, self.config.chunk, 1), held, actions)
        ended = frames
        for index in range(steps):
            s_v, s_a = float(video[index]), float(action[index])
            one_each = now * s_a if given is None else torch.where(given, now, now * s_a)
            times = Times(torch.cat([now, now.expand(-1, frames.shape[1]) * s_v], 1), one_each, self._body_times(now, s_a))

            def field(chunks: Tensor, frames: Tensor = frames, proprio: Tensor = proprio, times: Times = times) -> Point:
                whole = Point(torch.cat([first[:, None], frames], 1), chunks, torch.cat([measured[:, None], proprio], 1))
                return self.sweep(whole, times, hint, text, grid).velocity

            if prefix is not None and rule == GUIDED and s_a < 1.0:
                found, pulled = self._guided(field, actions, prefix, s_a)
            else:
                found = field(actions)
                pulled = found.actions_BFKA
            ended = frames + (1.0 - s_v) * found.latents_BFNC[:, 1:]
            frames = frames + (float(video[index + 1]) - s_v) * found.latents_BFNC[:, 1:]
            step = float(action[index + 1]) - s_a
            if step > 0.0:
                moved = actions + step * pulled
                actions = moved if given is None else torch.where(given.view(1, -1, self.config.chunk, 1), actions, moved)
                proprio = proprio + step * found.proprio_BFA[:, 1:]
        extras = {"frames": ended, "states": proprio}
        if depth:
            whole = Point(torch.cat([first[:, None], frames], 1), actions, torch.cat([measured[:, None], proprio], 1))
            extras["depth"] = self._depth(whole, hint, text, grid)
        if samples > 1:
            extras = {name: value.unflatten(0, (-1, samples)).mean(dim=1) for name, value in extras.items()}
            actions = actions.unflatten(0, (-1, samples)).mean(dim=1)
        return Decision(actions.flatten(1, 2), extras["frames"][:, 0], {"joint": steps}, extras)

    def _body_times(self, now: Tensor, s_a: float) -> Tensor:
        return torch.cat([now, now.expand(-1, self.config.frames) * s_a], dim=1)

    def _guided(self, field: Callable[[Tensor], Point], actions: Tensor, prefix: Prefix, s_a: float) -> tuple[Point, Tensor]:
        """Velocities at a point, and the velocity of actions guided towards those being executed."""
        overlap = prefix.actions_BHA.shape[1]
        weights = overlap_weights(self.horizon, prefix.delay, overlap).to(actions).view(1, -1, self.config.chunk, 1)
        target = _padded(prefix.actions_BHA, self.horizon).view_as(actions)
        kept: list[Point] = []

        def of_actions(chunks: Tensor) -> tuple[Tensor, Tensor]:
            kept.append(field(chunks))
            return kept[0].actions_BFKA, kept[0].latents_BFNC

        most = min(self.config.guidance, float(self.config.action_steps))
        pulled, _ = guided(of_actions, actions, target, weights, s_a, most)
        return Point(*(part.detach() for part in kept[0])), pulled

    def _depth(self, clean: Point, hint: Tensor | None, text: TextMemory, grid: Grid) -> Tensor:
        """Depth latents [B, F + 1, N, C] of clean frames."""
        if not self.config.depth:
            raise ConfigError("this model has no depth branch: set model.depth")
        one = clean.latents_BFNC.new_ones(len(clean.latents_BFNC), 1)
        every = one.expand(-1, clean.latents_BFNC.shape[1])
        depth = self.sweep(clean, Times(every, one, every), hint, text, grid, depth=True).depth_BFNC
        assert depth is not None
        return depth

    # -------------------------------------------------------------------------------------------------------- large models

    def load_backbone(self, folder: Path | str) -> LoadReport:
        """Fills blocks, text projection and flow-time embeddings from a Wan2.2 checkpoint, then the depth branch from the last
        blocks; or the whole model from the released weights.
        """
        times = ("video_time", "action_time")
        report = load_wan(self, folder, heads=self.config.heads, times=times, head="video_out", released=released(self.config))
        if report.is_whole:
            return report
        for block, copy in zip(self.blocks[len(self.blocks) - len(self.depth_blocks) :], self.depth_blocks, strict=True):
            copy.load_state_dict(block.state_dict())
        return report

    def shards(self) -> Iterator[nn.Module]:
        """Yields each block and each copy in the depth branch."""
        return iter((*self.blocks, *self.depth_blocks))

    def forward_flops(self, extent: Extent) -> float:
        """See `flops.forward_flops`."""
        return forward_flops(self.config, extent)


def _padded(actions_BHA: Tensor, horizon: int) -> Tensor:
    """Pads actions with zeros to [B, horizon, A]."""
    return torch.nn.functional.pad(actions_BHA, (0, 0, 0, horizon - actions_BHA.shape[1]))


def _mean(errors: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean; 0 if all weights are 0."""
    return (errors * weights).sum() / weights.sum().clamp_min(1.0)
