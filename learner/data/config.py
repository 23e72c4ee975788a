"""Which trajectories and windows make a batch. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embodichain.errors import ConfigError


class Sampling(StrEnum):
    """Which windows of a trajectory are drawn; segments are its nominal, failed and recovering stretches (`types.Segment`)."""

    EPISODE = "episode"
    """Any window that fits, uniformly."""
    SEGMENT = "segment"
    """Windows inside one segment, segments by their length; a segment shorter than the window comes whole and is padded."""
    BOUNDARY = "boundary"
    """Windows that contain a change of segment, all changes equally likely; a trajectory of one segment gives any window."""
    SOUND = "sound"
    """Windows that begin with a chunk to imitate, all equally likely: few windows show failures, whose actions are not imitated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """A batch: `batch_size` trajectories of the ring and one window of `window` chunks from each, both drawn with `seed`.

    `window` 0 means whole episodes: the model's memory then trains over the same span as in closed loop.
    `timeout_s` is how long to wait for a batch before the run stops with RingTimeout.
    """

    batch_size: int = 8
    window: int = 4
    sampling: Sampling = Sampling.EPISODE
    openings: float = 0.0
    """Share of windows that are forced to begin with the first frame of their episode. Only there must the image alone decide what
    to do, as no earlier motion hints at it, and few windows drawn by `sampling` begin there."""
    ahead: int = 0
    """Batches that are prefetched to the learner's device while it trains: 2 for a GPU. They count as read, and checkpoints contain
    them."""
    seed: int = 0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.window < 0 or self.timeout_s < 0:
            raise ConfigError(f"batch_size must be at least 1, window and timeout_s not negative, got {self}")
        if not 0 <= self.ahead <= 16:
            raise ConfigError(f"ahead is a number of batches, 0 to 16, got {self.ahead}: 2 keep a GPU busy")
        if not 0.0 <= self.openings <= 1.0:
            raise ConfigError(f"openings is a share of windows, 0 to 1, got {self.openings}")
        if self.sampling is Sampling.BOUNDARY and self.window == 1:
            raise ConfigError("a window of 1 chunk crosses no boundary: sampling boundary needs window >= 2")
