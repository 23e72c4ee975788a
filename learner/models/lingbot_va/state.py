"""What LingBot-VA remembers of an episode, and what its decisions begin with and leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from learner.backbone.layers import KeyValue
from learner.memory.kv_cache import KvMemory
from learner.models.world_model import Decision

TextMemory = tuple[tuple[KeyValue, KeyValue], ...]
"""Keys and values of one instruction for each block: of the video stream and of the action stream. With guidance there are two
batches one after the other: with the instruction, and without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """Keys and values of the last chunks, and what the actions are told of the last frame. Immutable."""

    memory: KvMemory
    steps: int = 0
    """Real frames observed; also the number of the next one."""
    chunks: int = 0
    """Of real frames observed."""
    predicted: int = 0
    """Frames that stand in for real ones since."""
    predicted_chunks: int = 0
    hint: Tensor | None = None
    """Of the last frame, [B, 1, 1, D]."""
    opening: Tensor | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors: constant once the window is full."""
        others = [x for x in (self.hint, self.opening) if x is not None]
        return self.memory.size_bytes + sum(x.numel() * x.element_size() for x in others)


class Noise(NamedTuple):
    """Where the paths of one decision begin: F frames, F chunks, and a frame's path by forward dynamics."""

    video_BFNC: Tensor
    action_BFKA: Tensor
    forward_BFNC: Tensor


class Started(NamedTuple):
    """A decision made before its observation, or none yet."""

    noise: Noise
    decision: Decision | None = None
