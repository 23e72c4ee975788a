"""The settings of X-WAM."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from embodichain.errors import ConfigError
from learner.models.family import ModelConfig


class NoiseRule(StrEnum):
    """How the noise levels of video and of actions are drawn in training."""

    ANS = "ans"
    """Asynchronous noise sampling: half of the samples have clean actions and train video alone; in the others, video is at least
    as noisy as actions. So training covers the pairs of levels that occur in inference."""
    SYNCHRONOUS = "synchronous"
    """Always the same level for both."""
    DECOUPLED = "decoupled"
    """Independent levels."""


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
    """F: number of frames that are imagined, and of chunks that are decided, at once. Training windows must have as many chunks."""
    depth: int = 0
    """M: copies of the last M blocks predict the depth of every frame; 0 for a model without. Needs a codec that encodes depth, and
    a stream that contains it."""
    glance: int = 0
    aim: int = 0
    """Hints for the actions (`hints.Hints`): `glance` is the number of latents a frame, `aim` that of cameras; 0 for none."""

    released: bool = False
    """The layout of the weights that the authors released, which `load_backbone` then takes: plain output heads of actions and
    states, and rotary positions of actions that begin at the frame, in the corner of the picture."""

    rule: NoiseRule = NoiseRule.ANS
    shift: float = 3.0
    """Time shift of the noise of video and actions, in training and on the sampler's grids."""
    action_weight: float = 1.0
    proprio_weight: float = 1.0
    depth_weight: float = 1.0
    proprio_noise: float = 0.0
    """Standard deviation of the noise added to the first measured state in training, in normalised units."""
    prefix: int = 0
    """In training, the first actions of a sample are clean, a number drawn from 0 to `prefix`, so that inference can be given the
    actions being executed (mode "prefix"). 0 trains no prefixes."""
    video_steps: int = 8
    action_steps: int = 4
    """Evaluations until actions are clean; a decision stops there. Video would be clean after `video_steps`."""
    samples: int = 1
    """Decisions that a policy samples for each frame; it executes their mean."""
    guidance: float = 10.0
    """Largest strength of guidance towards actions being executed. It is also bounded by `action_steps`, because Euler steps longer
    than the inverse of the strength diverge."""

    def __post_init__(self) -> None:
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ConfigError(f"dim must be an even multiple of heads, got dim={self.dim}, heads={self.heads}")
        if self.released and (self.glance or self.aim):
            raise ConfigError(f"the released layout has no hints: set glance and aim 0, got {self.glance} and {self.aim}")
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
