"""Turns camera frames into the latents of the world model: patch tokens of a frozen DINOv3, and where objects are if asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodichain.errors import ConfigError
from learner.codecs.config import EncoderConfig, LatentSpec
from learner.records.shipped import SHIPPED_WEIGHTS
from learner.vision.config import BUILTIN
from learner.vision.pretrained import load_dinov3, new_dinov3
from learner.vision.segmenter import MOMENTS, load_segmenter

_PIXEL_MEAN = (0.485, 0.456, 0.406)
_PIXEL_STD = (0.229, 0.224, 0.225)


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
        self.vit = load_dinov3(weights_folder(config.source)) if config.source else _random(config)
        self.vit.requires_grad_(False)
        self.segmenter = load_segmenter(config.segmenter).requires_grad_(False) if config.segmenter else None
        self.register_buffer("pixel_mean", 255.0 * torch.tensor(_PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", 255.0 * torch.tensor(_PIXEL_STD).view(3, 1, 1), persistent=False)
        self.eval()

    @property
    def latents(self) -> LatentSpec:
        """What it makes of a picture."""
        return LatentSpec(self.latent_dim, MOMENTS if self.segmenter is not None else 0)

    @property
    def latent_dim(self) -> int:
        """Channels C of a latent."""
        return int(self.vit.config.hidden_size) * self.config.merge**2 + (MOMENTS if self.segmenter is not None else 0)

    @property
    def patch(self) -> int:
        """Side of a patch [pixels]."""
        size = self.vit.config.patch_size
        return int(size if isinstance(size, int) else size[0])

    def patches(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches in an image; raises ConfigError when patches do not tile it."""
        if height % self.patch or width % self.patch:
            raise ConfigError(f"images of {height}x{width} pixels are not tiled by patches of {self.patch}: choose a multiple")
        return height // self.patch, width // self.patch

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of latents of an image; raises ConfigError when they do not tile it."""
        rows, columns = self.patches(height, width)
        if rows % self.config.merge or columns % self.config.merge:
            raise ConfigError(f"{rows}x{columns} patches cannot be merged by {self.config.merge} a side: choose another merge")
        return rows // self.config.merge, columns // self.config.merge

    def train(self, mode: bool = True) -> Encoder:
        """Stays in eval mode whatever `mode` says."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """Latents of camera frames.

        Args:
            rgb: uint8 [..., cameras, h, w, 3].

        Returns:
            [..., N, C] in the dtype of the encoder's weights: cameras in order, patches row by row, N = cameras x rows x columns;
            with a segmenter the last six channels are `segmenter.image_moments` of the camera's picture, alike in all its patches.
        """
        *lead, cameras, height, width, _ = rgb.shape
        rows, columns = self.grid(height, width)
        images = rgb.reshape(-1, height, width, 3)
        tokens = torch.cat([self._latents(part) for part in images.split(self.config.max_images)])
        return tokens.reshape(*lead, cameras * rows * columns, self.latent_dim)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Rows, columns and channels of the latents of one image."""
        return (*self.grid(height, width), self.latent_dim)

    def encode(self, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Encode-on-write: latents [F, C, rows, columns, channels] of frames uint8 [F, C, h, w, 3]."""
        latents = self(torch.from_numpy(rgb)).half()
        return latents.reshape(*rgb.shape[:2], *self.latent_shape(*rgb.shape[2:4])).numpy()

    def pixels(self, images: Tensor) -> Tensor:
        """What the transformer is given for uint8 images [B, h, w, 3]: floats [B, 3, h, w] in deviations of ImageNet's."""
        return (images.permute(0, 3, 1, 2).to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std

    def tokens_of(self, pixels: Tensor, seen: Tensor) -> Tensor:
        """Tokens [B, M, C] of the patches `seen`, indices [B, M], of `pixels`, when the transformer is shown no others."""
        vit = self.vit
        tokens, (cos, sin) = vit.embeddings(pixels), vit.rope_embeddings(pixels)
        prefix = 1 + vit.config.num_register_tokens
        picked = tokens[:, prefix:].gather(1, seen[..., None].expand(-1, -1, tokens.shape[-1]))
        hidden = torch.cat([tokens[:, :prefix], picked], dim=1)
        for layer in vit.model.layer:
            hidden = layer(hidden, position_embeddings=(cos[seen].unsqueeze(1), sin[seen].unsqueeze(1)))
        return vit.norm(hidden)[:, prefix:]

    def _latents(self, images: Tensor) -> Tensor:
        hidden = self.vit(pixel_values=self.pixels(images)).last_hidden_state
        tokens = hidden[:, 1 + self.vit.config.num_register_tokens :]
        side, (rows, columns) = self.config.merge, self.grid(images.shape[1], images.shape[2])
        if side > 1:
            square = tokens.reshape(-1, rows, side, columns, side, tokens.shape[-1]).transpose(2, 3)
            tokens = square.reshape(len(images), rows * columns, -1)
        if self.segmenter is None:
            return tokens
        moments = self.segmenter.moments(images).to(tokens)
        return torch.cat([tokens, moments[:, None].expand(-1, tokens.shape[1], -1)], dim=-1)


def for_writing(**options: Any) -> Encoder:
    """The encoder of a stream's workers, from the keywords of `EncoderConfig`."""
    return Encoder(EncoderConfig(**options))


def weights_folder(source: str) -> str:
    """Where the weights of a source lie."""
    return str(SHIPPED_WEIGHTS / "encoder") if source == BUILTIN else source


def _random(config: EncoderConfig) -> Any:
    return new_dinov3(
        dim=config.dim,
        layers=config.layers,
        heads=config.heads,
        patch=config.patch,
        registers=config.registers,
        seed=config.seed,
    )
