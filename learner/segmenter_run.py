"""`embodichain segmenter train`: trains the built-in segmenter on frames of the rendered stream, read a bounded number of times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodichain.errors import ConfigError
from learner.frames import FramesConfig, Told, command, learn, save_record
from learner.segmenter import Segmenter, SegmenterConfig, save_segmenter, train_segmenter
from learner.views import Views


@dataclass(frozen=True, kw_only=True)
class SegmenterRunConfig(FramesConfig):
    """One training of a segmenter: what is rendered, how it streams, and how the segmenter learns from it."""

    out: Path = Path("runs/segmenter")
    """Folder for model.safetensors and training.json; must not hold a segmenter yet."""
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.world.segmentation:
            raise ConfigError("a segmenter learns from segmentation: leave world.segmentation true")


def main(arguments: list[str]) -> int:
    """`embodichain segmenter train [OPTIONS]`; 130 after Ctrl-C, the segmenter trained so far being saved."""
    return command(arguments, "segmenter", SegmenterRunConfig, train, __doc__)


def train(config: SegmenterRunConfig) -> dict[str, Any]:
    """Trains and saves one segmenter; returns its record. Raises RunError when `config.out` holds one already."""
    segmenter = Segmenter(config.segmenter.channels, config.segmenter.seed)

    def fit(frames: Iterator[Views], told: Told) -> int:
        return train_segmenter(segmenter, frames, config.segmenter, lambda step, fitted: told(step, fitted.overlap))

    record, overlaps = learn(config, "segmenter", config.segmenter.steps, "overlap of objects", fit)
    save_segmenter(segmenter, config.out)
    record["object_overlap"] = float(np.mean(overlaps[-50:])) if overlaps else None
    save_record(config.out, record)
    return record
