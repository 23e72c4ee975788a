"""The settings of CoWVLA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from embodichain.errors import ConfigError
from learner.models.family import ModelConfig

TWO_ARMS = (*range(14, 20), *range(21, 27), 28, 29)
"""Channels of the unified action: the joints of two six-joint arms, and both grippers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CowvlaConfig(ModelConfig):
    """Sizes, and the parts of the sequence. The defaults are the tiny model for CPUs."""

    family: ClassVar[str] = "cowvla"

    dim: int = 96
    layers: int = 4
    heads: int = 3
    ffn: int = 384
    cameras: int = 3
    """Cameras in every frame; motions are predicted for each."""
    codes: int = 512
    """Size of the codebook."""
    fast: str = "builtin"
    """Folder of the action tokenizer, or "builtin"."""
    channels: tuple[int, ...] = TWO_ARMS
    """Action channels that are decoded, as many as the tokenizer was made for. All other channels are zero."""
    most_tokens: int = 56
    """Most tokens of a chunk in training; longer chunks are left out of the loss."""
    span: int = 4
    """S: a step attends to itself and the S - 1 steps before it, in training and in inference."""
    told_state: bool = True
    """Whether the measured robot state follows each keyframe in the sequence."""
    glance: int = 0
    aim: int = 0
    """Hints for the actions (`hints.Hints`): `glance` is the number of latents a frame, `aim` that of cameras; 0 for none."""

    pretrain: bool = False
    """Train on frames alone, without actions: [keyframe, motion query, keyframe four chunks later]."""
    motion: bool = True
    """Whether a query after each keyframe predicts the motion of the clip that follows."""
    keyframes: bool = True
    """Whether the codes of keyframes are predicted too."""
    between: int = 0
    """Pictures inside a chunk that its clip is made of: 3 for the motion of one chunk, 0 for that of four chunks in five frames."""
    motion_weight: float = 1.0
    keyframe_weight: float = 1.0
    action_weight: float = 1.0
    proprio_noise: float = 0.0
    """Standard deviation of the noise added to the measured state in training, in normalised units."""

    @property
    def ahead(self) -> int:
        """Chunks from the first to the last picture of a clip."""
        return 1 if self.between else 4

    def __post_init__(self) -> None:
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ConfigError(f"dim must be an even multiple of heads, got dim={self.dim}, heads={self.heads}")
        if min(self.layers, self.cameras, self.codes, self.most_tokens, self.span) < 1 or self.proprio_noise < 0.0:
            raise ConfigError(f"layers, cameras, codes, most_tokens and span must be at least 1, got {self}")
        if self.between not in (0, 3):
            raise ConfigError(f"between must be 0 or 3, as a clip has five pictures, got {self.between}")
        if self.pretrain and not self.motion and not self.keyframes:
            raise ConfigError("pretraining without motion and without keyframes has nothing to learn")
