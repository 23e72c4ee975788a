"""The codec "siglip": the patch tokens of a frozen SigLIP vision tower, which cannot be decoded into images."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from embodichain.errors import ConfigError
from learner.codecs.codec import Codec
from learner.codecs.config import EncoderConfig
from learner.codecs.vae import scaled
from learner.vision.pretrained import load_siglip


class SiglipCodec(Codec):
    """Patch tokens after SigLIP's last layer norm. It has no built-in weights: `EncoderConfig.source` names a local folder."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        if not config.source:
            raise ConfigError("the codec siglip has no built-in weights: set encoder.source to the folder of a SigLIP checkpoint")
        self.tower = load_siglip(config.source)
        self.tower.requires_grad_(False)
        self._look_for_objects()
        self.eval()

    tower: Any

    @property
    def token_dim(self) -> int:
        """Width of the vision tower."""
        return int(self.tower.config.hidden_size)

    @property
    def patch(self) -> int:
        """Side of a patch [pixels]."""
        return int(self.tower.config.patch_size)

    def tokens(self, images: Tensor) -> Tensor:
        """Patch tokens [B, patches, C]. Images of another size than the tower's get interpolated position embeddings."""
        values = scaled(images, next(self.tower.parameters()))
        fits = images.shape[1] == images.shape[2] == self.tower.config.image_size
        found: Tensor = self.tower(pixel_values=values, interpolate_pos_encoding=not fits).last_hidden_state
        return found
