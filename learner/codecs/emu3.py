"""The codec "emu3": discrete codes of the pretrained autoencoder of Emu3, one for each patch.

A latent is the vector of its code. The index is not stored: it is that of the codebook entry with the same vector in half
precision, in which streams carry latents.

Shapes: B pictures of h x w pixels, N latents a frame, Q codes of width d.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodichain.errors import ConfigError
from learner.codecs.codec import Codec
from learner.codecs.config import EncoderConfig
from learner.codecs.vae import scaled
from learner.vision.pretrained import load_emu3_vq

_ROWS = 1024
"""Vectors that are compared with the codebook at once; bounds the memory of 32,768 distances for each."""


class Emu3Codec(Codec):
    """Codes of single frames; frozen. It has no built-in weights: `EncoderConfig.source` names a local folder."""

    decodes = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        if not config.source:
            raise ConfigError("the codec emu3 has no built-in weights: set encoder.source to the folder of an Emu3VQVAE checkpoint")
        if config.merge != 1:
            raise ConfigError(f"a latent of the codec emu3 is the vector of one code: set encoder.merge 1, got {config.merge}")
        self.autoencoder = load_emu3_vq(config.source)
        self.autoencoder.requires_grad_(False)
        self._look_for_objects()
        self.eval()

    autoencoder: Any

    @property
    def token_dim(self) -> int:
        """Width of a code's vector."""
        return int(self.autoencoder.config.embed_dim)

    @property
    def patch(self) -> int:
        """Side of a patch [pixels]."""
        return int(self.autoencoder.spatial_scale_factor)

    @property
    def num_codes(self) -> int:
        """Size of the codebook."""
        return int(self.autoencoder.config.codebook_size)

    @property
    def _book(self) -> Tensor:
        weight: Tensor = self.autoencoder.quantize.embedding.weight
        return weight

    def tokens(self, images: Tensor) -> Tensor:
        """Vectors [B, patches, d] of the codes of images; each image counts as a clip in which nothing moves."""
        values = scaled(images, self._book).contiguous()
        sizes = torch.tensor([images.shape[1:3]]).expand(len(images), -1)
        codes = torch.stack(list(self.autoencoder.encode(values, sizes).image_tokens))
        return self._book[codes.flatten(1)]

    def codes_of(self, latents: Tensor) -> Tensor:
        """Codes int64 [..., N] of latents [..., N, C], in single precision or as a stream carried them."""
        # Both sides are rounded alike, so that the distance to a latent's own code is exactly 0.
        book = self._book.half().float()
        rows = latents[..., : self.token_dim].to(book).half().float().reshape(-1, self.token_dim)
        mode = "donot_use_mm_for_euclid_dist"
        nearest = [torch.cdist(part, book, compute_mode=mode).argmin(dim=1) for part in rows.split(_ROWS)]
        return torch.cat(nearest).view(latents.shape[:-1])

    def pictures(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Decoded pictures uint8 [B, h, w, 3]."""
        values = self.autoencoder.decode(self.codes_of(tokens).unflatten(1, (rows, columns)))
        return ((values + 1.0) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
