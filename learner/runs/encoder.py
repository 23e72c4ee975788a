"""Trains the built-in encoder on frames of the rendered stream, with a bounded number of reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from learner.codecs.dino import Encoder
from learner.codecs.masked_autoencoding import pretrain
from learner.runs.frame_training import Told, learn, save_record
from learner.runs.frames_config import EncoderRunConfig
from learner.vision.camera_frames import CameraFrames


def train(config: EncoderRunConfig) -> dict[str, Any]:
    """Trains and saves one encoder; returns its record. Raises RunError when `config.out` holds one already."""
    encoder = Encoder(config.encoder)

    def fit(frames: Iterator[CameraFrames], told: Told) -> int:
        return pretrain(encoder, frames, config.pretrain, lambda step, _, hidden: told(step, hidden))

    record, errors = learn(config, "encoder", config.pretrain.steps, "error on hidden patches", fit)
    encoder.vit.save_pretrained(config.out)
    record["hidden_error"] = float(np.mean(errors[-50:])) if errors else None
    save_record(config.out, record)
    return record
