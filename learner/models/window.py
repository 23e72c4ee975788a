"""The data of a training step of a world model."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Window(NamedTuple):
    """T steps of B trajectories, normalised: T + 1 frames and the T chunks between them."""

    latents_BTNC: Tensor
    proprio_BTA: Tensor
    actions_BTKA: Tensor
    text_BLC: Tensor
    opening_BNC: Tensor | None = None
    """Latents of the first frame of each trajectory, for models with `aim`."""
    depth_BTNC: Tensor | None = None
    """Latents of every frame's depth, for models that learn it."""
    codes_BTN: Tensor | None = None
    """Codes of every frame's patches, int64, for models that read them."""
    motion_BTM: Tensor | None = None
    """Motion vectors of all clips of five consecutive pictures: of four chunks, or of each chunk if pictures lie inside it."""


class Extent(NamedTuple):
    """The sizes of one training step: B windows of T chunks, N latents of C channels a frame, L text tokens of E channels."""

    windows: int
    steps: int
    latents: int
    latent_dim: int
    text_tokens: int
    text_dim: int
