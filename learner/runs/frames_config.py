"""Configurations of trainings on single camera frames. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from embodichain.config import WorldConfig
from embodichain.errors import ConfigError
from embodichain.expand.visual import VisualConfig
from embodichain.recovery.config import RecoveryConfig
from embodichain.tasks import TASKS
from learner.codecs.config import EncoderConfig, FastConfig, MotionConfig, PretrainConfig, VaeConfig, VqConfig
from learner.runs.config import RingConfig, StreamConfig
from learner.vision.config import BUILTIN, SegmenterConfig

_NOT_LOOKED_AT = ("counting",)


def rendered(*, depth: bool = False) -> WorldConfig:
    """A world for such trainings: every task with pictures, some episodes with failures, varied looks."""
    return WorldConfig(
        tasks=tuple(name for name in TASKS.built_in if name not in _NOT_LOOKED_AT),
        width=128,
        height=128,
        depth=depth,
        segmentation=True,
        recovery=RecoveryConfig(probability=0.3),
        visual=VisualConfig(enabled=True),
    )


@dataclass(frozen=True, kw_only=True)
class FramesConfig:
    """What is rendered, how it streams, and how many frames make a batch."""

    out: Path
    """Folder for the weights and training.json; must not hold any yet."""
    world: WorldConfig = field(default_factory=rendered)
    stream: StreamConfig = field(default_factory=StreamConfig)
    ring: RingConfig = field(default_factory=lambda: RingConfig(num_slots=64, max_reads=32, min_ready=16))
    trajectories: int = 8
    """Trajectories in each batch."""
    images: int = 8
    """Images from each trajectory, drawn from all its frames and cameras."""
    clip: int = 1
    """Consecutive frames in each drawn clip; 1 for single images."""
    threads: int = 2
    timeout_s: float = 120.0
    json: bool = False
    """Print the summary as one JSON object on the last line."""

    def __post_init__(self) -> None:
        if self.clip < 1:
            raise ConfigError(f"clip must be at least 1 frame, got {self.clip}")
        if not 1 <= self.trajectories <= self.ring.num_slots or self.images < 1:
            raise ConfigError(
                f"a batch needs 1..num_slots={self.ring.num_slots} trajectories and images >= 1, "
                f"got {self.trajectories} and {self.images}"
            )


@dataclass(frozen=True, kw_only=True)
class EncoderRunConfig(FramesConfig):
    """One training of an encoder: what is rendered, how it streams, and how the encoder learns from it."""

    out: Path = Path("runs/encoder")
    """Folder for config.json, model.safetensors and training.json; must not hold an encoder yet."""
    world: WorldConfig = field(default_factory=lambda: rendered(depth=True))
    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(dim=96, layers=4, heads=3))
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder.source:
            raise ConfigError(f"training starts from random weights: leave encoder.source empty, got {self.encoder.source!r}")


@dataclass(frozen=True, kw_only=True)
class SegmenterRunConfig(FramesConfig):
    """One training of a segmenter: what is rendered, how it streams, and how the segmenter learns from it."""

    out: Path = Path("runs/segmenter")
    """Folder for model.safetensors, training.json and objects.png; must not hold a segmenter yet."""
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.world.segmentation:
            raise ConfigError("a segmenter learns from segmentation: leave world.segmentation true")


@dataclass(frozen=True, kw_only=True)
class VaeRunConfig(FramesConfig):
    """One training of the image autoencoder: what is rendered, how it streams, and how it learns from it."""

    out: Path = Path("runs/vae")
    """Folder for model.safetensors and training.json; must not hold an autoencoder yet."""
    world: WorldConfig = field(default_factory=lambda: rendered(depth=True))
    images: int = 2
    vae: VaeConfig = field(default_factory=VaeConfig)


@dataclass(frozen=True, kw_only=True)
class VqRunConfig(FramesConfig):
    """One training of the vector-quantised autoencoder."""

    out: Path = Path("runs/vq")
    """Folder for model.safetensors and training.json; must not hold any yet."""
    images: int = 4
    vq: VqConfig = field(default_factory=VqConfig)


@dataclass(frozen=True, kw_only=True)
class MotionRunConfig(FramesConfig):
    """One training of the motion extractor, on latents of the image autoencoder in `encoder`."""

    out: Path = Path("runs/motion")
    """Folder for model.safetensors and training.json; must not hold any yet."""
    images: int = 2
    clip: int = 5
    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(codec="vae", source=BUILTIN, merge=2))
    motion: MotionConfig = field(default_factory=MotionConfig)


@dataclass(frozen=True, kw_only=True)
class FastRunConfig(FramesConfig):
    """One action tokenizer, from the chunks of the stream."""

    out: Path = Path("runs/fast")
    """Folder for fast.json and training.json; must not hold any yet."""
    world: WorldConfig = field(default_factory=lambda: replace(rendered(), width=16, height=16, segmentation=False))
    """The world; its pictures are not used and therefore as small as possible."""
    fast: FastConfig = field(default_factory=FastConfig)
