"""The settings of the Causal Latent World Model."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from embodichain.errors import ConfigError
from learner.memory.config import TttConfig
from learner.models.family import ModelConfig


class NextFrame(StrEnum):
    """What Stage 1 predicts of the next frame."""

    VELOCITY = "velocity"
    """The velocity from noise to it. A head narrower than the latents cannot express their noise: that is refused in training."""
    CHANGE = "change"
    """The clean frame, as the present one, a linear map of it and what the tokens add; the last two start at zero, hence the model
    at "no change". Its loss is that of the frame; noisy history comes to whole windows, Stage 1 learns from clean ones alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClwmConfig(ModelConfig):
    """Sizes, noise and sampling of the world model. The defaults are the tiny model for CPUs."""

    family: ClassVar[str] = "clwm"

    dim: int = 96
    layers: int = 3
    heads: int = 3
    ffn: int = 384
    time_frequencies: int = 64
    memory_every: int = 2
    """Every how many blocks one has a memory layer; 0 for a model without memory."""
    ttt: TttConfig = field(default_factory=TttConfig)
    next_frame: NextFrame = NextFrame.VELOCITY
    """Files that do not say were trained on the velocity."""
    see_imagined: bool = False
    """Whether actions attend to the tokens of the imagined frame, and see it at a glance where they so see the present one.
    Without, they know of it through the working memory alone."""
    own_imagination: float = 0.0
    """Share of training steps in which actions are shown what the model itself imagines, with its own sampler, instead of the true
    next frame with history noise. They meet nothing else once they act."""
    max_cameras: int = 4
    told_place: bool = False
    """Whether latents are told where in their picture they lie, beside the rotary positions: those turn queries and keys alone, so
    that what is read of a latent does not say where it was."""
    glance: int = 0
    """Latents in a frame, N, for a model whose actions also see each frame at a glance: all its latents, weighed by where they
    lie, in one vector. Attention takes thousands of steps to find a thing in a picture; until then a policy goes by its joints
    alone. 0 for a model without, which takes frames of any size."""
    aim: int = 0
    """Cameras, for a model whose actions also aim: at where objects are seen now and were seen in the episode's first frame, from
    where the arms are. Needs an encoder with a segmenter. 0 for a model without."""
    told_past: bool = True
    """Whether the model sees the chunk executed before a frame. Without it it cannot learn to go on as before, unseeing."""

    proprio_noise: float = 0.0
    """Deviation of the noise on the measured state in training, in its normalised units. A path that has begun tells where it will
    end: a model that knows the state exactly prolongs it instead of looking, and never corrects its first guess."""

    history_noise_prob: float = 0.5
    history_noise_low: float = 0.5
    """Noisy history: with this probability a frame is mixed with noise at a clean share U[low, 1], on the unshifted grid."""
    history_noise_told: bool = False
    """Whether the model is told the share, as its flow time."""
    video_shift: float = 1.0
    action_shift: float = 1.0
    action_weight: float = 1.0
    action_falloff: float = 0.0
    """Power of 1 - s that weighs the error of actions at flow time s, with a mean of 1: 0 judges the velocity, 2 the chunk that it
    points to, so that training looks where the observation decides and not where the noise is nearly gone."""
    action_draws: int = 1
    """Noises and flow times that each chunk of a training step is seen with: what is seen of the frames serves them all."""
    imagined: int = 0
    """Steps of a training window whose next frame is predicted, the first so many; 0 for all. Only for models without memory."""
    video_steps: int = 4
    action_steps: int = 8
    action_temperature: float = 1.0
    """Deviation of the noise from which a policy's chunks start. Below 1 they keep to what is most likely, but start where training
    never was: at 0 a policy that presses levers pressed 8 mm too deep. `action_samples` costs more and has no such bias."""
    action_samples: int = 1
    """Chunks that a policy makes of a frame, from as many noises; it plays their mean."""

    def __post_init__(self) -> None:
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ConfigError(f"dim must be an even multiple of heads, got dim={self.dim}, heads={self.heads}")
        if not 0.0 <= self.history_noise_prob <= 1.0 or not 0.0 <= self.history_noise_low <= 1.0:
            raise ConfigError("history_noise_prob and history_noise_low must be in 0..1")
        if self.proprio_noise < 0.0 or not 0.0 <= self.action_temperature <= 1.0:
            raise ConfigError("proprio_noise must not be negative and action_temperature be in 0..1")
        if not 0 <= self.memory_every <= self.layers:
            raise ConfigError(f"memory_every must be 0 (none) to layers={self.layers}, got {self.memory_every}")
        if self.imagined < 0 or (self.imagined and self.memory_every):
            raise ConfigError(
                f"imagined is a number of steps, or 0 for all, and all where memory_every is not 0, got {self.imagined} "
                f"with memory_every={self.memory_every}: memory is trained along every step"
            )
        if not 0.0 <= self.own_imagination <= 1.0 or (self.own_imagination and not self.see_imagined):
            raise ConfigError(
                f"own_imagination is a share of training steps, 0 to 1, of a model with see_imagined, got {self.own_imagination} "
                f"with see_imagined={self.see_imagined}"
            )
        if self.action_falloff < 0.0:
            raise ConfigError(f"action_falloff must not be negative, got {self.action_falloff}")
        if self.glance < 0:
            raise ConfigError(f"glance is how many latents a frame has, or 0 for none, got {self.glance}")
        if not 0 <= self.aim <= self.max_cameras:
            raise ConfigError(f"aim is how many cameras it reads, 0 to max_cameras={self.max_cameras}, got {self.aim}")
        if min(self.video_steps, self.action_steps, self.action_draws, self.action_samples, self.layers, self.max_cameras) < 1:
            raise ConfigError("layers, max_cameras, action_draws, action_samples, video_steps and action_steps must be at least 1")

    @property
    def memory_blocks(self) -> tuple[int, ...]:
        """Indices of the blocks with a memory layer."""
        return tuple(i for i in range(self.layers) if self.memory_every and (i + 1) % self.memory_every == 0)
