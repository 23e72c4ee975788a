"""One training of the built-in encoder on frames of the rendered stream, read a bounded number of times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodichain.config import WorldConfig
from embodichain.errors import ConfigError
from learner.codecs.config import EncoderConfig
from learner.codecs.dino import Encoder
from learner.codecs.masked_autoencoding import PretrainConfig, pretrain
from learner.runs.frame_training import FramesConfig, Told, learn, rendered, save_record
from learner.vision.camera_frames import Views


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


def train(config: EncoderRunConfig) -> dict[str, Any]:
    """Trains and saves one encoder; returns its record. Raises RunError when `config.out` holds one already."""
    encoder = Encoder(config.encoder)

    def fit(frames: Iterator[Views], told: Told) -> int:
        return pretrain(encoder, frames, config.pretrain, lambda step, _, hidden: told(step, hidden))

    record, errors = learn(config, "encoder", config.pretrain.steps, "error on hidden patches", fit)
    encoder.vit.save_pretrained(config.out)
    record["hidden_error"] = float(np.mean(errors[-50:])) if errors else None
    save_record(config.out, record)
    return record
