"""Turns camera frames into the latents of the world model: patch tokens of a frozen DINOv3, which nothing decodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from learner.codecs.codec import Codec
from learner.codecs.config import EncoderConfig
from learner.records.shipped import SHIPPED_WEIGHTS
from learner.vision.config import BUILTIN
from learner.vision.pretrained import load_dinov3, new_dinov3

_PIXEL_MEAN = (0.485, 0.456, 0.406)
_PIXEL_STD = (0.229, 0.224, 0.225)


class Encoder(Codec):
    """A frozen DINOv3 vision transformer: uint8 pixels in, patch latents out; never trained here.

    In training mode DINOv3 rescales its positions at random, so `train()` leaves this module in eval mode.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.vit = load_dinov3(weights_folder(config.source)) if config.source else _random(config)
        self.vit.requires_grad_(False)
        self._look_for_objects()
        self.register_buffer("pixel_mean", 255.0 * torch.tensor(_PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", 255.0 * torch.tensor(_PIXEL_STD).view(3, 1, 1), persistent=False)
        self.eval()

    @property
    def token_dim(self) -> int:
        """Width of the transformer."""
        return int(self.vit.config.hidden_size)

    @property
    def patch(self) -> int:
        """Side of a patch [pixels]."""
        size = self.vit.config.patch_size
        return int(size if isinstance(size, int) else size[0])

    def pixels(self, images: Tensor) -> Tensor:
        """What the transformer is given for uint8 images [B, h, w, 3]: floats [B, 3, h, w] in deviations of ImageNet's."""
        return (images.permute(0, 3, 1, 2).to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std

    def tokens(self, images: Tensor) -> Tensor:
        """The patch tokens alone, without the class token and the registers before them."""
        hidden = self.vit(pixel_values=self.pixels(images)).last_hidden_state
        return hidden[:, 1 + self.vit.config.num_register_tokens :]

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
