"""Batches of single camera frames with depth and segmentation: the training data of encoders and segmenters."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

KINDS = ("room", "table", "robot", "object")
"""Classes of pixels; all objects are one class, because their numbers mean different things in different tasks."""


class CameraFrames(NamedTuple):
    """Camera frames: colours, and depth and segmentation if the stream carries them."""

    rgb: Tensor
    """uint8 [B, h, w, 3]."""
    depth: Tensor | None = None
    """Distance along the camera's axis [m], [B, h, w]; 0 where nothing was hit."""
    segmentation: Tensor | None = None
    """uint8 [B, h, w]: 0 room, 1 table, 2 robot, 3 and more objects."""
