"""The settings of X-WAM."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from embodichain.errors import ConfigError
from learner.models.family import ModelConfig


class NoiseRule(StrEnum):
    """How the noise of video and of actions is drawn together in training."""

    ANS = "ans"
    """Asynchronous noise sampling: half of the samples have clean actions and teach video alone, in the others video is never
    cleaner than actions. What inference meets on its way is then what training showed."""
    SYNCHRONOUS = "synchronous"
    """Always alike."""
    DECOUPLED = "decoupled"
    """Independent of each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XwamConfig(ModelConfig):
    """Sizes, noise and sampling. The defaults are the tiny model for CPUs."""

    family: ClassVar[str] = "x_wam"

    dim: int = 96
    layers: int = 4
    heads: int = 3
    ffn: int = 384
    time_frequencies: int = 64
    max_cameras: int = 4
    frames: int = 2
    """F: so many frames are imagined, and so many chunks decided, at once. Training's windows must hold as many."""
    depth: int = 0
    """M: the last so many blocks have copies that give the depth of every frame; 0 for a model without. Needs a codec that encodes
    depth, and a stream that carries it."""
    glance: int = 0
    aim: int = 0
    """Hints for the actions, see `hints.Hints`: latents a frame and cameras, 0 for none."""

    rule: NoiseRule = NoiseRule.ANS
    shift: float = 3.0
    """Of the noise of both, in training and on the sampler's grids."""
    action_weight: float = 1.0
    proprio_weight: float = 1.0
    depth_weight: float = 1.0
    proprio_noise: float = 0.0
    """Deviation of the noise on the first measured state in training, in its normalised units."""
    prefix: int = 0
    """In training the first 0 to so many actions of a sample are clean, so that inference may give those that are under way; 0
    trains none and rules out mode "prefix"."""
    video_steps: int = 8
    action_steps: int = 4
    """Evaluations until actions are clean; a decision stops there. Video would be after `video_steps`."""
    samples: int = 1
    """Decisions that a policy makes of the same frame, from as many noises; it plays their mean."""
    guidance: float = 10.0
    """Largest weight of guidance towards actions that are under way; `action_steps` bounds it too, for Euler steps that are longer
    than its inverse diverge."""

    def __post_init__(self) -> None:
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ConfigError(f"dim must be an even multiple of heads, got dim={self.dim}, heads={self.heads}")
        if not 0 <= self.depth <= self.layers:
            raise ConfigError(f"depth is how many of the last blocks are copied, 0 to layers={self.layers}, got {self.depth}")
        if self.action_steps > self.video_steps:
            raise ConfigError(
                f"action_steps={self.action_steps} over video_steps={self.video_steps}: actions would lag behind the video, which "
                "training never shows; action_steps must be at most video_steps"
            )
        if (
            min(self.frames, self.layers, self.max_cameras, self.action_steps, self.samples) < 1
            or self.shift <= 0
            or self.guidance <= 0
        ):
            raise ConfigError(f"frames, layers, max_cameras and steps must be at least 1, shift and guidance positive, got {self}")
        if not 0 <= self.prefix < self.chunk * self.frames or self.proprio_noise < 0.0:
            raise ConfigError(f"prefix must be 0..{self.chunk * self.frames - 1} and proprio_noise not negative, got {self}")
