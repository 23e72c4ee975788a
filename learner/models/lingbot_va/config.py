"""The settings of LingBot-VA."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from embodichain.errors import ConfigError
from learner.models.family import ModelConfig


class Weighting(StrEnum):
    """Weighting of the velocity error over flow time s."""

    MIDDLE = "middle"
    """exp(-2 (0.5 - s)^2) minus its minimum, scaled to a mean of 1, so that both ends have weight 0; as in the released code."""
    NONE = "none"
    FALLOFF = "falloff"
    """(1 - s)^2, scaled to a mean of 1: largest at early flow times, at which the observation decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LingbotConfig(ModelConfig):
    """Settings of sizes, noise and sampling. The defaults are the tiny model for CPUs.

    Positions in the causal order are counted in half chunks: the frames of chunk c have id 2c, its actions 2c + 1.
    """

    family: ClassVar[str] = "lingbot_va"

    dim: int = 96
    layers: int = 4
    heads: int = 3
    ffn: int = 384
    time_frequencies: int = 64
    dual: int = 0
    """Width of an action stream with blocks of its own, joined to the video stream in attention; 0 shares all blocks."""
    max_cameras: int = 4
    told_state: bool = True
    """Whether the model is given the measured robot state of each frame. The paper's model is not; but with actions relative to the
    state, it could not know the absolute pose."""
    glance: int = 0
    aim: int = 0
    """Hints for the actions (`hints.Hints`): `glance` is the number of latents a frame, `aim` that of cameras; 0 for none."""

    released: bool = False
    """The layout of the weights that the authors released, which `load_backbone` then takes: the rotary times of actions are one
    frame later. It has no robot state and no action stream of its own. It decides frame by frame: only then are chunks that begin
    with frame 0, as the authors', the same as those here, in which frame 0 is a chunk by itself."""

    most_frames: int = 4
    """In training, frames after the first are grouped into chunks of K frames, with K drawn from 1 to this for each batch."""
    frames: int = 1
    """K in inference: the number of frames that are imagined, and of action chunks that are decided, at once."""
    span_low: int = 4
    span_high: int = 64
    """In training a query attends at most W half chunks back, with W drawn from `span_low` to `span_high` for each batch."""
    span: int = 32
    """W in inference: entries further back are evicted from the cache."""
    forward_share: float = 0.5
    """Share of batches that also train forward dynamics, the prediction of frames from given actions. Mode "grounded" needs it."""
    forward_weight: float = 1.0
    action_weight: float = 1.0
    video_weighting: Weighting = Weighting.MIDDLE
    action_weighting: Weighting = Weighting.MIDDLE
    video_shift: float = 1.0
    action_shift: float = 1.0
    history_noise_prob: float = 0.5
    history_noise_low: float = 0.5
    """Noisy history: with probability `history_noise_prob` a sequence's clean frames, but not its actions, are mixed with noise at
    a clean share U[low, 1], which the model is given as their flow time."""
    proprio_noise: float = 0.0
    """Standard deviation of the noise added to the measured state in training, in normalised units."""
    text_dropout: float = 0.0
    """Share of training sequences without their instruction, which classifier-free guidance needs."""
    video_steps: int = 4
    action_steps: int = 8
    action_samples: int = 1
    """Decisions that a policy samples from the same imagined frames; it executes their mean."""
    until: float = 0.5
    """Flow time s_v at which denoising of the imagined frames stops: partly denoised frames suffice to decide actions."""
    cfg_video: float = 1.0
    """Scale of classifier-free guidance of the frames (Ho & Salimans 2022); 1 for none. Actions are never guided."""

    def __post_init__(self) -> None:
        widths = (self.dim, self.dual) if self.dual else (self.dim,)
        if any(width % self.heads or (width // self.heads) % 2 for width in widths):
            raise ConfigError(f"dim and dual must be even multiples of heads, got {widths} and heads={self.heads}")
        shares = (self.forward_share, self.history_noise_prob, self.history_noise_low, self.text_dropout)
        if not all(0.0 <= share <= 1.0 for share in shares) or not 0.0 < self.until <= 1.0:
            raise ConfigError(
                "forward_share, history_noise_prob, history_noise_low and text_dropout must be in 0..1 and until in (0, 1], "
                f"got {self}"
            )
        if not 1 <= self.frames <= self.most_frames:
            raise ConfigError(f"frames, of a decision, must be 1..most_frames={self.most_frames}, got {self.frames}")
        if not 2 <= self.span_low <= self.span_high or self.span < 2:
            raise ConfigError(
                "span and span_low must be at least 2 and span_low <= span_high, "
                f"got {self.span}, {self.span_low} and {self.span_high}"
            )
        if self.released and (self.told_state or self.dual or self.frames != 1 or self.glance or self.aim):
            raise ConfigError(
                "the released layout has no robot state, no action stream of its own, no hints, and decides one frame at a time: "
                f"set told_state false, dual, glance and aim 0, frames 1; got told_state={self.told_state}, dual={self.dual}, "
                f"glance={self.glance}, aim={self.aim}, frames={self.frames}"
            )
        if self.cfg_video != 1.0 and not self.text_dropout:
            raise ConfigError("cfg_video needs a model that trained without instructions too: set text_dropout, for one to 0.1")
        if (
            min(self.video_steps, self.action_steps, self.action_samples, self.layers, self.max_cameras) < 1
            or self.proprio_noise < 0.0
        ):
            raise ConfigError(
                "layers, max_cameras, video_steps, action_steps and action_samples must be at least 1, proprio_noise not negative"
            )
