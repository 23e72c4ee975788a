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
    """The velocity from noise to the next frame. Training refuses it for models narrower than a latent (channels)."""
    CHANGE = "change"
    """The clean next frame, as the sum of the present frame, a linear map of it, and the output of the tokens. The last two start
    at zero, so that the model starts by predicting no change. The loss is the error of the frame. Noisy history is applied to whole
    windows, and Stage 1 learns only from windows without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClwmConfig(ModelConfig):
    """Sizes, noise and sampling of the world model. The defaults are the tiny model for CPUs."""

    family: ClassVar[str] = "clwm"
    free: ClassVar[frozenset[str]] = frozenset(
        {"own_imagination", "proprio_noise", "history_noise_prob", "history_noise_low", "video_shift", "action_shift", "imagined"}
        | {"action_weight", "action_falloff", "action_draws", "video_steps", "action_steps", "action_temperature", "action_samples"}
    )

    dim: int = 96
    layers: int = 3
    heads: int = 3
    ffn: int = 384
    time_frequencies: int = 64
    memory_every: int = 2
    """Every `memory_every`-th block has a memory layer; 0 for a model without memory."""
    ttt: TttConfig = field(default_factory=TttConfig)
    next_frame: NextFrame = NextFrame.VELOCITY
    """What Stage 1 predicts. Files without this key were trained on the velocity."""
    see_imagined: bool = False
    """Whether actions attend to the tokens of the imagined frame and, with `glance`, get its pooled features too. Otherwise the
    imagined frame reaches them only through the working memory."""
    own_imagination: float = 0.0
    """Share of training steps in which actions see a frame sampled by the model itself, as in inference, instead of the true next
    frame with history noise."""
    max_cameras: int = 4
    told_place: bool = False
    """Whether latents get an embedding of their position in the image besides rotary positions. Rotary positions affect only
    queries and keys, so that an attention output does not say where in the image it came from."""
    glance: int = 0
    """Number of latents N in a frame, for a model whose actions are conditioned on one pooled feature vector of each frame
    (`hints.Glance`). Attention needs thousands of training steps to find an object in an image; until then a policy without pooled
    features follows its joints alone. 0 for a model without them, which accepts frames of any size."""
    aim: int = 0
    """Number of cameras, for a model whose actions are conditioned on image moments (`hints.Aim`): where objects are seen now,
    where they were in the episode's first frame, and where the arms are. Needs an encoder with a segmenter. 0 for a model
    without."""
    told_past: bool = True
    """Whether the model is given the chunk executed before a frame. If not, it cannot learn to continue past actions while ignoring
    the image."""

    proprio_noise: float = 0.0
    """Standard deviation of the noise added to the measured state in training, in normalised units. An exact state betrays where
    the motion of the demonstration will end, so that a model would extrapolate it instead of looking, and never correct its first
    guess."""

    history_noise_prob: float = 0.5
    history_noise_low: float = 0.5
    """Noisy history: with probability `history_noise_prob` a frame is mixed with noise, with a clean share drawn from U[low, 1] on
    the unshifted time grid."""
    history_noise_told: bool = False
    """Whether the model is given that share, as the frame's flow time."""
    video_shift: float = 1.0
    action_shift: float = 1.0
    action_weight: float = 1.0
    action_falloff: float = 0.0
    """The error of actions at flow time s is weighted by (1 - s) to this power, with a mean of 1. 0 weighs the error of the
    velocity, 2 that of the predicted chunk: it stresses early flow times, at which the observation decides, over nearly denoised
    ones."""
    action_draws: int = 1
    """Number of noise samples and flow times drawn for each chunk in a training step; they share the computation of the frames."""
    imagined: int = 0
    """Number of steps, from the start of a training window, whose next frame is predicted; 0 for all. Other values only without
    memory."""
    video_steps: int = 4
    action_steps: int = 8
    action_temperature: float = 1.0
    """Standard deviation of the noise from which a policy samples chunks. Below 1, chunks are closer to the mode but start outside
    of the training distribution: at 0 a policy pressed levers 8 mm too deep. `action_samples` costs more and has no such bias."""
    action_samples: int = 1
    """Chunks that a policy samples for each decision; it executes their mean."""

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
