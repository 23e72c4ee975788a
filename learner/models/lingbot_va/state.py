"""The memory of LingBot-VA, and the inputs and intermediate results of its decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from learner.backbone.layers import KeyValue
from learner.memory.kv_cache import KvMemory
from learner.models.world_model import Decision

TextMemory = tuple[tuple[KeyValue, KeyValue], ...]
"""Keys and values of one instruction for each block, of the video stream and of the action stream. With guidance, the batch is
doubled: first with the instruction, then without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """Keys and values of the last chunks, and the hint for actions after the last frame. Immutable."""

    memory: KvMemory
    steps: int = 0
    """Number of real frames observed; also the number of the next one."""
    chunks: int = 0
    """Number of chunks of real frames."""
    predicted: int = 0
    """Number of predicted frames since the last real one."""
    predicted_chunks: int = 0
    hint: Tensor | None = None
    """Hint after the last frame, [B, 1, 1, D]."""
    opening: Tensor | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors: constant once the window is full."""
        others = [x for x in (self.hint, self.opening) if x is not None]
        return self.memory.size_bytes + sum(x.numel() * x.element_size() for x in others)


class Noise(NamedTuple):
    """The noise of one decision: of F frames, of F chunks, and of a frame by forward dynamics."""

    video_BFNC: Tensor
    action_BFKA: Tensor
    forward_BFNC: Tensor


class Started(NamedTuple):
    """A decision made before its observation; None if it has not been made."""

    noise: Noise
    decision: Decision | None = None
