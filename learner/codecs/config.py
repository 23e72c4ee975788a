"""Settings of what turns frames into latents; light, for command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from embodichain.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which DINOv3 to use: `source` is a local folder or hub id, "builtin" for the small one that ships with this package and was
    trained on its own rendered stream (`embodichain encoder train`), or "" for a small one with seeded random weights.
    """

    source: str = ""
    dim: int = 96
    layers: int = 4
    heads: int = 3
    patch: int = 16
    registers: int = 4
    seed: int = 0
    max_images: int = 256
    """Images per forward pass: bounds the encoder's memory."""
    merge: int = 1
    """Squares of so many patches a side become one latent of all their channels: fewer tokens for the model, nothing lost."""
    segmenter: str = ""
    """Where a trained segmenter lies, a folder or "builtin": each latent then ends with the six image moments of the objects in its
    camera's picture. Empty: patch tokens alone."""

    def __post_init__(self) -> None:
        if self.dim % (4 * self.heads):
            raise ConfigError(f"encoder dim must be a multiple of 4 x heads (2D rotary), got dim={self.dim}, heads={self.heads}")
        if self.max_images < 1 or self.merge < 1:
            raise ConfigError(f"encoder max_images and merge must be at least 1, got {self.max_images} and {self.merge}")


class LatentSpec(NamedTuple):
    """What the encoder makes of a picture: channels of a latent, and how many of them, the last, are image moments of objects."""

    channels: int
    moments: int = 0
