"""One training of a codec on frames of the rendered stream, read a bounded number of times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from learner.codecs.vae import Vae, save_vae
from learner.codecs.vae_training import psnr, shown, train_vae
from learner.runs.frame_training import Told, learn, save_record
from learner.runs.frames_config import VaeRunConfig
from learner.vision.camera_frames import Views


def train_autoencoder(config: VaeRunConfig) -> dict[str, Any]:
    """Trains and saves one image autoencoder; returns its record. Raises RunError when `config.out` holds one already.

    The last batch of the stream is kept from training, and the record says how well its colours and depths are given back.
    """
    vae, last = Vae(config.vae.seed), []

    def fit(frames: Iterator[Views], told: Told) -> int:
        last.append(next(frames))
        return train_vae(vae, frames, config.vae, told)

    record, ratios = learn(config, "autoencoder", config.vae.steps, "PSNR [dB]", fit)
    save_vae(vae, config.out)
    record["psnr_db"] = float(np.mean(ratios[-50:])) if ratios else None
    for views in last:
        for name, share in (("rgb", 0.0), ("depth", 1.0)):
            pictures = shown(views, share, torch.Generator(), vae.moments.weight)
            with torch.no_grad():
                record[f"kept_{name}_psnr_db"] = float(psnr(vae.decode(vae.encode(pictures)[0]), pictures))
    save_record(config.out, record)
    return record
