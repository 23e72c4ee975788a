"""The settings of LingBot-VA."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from embodichain.errors import ConfigError
from learner.models.family import ModelConfig


class Weighting(StrEnum):
    """How the velocity error at flow time s counts."""

    MIDDLE = "middle"
    """exp(-2 (0.5 - s)^2) less its minimum, scaled to a mean of 1: nothing at both ends, as in the released training."""
    NONE = "none"
    FALLOFF = "falloff"
    """(1 - s)^2, scaled to a mean of 1: most where only the observation can help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LingbotConfig(ModelConfig):
    """Sizes, noise and sampling. The defaults are the tiny model for CPUs.

    The order of the sequence is counted in halves of chunks: the frames of chunk c have id 2c, its actions 2c + 1.
    """

    family: ClassVar[str] = "lingbot_va"

    dim: int = 96
    layers: int = 4
    heads: int = 3
    ffn: int = 384
    time_frequencies: int = 64
    dual: int = 0
    """Width of the action stream where it has blocks of its own, which meet the video's in attention; 0 shares all blocks."""
    max_cameras: int = 4
    told_state: bool = True
    """Whether the model sees the measured state of each frame. The paper's does not; commands relative to the state lose the pose
    without it."""
    glance: int = 0
    aim: int = 0
    """Hints for the actions, see `hints.Hints`: latents a frame and cameras, 0 for none."""

    most_frames: int = 4
    """Training cuts the frames after the first into chunks of K, drawn from 1 to this for each batch."""
    frames: int = 1
    """K of a decision: so many frames are imagined and so many chunks decided at once."""
    span_low: int = 4
    span_high: int = 64
    """In training a query sees what lies at most W halves of chunks back, drawn from this range for each batch."""
    span: int = 32
    """W of inference: what lies further back is forgotten."""
    forward_share: float = 0.5
    """Share of the batches that also learn forward dynamics: the frames that given actions lead to. 0 rules out mode "grounded"."""
    forward_weight: float = 1.0
    action_weight: float = 1.0
    video_weighting: Weighting = Weighting.MIDDLE
    action_weighting: Weighting = Weighting.MIDDLE
    video_shift: float = 1.0
    action_shift: float = 1.0
    history_noise_prob: float = 0.5
    history_noise_low: float = 0.5
    """Noisy history: with this probability a sequence's clean frames are mixed with noise at shares U[low, 1], told as their flow
    times; actions never."""
    proprio_noise: float = 0.0
    """Deviation of the noise on the measured state in training, in its normalised units."""
    text_dropout: float = 0.0
    """Share of the sequences that train without their instruction; guidance needs some."""
    video_steps: int = 4
    action_steps: int = 8
    action_samples: int = 1
    """Decisions that a policy makes of the same imagined frames, from as many noises; it plays their mean."""
    until: float = 0.5
    """Flow time s_v at which the imagined frames are left: partly denoised they say enough for actions."""
    cfg_video: float = 1.0
    """Classifier-free guidance of the frames (Ho & Salimans 2022); 1 for none. Actions are never guided."""

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
        if self.cfg_video != 1.0 and not self.text_dropout:
            raise ConfigError("cfg_video needs a model that trained without instructions too: set text_dropout, for one to 0.1")
        if (
            min(self.video_steps, self.action_steps, self.action_samples, self.layers, self.max_cameras) < 1
            or self.proprio_noise < 0.0
        ):
            raise ConfigError(
                "layers, max_cameras, video_steps, action_steps and action_samples must be at least 1, proprio_noise not negative"
            )
