"""Which trajectories and windows make a batch; light, for command lines."""

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
    """Windows that cross from one segment into the next, each crossing alike; a trajectory of one segment gives any window."""
    SOUND = "sound"
    """Windows that begin with a chunk to imitate, each alike: little is spent on failures, whose actions teach nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """A batch: `batch_size` trajectories of the ring, one window of `window` chunks from each; `seed` draws both.

    With `window` 0 windows are whole episodes: memory is then trained as it lives in closed loop, from the first frame to the last.
    `timeout_s` is how long to wait for a batch before the run stops with RingTimeout.
    """

    batch_size: int = 8
    window: int = 4
    sampling: Sampling = Sampling.EPISODE
    openings: float = 0.0
    """Share of windows, beside those drawn by `sampling`, that begin with their episode: there alone does nothing but the picture
    tell what to do, and one window in many begins there by chance."""
    ahead: int = 0
    """Batches that are drawn, and travel to the learner's device, while one is learned from: 2 for a GPU. They count as read, and
    a checkpoint keeps them."""
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
