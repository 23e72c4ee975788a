"""Statistics of a data set's columns in LeRobot's form: per episode, and merged over all episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Statistics", "merged", "of_pictures", "of_rows", "plain"]

Statistics = Mapping[str, NDArray[np.float64]]
"""min, max, mean, std, count and the quantiles q01 ... q99 of one column."""

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_MOST_PICTURES = 100
"""Most images of an episode that enter the statistics, as many as LeRobot's own writer samples."""


def of_rows(values: NDArray) -> Statistics:
    """Statistics of each channel of rows [N, D]: arrays [D], and the count [1]."""
    values = values.reshape(len(values), -1).astype(np.float64)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([len(values)]),
        **dict(zip(_QUANTILES, np.quantile(values, list(_QUANTILES.values()), axis=0), strict=True)),
    }


def of_pictures(frames: NDArray[np.uint8]) -> Statistics:
    """Statistics of each colour of images [N, h, w, 3], as values 0..1: arrays [3, 1, 1], and the count of images [1].

    Uses all pixels of up to a hundred images, spread evenly over the episode; a histogram of the 256 values makes it exact.
    """
    picks = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MOST_PICTURES)).round().astype(int))
    levels = np.arange(256) / 255.0
    found: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std", *_QUANTILES)}
    for colour in range(frames.shape[-1]):
        counts = np.bincount(frames[picks, ..., colour].ravel(), minlength=256)
        share, present = counts / counts.sum(), np.flatnonzero(counts)
        mean = float(share @ levels)
        found["min"].append(float(levels[present[0]]))
        found["max"].append(float(levels[present[-1]]))
        found["mean"].append(mean)
        found["std"].append(float(np.sqrt(share @ (levels - mean) ** 2)))
        below = np.cumsum(share)
        for name, quantile in _QUANTILES.items():
            found[name].append(float(levels[min(int(np.searchsorted(below, quantile)), 255)]))
    return {name: np.array(values).reshape(-1, 1, 1) for name, values in found.items()} | {"count": np.array([len(picks)])}


def merged(first: Statistics, second: Statistics) -> Statistics:
    """Statistics of the union of two sets of rows.

    Mean and deviation are exact (Chan's parallel variance). Quantiles are means weighted by count, as in LeRobot, and so only
    approximate.
    """
    a, b = float(first["count"][0]), float(second["count"][0])
    share = b / (a + b)
    mean = first["mean"] + (second["mean"] - first["mean"]) * share
    spread = (second["mean"] - first["mean"]) ** 2 * share * (1 - share)
    return {
        "min": np.minimum(first["min"], second["min"]),
        "max": np.maximum(first["max"], second["max"]),
        "mean": mean,
        "std": np.sqrt(first["std"] ** 2 * (1 - share) + second["std"] ** 2 * share + spread),
        "count": first["count"] + second["count"],
        **{name: first[name] * (1 - share) + second[name] * share for name in _QUANTILES},
    }


def plain(statistics: Statistics) -> dict[str, Any]:
    """Statistics as lists, for JSON and Parquet."""
    return {name: values.tolist() for name, values in statistics.items()}
