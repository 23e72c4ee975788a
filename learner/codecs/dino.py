"""The codec "dino": the patch tokens of a frozen DINOv3, which cannot be decoded into images."""

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

    `train()` leaves it in eval mode, because in training mode DINOv3 augments its rotary positions at random.
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
        """Normalises uint8 images [B, h, w, 3] by ImageNet's mean and deviation: floats [B, 3, h, w]."""
        return (images.permute(0, 3, 1, 2).to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std

    def tokens(self, images: Tensor) -> Tensor:
        """Patch tokens [B, patches, C]; the class token and the registers are dropped."""
        hidden = self.vit(pixel_values=self.pixels(images)).last_hidden_state
        return hidden[:, 1 + self.vit.config.num_register_tokens :]

    def tokens_of(self, pixels: Tensor, seen: Tensor) -> Tensor:
        """Tokens [B, M, C] of the patches with indices `seen` [B, M]; the transformer does not see the others."""
        vit = self.vit
        tokens, (cos, sin) = vit.embeddings(pixels), vit.rope_embeddings(pixels)
        prefix = 1 + vit.config.num_register_tokens
        picked = tokens[:, prefix:].gather(1, seen[..., None].expand(-1, -1, tokens.shape[-1]))
        hidden = torch.cat([tokens[:, :prefix], picked], dim=1)
        for layer in vit.model.layer:
            hidden = layer(hidden, position_embeddings=(cos[seen].unsqueeze(1), sin[seen].unsqueeze(1)))
        return vit.norm(hidden)[:, prefix:]


def weights_folder(source: str) -> str:
    """The folder of the weights that `EncoderConfig.source` names."""
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
