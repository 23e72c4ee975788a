"""Turns camera frames into the latents of the world model: patch tokens of a frozen DINOv3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError
from learner.pretrained import load_dinov3, new_dinov3

_PIXEL_MEAN = (0.485, 0.456, 0.406)
_PIXEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which DINOv3 to use: `source` is a local folder or hub id; "" builds a small one with seeded random weights."""

    source: str = ""
    dim: int = 96
    layers: int = 4
    heads: int = 3
    patch: int = 16
    registers: int = 4
    seed: int = 0
    max_images: int = 256
    """Images per forward pass: bounds the encoder's memory."""

    def __post_init__(self) -> None:
        if self.dim % (4 * self.heads):
            raise ConfigError(f"encoder dim must be a multiple of 4 x heads (2D rotary), got dim={self.dim}, heads={self.heads}")
        if self.max_images < 1:
            raise ConfigError(f"encoder max_images must be at least 1, got {self.max_images}")


class Encoder(nn.Module):
    """A frozen DINOv3 vision transformer: uint8 pixels in, patch latents out; never trained, always in eval mode.

    In training mode DINOv3 rescales its positions at random, so `train()` leaves this module in eval mode.
    """

    is_random: bool
    """True when no trained weights were given: reports must say so."""
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.is_random = not config.source
        self.vit = load_dinov3(config.source) if config.source else _random(config)
        self.vit.requires_grad_(False)
        self.register_buffer("pixel_mean", 255.0 * torch.tensor(_PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", 255.0 * torch.tensor(_PIXEL_STD).view(3, 1, 1), persistent=False)
        self.eval()

    @property
    def latent_dim(self) -> int:
        """Channels C of a latent."""
        return int(self.vit.config.hidden_size)

    @property
    def patch(self) -> int:
        """Side of a patch [pixels]."""
        size = self.vit.config.patch_size
        return int(size if isinstance(size, int) else size[0])

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches in an image; raises ConfigError when patches do not tile it."""
        if height % self.patch or width % self.patch:
            raise ConfigError(f"images of {height}x{width} pixels are not tiled by patches of {self.patch}: choose a multiple")
        return height // self.patch, width // self.patch

    def train(self, mode: bool = True) -> Encoder:
        """Stays in eval mode whatever `mode` says."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """Latents of camera frames.

        Args:
            rgb: uint8 [..., cameras, h, w, 3].

        Returns:
            [..., N, C] in the dtype of the encoder's weights: cameras in order, patches row by row, N = cameras x rows x columns.
        """
        *lead, cameras, height, width, _ = rgb.shape
        rows, columns = self.grid(height, width)
        images = rgb.reshape(-1, height, width, 3)
        tokens = torch.cat([self._patch_tokens(part) for part in images.split(self.config.max_images)])
        return tokens.reshape(*lead, cameras * rows * columns, self.latent_dim)

    def _patch_tokens(self, images: Tensor) -> Tensor:
        pixels = (images.permute(0, 3, 1, 2).to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        hidden = self.vit(pixel_values=pixels).last_hidden_state
        return hidden[:, 1 + self.vit.config.num_register_tokens :]


def _random(config: EncoderConfig) -> Any:
    return new_dinov3(
        dim=config.dim,
        layers=config.layers,
        heads=config.heads,
        patch=config.patch,
        registers=config.registers,
        seed=config.seed,
    )
