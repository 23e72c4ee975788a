"""The codec "vq": a grid of discrete codes, which an autoregressive model predicts, beside the continuous latents of the "vae".

A latent is [latent of the image autoencoder | vector of its code | moments of objects]. The index of a code is not stored: it is
that of the nearest codebook entry. Codes are computed on images reduced by `merge`, so that there is exactly one for each latent.

Shapes: B pictures of h x w pixels, N latents a frame, Q codes of width 8.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodichain.errors import LearnerError
from learner.codecs.codec import Codec
from learner.codecs.config import EncoderConfig
from learner.codecs.motion import FRAMES, MotionExtractor, load_motion
from learner.codecs.quantizer import Quantizer
from learner.codecs.vae import CHANNELS, Vae, load_vae, scaled
from learner.records.shipped import SHIPPED_WEIGHTS
from learner.records.weight_files import mismatches, read_weights, write_weights
from learner.vision.config import BUILTIN

CODES = 512
_FORMAT = "embodichain-vq-1"
_SITES = 4
"""Rows and columns of latents in the images that the built-in motion extractor was trained on."""


class VqAutoencoder(nn.Module):
    """The network of the image autoencoder with quantised latents."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.network = Vae(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.quantizer = Quantizer(CODES, CHANNELS)

    def encode(self, pictures: Tensor) -> Tensor:
        """Vectors [B, h / 16, w / 16, 8] before quantisation, of images [B, 3, h, w] with values -1 to 1."""
        return self.network.encode(pictures)[0].permute(0, 2, 3, 1)

    def decode(self, vectors: Tensor) -> Tensor:
        """Pictures [B, 3, h, w] of vectors of codes [B, rows, columns, 8]."""
        return self.network.decode(vectors.permute(0, 3, 1, 2))


class VqCodec(Codec):
    """Discrete codes, continuous latents, and motions of clips; all networks are frozen."""

    decodes = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        random = not config.source
        self.vae = Vae(config.seed) if random else load_vae(config.source)
        self.vq = VqAutoencoder(config.seed + 1) if random else load_vq(config.source)
        channels = CHANNELS * config.merge**2
        self.motion = MotionExtractor(channels, _SITES, _SITES, config.seed) if random else load_motion(config.source)
        for part in (self.vae, self.vq, self.motion):
            part.requires_grad_(False)
        self._look_for_objects()
        self.eval()

    @property
    def num_codes(self) -> int:
        """512; every latent has one code."""
        return CODES

    @property
    def patch(self) -> int:
        """Side of a patch [pixels]."""
        return 16

    @property
    def token_dim(self) -> int:
        """Channels of the continuous latents."""
        return CHANNELS

    @property
    def latent_dim(self) -> int:
        """Channels C of a latent, including the vector of its code."""
        return super().latent_dim + CHANNELS

    def tokens(self, images: Tensor) -> Tensor:
        """Latent means [B, patches, 8] of the image autoencoder."""
        mean, _ = self.vae.encode(scaled(images, self.vae.moments.weight))
        return mean.flatten(2).transpose(1, 2)

    def _latents(self, images: Tensor) -> Tensor:
        plain = super()._latents(images)
        small = F.avg_pool2d(scaled(images, self.vae.moments.weight), self.config.merge)
        vectors = self.vq.encode(small).flatten(1, 2)
        codes = self.vq.quantizer.codes[self.vq.quantizer.indices(vectors)]
        size = self._continuous
        return torch.cat([plain[..., :size], codes, plain[..., size:]], dim=-1)

    @property
    def _continuous(self) -> int:
        return CHANNELS * self.config.merge**2

    def codes_of(self, latents: Tensor) -> Tensor:
        """Codes int64 [..., N] of latents [..., N, C] as `forward` gave them."""
        return self.vq.quantizer.indices(latents[..., self._continuous : self._continuous + CHANNELS].to(self.vq.quantizer.codes))

    def motions_of(self, latents: Tensor, cameras: int) -> Tensor:
        """Standardised motions [B, T - 4, M] of all clips of five frames in latents [B, T, N, C] of that many cameras."""
        rows = latents[..., : self._continuous].unflatten(2, (cameras, _SITES, _SITES)).to(self.motion.motion_mean)
        clips = rows.unfold(1, FRAMES, 1).permute(0, 1, 2, 6, 5, 3, 4)  # [B, clips, cameras, F, C, h, w]
        return self.motion.motions(clips.flatten(0, 2)).unflatten(0, clips.shape[:3]).flatten(2)

    def num_motions(self, cameras: int) -> int:
        """M, the length of the motion vector of a clip from that many cameras."""
        return cameras * self.motion.num_motions

    def pictures(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Decoded pictures uint8 [B, h, w, 3] of the continuous latents."""
        values = self.vae.decode(tokens.transpose(1, 2).unflatten(2, (rows, columns)))
        return ((values + 1.0) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def save_vq(autoencoder: VqAutoencoder, folder: Path) -> None:
    """Writes `model.safetensors`, which `load_vq` reads."""
    write_weights(folder / "model.safetensors", autoencoder.state_dict(), form=_FORMAT)


def load_vq(source: str) -> VqAutoencoder:
    """The autoencoder in the folder `source`, or the one of this package for "builtin".

    Raises LearnerError when there is none, or listing what does not fit this version.
    """
    path = (SHIPPED_WEIGHTS / "vq" if source == BUILTIN else Path(source)) / "model.safetensors"
    weights, _ = read_weights(path, form=_FORMAT, advice="train it again with `embodichain codec train vq`")
    autoencoder = VqAutoencoder()
    if problems := mismatches(autoencoder.state_dict(), weights):
        raise LearnerError(f"autoencoder {path} does not fit this version: {'; '.join(problems)}")
    autoencoder.load_state_dict(weights)
    return autoencoder.eval()
