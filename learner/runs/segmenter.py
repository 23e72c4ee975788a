"""Trains the built-in segmenter on frames of the rendered stream, with a bounded number of reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from learner.reporting.pictures import save_found
from learner.runs.frame_training import Told, learn, save_record
from learner.runs.frames_config import SegmenterRunConfig
from learner.vision.camera_frames import CameraFrames
from learner.vision.segmenter import Segmenter, objects_of, save_segmenter, train_segmenter


def train(config: SegmenterRunConfig) -> dict[str, Any]:
    """Trains and saves one segmenter; returns its record. Raises RunError when `config.out` holds one already."""
    segmenter = Segmenter(config.segmenter.channels, config.segmenter.seed)

    last: list[CameraFrames] = []

    def kept(frames: Iterator[CameraFrames]) -> Iterator[CameraFrames]:
        for views in frames:
            last[:] = [views]
            yield views

    def fit(frames: Iterator[CameraFrames], told: Told) -> int:
        return train_segmenter(segmenter, kept(frames), config.segmenter, lambda step, fitted: told(step, fitted.overlap))

    record, overlaps = learn(config, "segmenter", config.segmenter.steps, "overlap of objects", fit)
    save_segmenter(segmenter, config.out)
    record["object_overlap"] = float(np.mean(overlaps[-50:])) if overlaps else None
    save_record(config.out, record)
    for views in last:
        with torch.no_grad():
            found = segmenter.objects(views.rgb).numpy()
        caption = f"found in green, missed in blue, mistaken in red; overlap {record['object_overlap']:.2f} in the last 50 batches"
        save_found(config.out / "objects.png", views.rgb.numpy(), found, objects_of(views).numpy(), caption)
    return record
