"""Single camera frames with all that the stream carries of them: what encoder and segmenter learn to see from."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

KINDS = ("room", "table", "robot", "object")
"""What a pixel can show; which object it is differs by task."""


class Views(NamedTuple):
    """Camera frames: colours, and what else the camera measured, where the stream carries it."""

    rgb: Tensor
    """uint8 [B, h, w, 3]."""
    depth: Tensor | None = None
    """Distance along the camera's axis [m], [B, h, w]; 0 where nothing was hit."""
    segmentation: Tensor | None = None
    """uint8 [B, h, w]: 0 room, 1 table, 2 robot, 3 and more objects."""
