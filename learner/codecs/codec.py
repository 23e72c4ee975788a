"""The base class of frame codecs: folds cameras and frames into a batch of images, merges patches, appends moments of objects.

Shapes: B images of h x w pixels, N latents a frame, C channels of a latent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodichain.errors import ConfigError
from learner.codecs.config import EncoderConfig, LatentSpec
from learner.vision.segmenter import MOMENTS, load_segmenter


class Codec(nn.Module, ABC):
    """Turns camera frames into latents, and back where it can; frozen, always in eval mode.

    A subclass defines the patch size, the token of a patch, and how tokens are decoded. `EncoderConfig.merge` concatenates squares
    of patches into one latent. With a segmenter, the last channels of each latent are the image moments of the objects that its
    camera sees (`segmenter.image_moments`), the same in all latents of an image.
    """

    is_random: bool
    """True when no trained weights were given: reports must say so."""
    decodes = False
    """Whether `decode` gives pictures."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.is_random = not config.source

    def _look_for_objects(self) -> None:
        """Loads the segmenter that the configuration names; called once, after the subclass made its own parts."""
        self.segmenter = load_segmenter(self.config.segmenter).requires_grad_(False) if self.config.segmenter else None

    @property
    @abstractmethod
    def patch(self) -> int:
        """Side of a patch [pixels]."""

    @property
    @abstractmethod
    def token_dim(self) -> int:
        """Channels of a patch's token, before merging."""

    @abstractmethod
    def tokens(self, images: Tensor) -> Tensor:
        """Tokens [B, patches, channels] of images uint8 [B, h, w, 3], row by row."""

    def pictures(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Images uint8 [B, h, w, 3] of tokens [B, rows x columns, channels]; raises ConfigError where nothing can be decoded."""
        raise ConfigError(f"latents of the codec {self.config.codec!r} cannot be decoded into pictures: use vae")

    @property
    def encodes_depth(self) -> bool:
        """Whether `depth_latents` gives latents of depths."""
        return False

    def depth_latents(self, depth_m: Tensor) -> Tensor:
        """Latents [..., N, C] of depths [m], [..., cameras, h, w]; raises ConfigError if this codec does not encode depth."""
        raise ConfigError(f"the codec {self.config.codec!r} encodes no depth: use vae")

    @property
    def num_codes(self) -> int:
        """Size of the codebook, if the codec has discrete codes, so that `codes_of` works; 0 if not."""
        return 0

    def codes_of(self, latents: Tensor) -> Tensor:
        """Indices int64 [..., N] of the discrete codes in latents [..., N, C]; raises ConfigError if this codec has none."""
        raise ConfigError(f"the codec {self.config.codec!r} has no codes: use vq or emu3")

    def motions_of(self, latents: Tensor, cameras: int) -> Tensor:
        """Motion vectors [B, clips, M] of frames [B, T, N, C]; raises ConfigError if this codec has none."""
        raise ConfigError(f"the codec {self.config.codec!r} knows no motions: use vq")

    # ------------------------------------------------------------------------------------------------------- shapes

    @property
    def latents(self) -> LatentSpec:
        """Channels of a latent, and how many of them are image moments."""
        return LatentSpec(self.latent_dim, MOMENTS if self.segmenter is not None else 0)

    @property
    def latent_dim(self) -> int:
        """Channels C of a latent."""
        return self.token_dim * self.config.merge**2 + (MOMENTS if self.segmenter is not None else 0)

    def patches(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches in an image of that size [pixels]; raises ConfigError when patches do not tile it."""
        if height % self.patch or width % self.patch:
            raise ConfigError(f"images of {height}x{width} pixels are not tiled by patches of {self.patch}: choose a multiple")
        return height // self.patch, width // self.patch

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of latents of an image; raises ConfigError when they do not tile it."""
        rows, columns = self.patches(height, width)
        if rows % self.config.merge or columns % self.config.merge:
            raise ConfigError(f"{rows}x{columns} patches cannot be merged by {self.config.merge} a side: choose another merge")
        return rows // self.config.merge, columns // self.config.merge

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Rows, columns and channels of the latents of one image."""
        return (*self.grid(height, width), self.latent_dim)

    def train(self, mode: bool = True) -> Codec:
        """Stays in eval mode whatever `mode` says."""
        return super().train(False)

    # ------------------------------------------------------------------------------------------------------- frames

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """Latents of camera frames.

        Args:
            rgb: uint8 [..., cameras, h, w, 3].

        Returns:
            [..., N, C] in the dtype of the codec's weights: cameras in order, patches row by row, N = cameras x rows x columns.
        """
        *lead, cameras, height, width, _ = rgb.shape
        rows, columns = self.grid(height, width)
        images = rgb.reshape(-1, height, width, 3)
        tokens = torch.cat([self._latents(part) for part in images.split(self.config.max_images)])
        return tokens.reshape(*lead, cameras * rows * columns, self.latent_dim)

    def encode(self, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Latents [F, cameras, rows, columns, C] of frames uint8 [F, cameras, h, w, 3]: workers call it before they write."""
        latents = self(torch.from_numpy(rgb)).half()
        return latents.reshape(*rgb.shape[:2], *self.latent_shape(*rgb.shape[2:4])).numpy()

    def encode_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float16]:
        """Latents [F, cameras, rows, columns, C] of depths [m], float32 [F, cameras, h, w]: workers call it before they write."""
        latents = self.depth_latents(torch.from_numpy(depth)).half()
        return latents.reshape(*depth.shape[:2], *self.latent_shape(*depth.shape[2:])).numpy()

    @torch.no_grad()
    def decode(self, latents: Tensor, cameras: int, rows: int, columns: int) -> Tensor:
        """Frames uint8 [..., cameras, h, w, 3] from latents [..., N, C] in the order cameras, rows, columns; moments are dropped.

        Raises ConfigError if this codec cannot decode.
        """
        side = self.config.merge
        tokens = latents[..., : self.token_dim * side**2].reshape(-1, rows, columns, side, side, self.token_dim)
        tokens = tokens.transpose(2, 3).reshape(-1, rows * side * columns * side, self.token_dim)
        parts = [self.pictures(part, rows * side, columns * side) for part in tokens.split(self.config.max_images)]
        pictures = torch.cat(parts)
        return pictures.reshape(*latents.shape[:-2], cameras, *pictures.shape[1:])

    def _latents(self, images: Tensor) -> Tensor:
        tokens = self.tokens(images)
        side, (rows, columns) = self.config.merge, self.grid(images.shape[1], images.shape[2])
        if side > 1:
            square = tokens.reshape(-1, rows, side, columns, side, tokens.shape[-1]).transpose(2, 3)
            tokens = square.reshape(len(images), rows * columns, -1)
        if self.segmenter is None:
            return tokens
        moments = self.segmenter.moments(images).to(tokens)
        return torch.cat([tokens, moments[:, None].expand(-1, tokens.shape[1], -1)], dim=-1)
