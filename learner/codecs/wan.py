"""The codec "wan": the video autoencoder of Wan2.2-TI2V-5B; a latent covers 16 x 16 pixels and up to four frames.

It avoids two traps of the diffusers library. The library silently drops frames beyond 1 + 4k; here such clips are refused. The
library stores the cache of its causal convolutions on the module, so that two threads corrupt each other's latents; here the cache
is passed in and returned by each call.

Shapes: B clips, F frames of h x w pixels, z channels of a latent (48).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embodichain.errors import ConfigError, LearnerError
from learner.codecs.codec import Codec
from learner.codecs.config import EncoderConfig
from learner.codecs.vae import scaled

Caches = tuple[Tensor | str | None, ...]
"""Cached inputs of the encoder's causal convolutions, one entry for each; all None before the first frame."""


class WanCodec(Codec):
    """Encodes single frames, whole clips, or clips step by step with a cache that the caller keeps (`start`, `step`)."""

    decodes = True
    frames_per_latent = 4
    """Frames that one latent covers; only the first frame of a clip has a latent of its own."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.vae = load_wan_vae(config.source)
        self.vae.requires_grad_(False)
        inner: Any = self.vae
        self._count = _convolutions(inner.encoder)
        shape = (1, -1, 1, 1, 1)
        self.register_buffer("mean", torch.tensor(inner.config.latents_mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(inner.config.latents_std).view(shape), persistent=False)
        self._look_for_objects()
        self.eval()

    mean: Tensor
    std: Tensor

    @property
    def patch(self) -> int:
        """Side of a patch [pixels]."""
        inner: Any = self.vae
        return int(inner.config.scale_factor_spatial)

    @property
    def token_dim(self) -> int:
        """Channels of a latent."""
        inner: Any = self.vae
        return int(inner.config.z_dim)

    def tokens(self, images: Tensor) -> Tensor:
        """Latents [B, patches, z] of single frames, encoded as clips of one frame."""
        latents, _ = self.step(self.start(), scaled(images, self.mean)[:, :, None])
        return latents[:, :, 0].flatten(2).transpose(1, 2)

    def pictures(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Decoded single frames uint8 [B, h, w, 3]."""
        inner: Any = self.vae
        latents = tokens.transpose(1, 2).unflatten(2, (rows, columns))[:, :, None] * self.std + self.mean
        caches: list[Any] = [None] * _convolutions(inner.decoder)
        values = inner.decoder(inner.post_quant_conv(latents), feat_cache=caches, feat_idx=[0], first_chunk=True)
        values = (
            _library().unpatchify(values, patch_size=inner.config.patch_size) if inner.config.patch_size is not None else values
        )
        return ((values[:, :, 0] + 1.0) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)

    @torch.no_grad()
    def encode_clip(self, clips: Tensor) -> Tensor:
        """Latents [B, z, 1 + k, h / 16, w / 16] of clips uint8 [B, F, h, w, 3] of F = 1 + 4 k frames.

        Raises ConfigError for any other number of frames: the last ones would not be in any latent.
        """
        frames = clips.shape[1]
        if frames % 4 != 1:
            near = max(1, frames - (frames - 1) % 4)
            raise ConfigError(f"a clip of {frames} frames has no whole latents: take 1 + 4 k of them, such as {near} or {near + 4}")
        values = scaled(clips.flatten(0, 1), self.mean).unflatten(0, clips.shape[:2]).transpose(1, 2)
        caches, found = self.start(), []
        for part in (values[:, :, :1], *values[:, :, 1:].split(4, dim=2)):
            latents, caches = self.step(caches, part)
            found.append(latents)
        return torch.cat(found, dim=2)

    def start(self) -> Caches:
        """The empty cache before the first frame of a clip."""
        return (None,) * self._count

    @torch.no_grad()
    def step(self, caches: Caches, values: Tensor) -> tuple[Tensor, Caches]:
        """The next latent [B, z, 1, h / 16, w / 16], and the cache after it.

        Args:
            caches: from `start` or from the step before; not modified.
            values: images [B, 3, F, h, w] with values -1 to 1: the first frame alone, then four at a time.
        """
        first = all(entry is None for entry in caches)
        if values.shape[2] != (1 if first else 4):
            raise ConfigError(f"a latent is made of the first frame alone, then of 4 at a time, got {values.shape[2]}")
        inner: Any = self.vae
        values = _library().patchify(values, patch_size=inner.config.patch_size) if inner.config.patch_size is not None else values
        kept: list[Any] = list(caches)
        moments = inner.quant_conv(inner.encoder(values, feat_cache=kept, feat_idx=[0]))
        mean, _ = moments.chunk(2, dim=1)
        return (mean - self.mean) / self.std, tuple(kept)


def load_wan_vae(source: str) -> torch.nn.Module:
    """The autoencoder in a local folder of diffusers' layout, or in its subfolder `vae`.

    Raises ConfigError without diffusers, and LearnerError for anything but such a folder.
    """
    folder = Path(source)
    if folder.suffix == ".pth":
        raise LearnerError(
            f"{source} is a pickle of the authors' layout, which is not read: take the folder vae/ of the model's diffusers version"
        )
    folder = folder / "vae" if (folder / "vae").is_dir() else folder
    if not source or not (folder / "config.json").is_file():
        raise LearnerError(f"no autoencoder in {source!r}: give a local folder with vae/config.json and its safetensors")
    loaded: Any = _library().AutoencoderKLWan.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return loaded.float().eval()


def _convolutions(part: torch.nn.Module) -> int:
    """Number of causal convolutions in the encoder or decoder; each has one cache entry."""
    return sum(isinstance(layer, _library().WanCausalConv3d) for layer in part.modules())


def _library() -> Any:
    """The module of diffusers that has the autoencoder; raises ConfigError where it is not installed."""
    try:
        from diffusers.models.autoencoders import autoencoder_kl_wan  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ConfigError(f"the codec wan needs diffusers ({error}): pip install 'embodichain[wan]'") from error
    return autoencoder_kl_wan
