"""Settings of what turns frames into latents; light, for command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from embodichain.errors import ConfigError
from learner.records.schedules import warm_cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which codec turns frames into latents, and from which weights: `source` is a local folder (of a DINOv3 also a hub id),
    "builtin" for the small one that ships with this package and was trained on its own rendered stream (`embodichain encoder
    train`, `codec train vae`), or "" for a small one with seeded random weights. `dim`, `layers`, `heads`, `patch` and `registers`
    shape a random DINOv3 alone.
    """

    codec: str = "dino"
    """"dino": patch tokens of a DINOv3, which nothing decodes; "vae": latents of an image autoencoder, which decode to pictures;
    "vq": these, and a code out of 512 for each; "wan": latents of Wan2.2's video autoencoder, from a local folder."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig:
    """How the image autoencoder trains: L1 + `ssim_weight` (1 - SSIM) + `kl_weight` KL, over colours and depths alike.

    `rate` warms up over `warmup_steps`, then falls as a cosine to a fiftieth at `steps`.
    """

    steps: int = 4000
    depth_share: float = 0.25
    """Share of the pictures that are shown as depth, drawn in grey, instead of colours."""
    ssim_weight: float = 0.1
    kl_weight: float = 1e-4
    rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rate <= 0 or not 0.0 <= self.depth_share <= 1.0 or min(self.ssim_weight, self.kl_weight) < 0.0:
            raise ConfigError(f"a codec needs steps >= 1, rate > 0, depth_share in 0..1 and weights >= 0, got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps, final_share=0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class VqConfig:
    """How pictures learn to be codes: L1 + `ssim_weight` (1 - SSIM) + `commitment` times the distance to the codes."""

    steps: int = 3000
    ssim_weight: float = 0.1
    commitment: float = 0.25
    halve: int = 2
    """Pictures are shown at this fraction of their size: `EncoderConfig.merge` of who reads the codes."""
    rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.halve) < 1 or self.rate <= 0 or min(self.ssim_weight, self.commitment) < 0.0:
            raise ConfigError(f"codes need steps and halve >= 1, rate > 0 and weights >= 0, got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps, final_share=0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionConfig:
    """How motion learns to be told from structure: clips of the image autoencoder's latents are given back from both."""

    steps: int = 1500
    merge: int = 2
    """Of who reads the motions (`EncoderConfig.merge`)."""
    decay: float = 1e-3
    """Weight of the mean square of the motions, which keeps them small."""
    rate: float = 2e-3
    warmup_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.merge) < 1 or self.rate <= 0 or self.decay < 0.0:
            raise ConfigError(f"a motion extractor needs steps and merge >= 1, rate > 0 and decay >= 0, got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps, final_share=0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class FastConfig:
    """What the action tokenizer is made of."""

    chunks: int = 3000
    """From which runs become tokens."""
    scale: float = 20.0
    clip: float = 3.0
    channels: tuple[int, ...] = (*range(14, 20), *range(21, 27), 28, 29)
    """Of the unified representation: joints of two arms of six, and both grippers."""

    def __post_init__(self) -> None:
        if self.chunks < 1 or self.scale <= 0 or self.clip <= 0 or not self.channels:
            raise ConfigError(f"an action tokenizer needs chunks >= 1, scale and clip > 0 and channels, got {self}")


class LatentSpec(NamedTuple):
    """What the encoder makes of a picture: channels of a latent, and how many of them, the last, are image moments of objects."""

    channels: int
    moments: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How the encoder trains. `rate` warms up over `warmup_steps`, then falls as a cosine to a fiftieth at `steps`."""

    steps: int = 3600
    mask_share: float = 0.3
    """Share of the patches that the encoder does not see. More asks more of it and costs less a step, but whoever reads its tokens
    later shows it whole frames: places were found worse after training at 0.7."""
    asked_share: float = 0.4
    """Share of the hidden patches that the decoder is asked for: the rest would cost more than it teaches."""
    seen_weight: float = 1.0
    """Weight of the error on patches that it saw, beside 1 on the hidden ones."""
    contrast_floor: float = 0.2
    """Errors count relative to the patch's own contrast (variance of its pixels, in deviations of ImageNet's) plus this: a small
    object counts as much as a large bare table, whose noise does not."""
    depth_floor: float = 2e-4
    """The same for the relief inside a patch, in logarithms of depth; how far the patch is as a whole is asked for apart."""
    segmentation_floor: float = 0.05
    """The same for shares of room, table, robot and object."""
    depth_weight: float = 1.0
    segmentation_weight: float = 1.0
    """How much depth and segmentation count beside colours at 1."""
    moment_weight: float = 10.0
    """Weight of the error on the moments of seen patches, beside 1 on the hidden ones."""
    moment_floor: float = 0.01
    """`contrast_floor` for moments."""
    decoder_dim: int = 96
    decoder_layers: int = 1
    rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    clip: float = 1.0
    bf16: bool = False
    """Attention runs backwards several times slower in bfloat16 on CPUs."""
    seed: int = 0

    def __post_init__(self) -> None:
        floors = (self.contrast_floor, self.depth_floor, self.segmentation_floor, self.moment_floor)
        if not 0.0 < self.asked_share <= 1.0:
            raise ConfigError(f"pretraining needs asked_share in (0, 1], got {self.asked_share}")
        if not 0.0 < self.mask_share < 1.0 or not 0.0 <= self.seen_weight <= 1.0 or min(floors) <= 0.0 or self.moment_weight < 0.0:
            raise ConfigError(
                f"pretraining needs mask_share in (0, 1), seen_weight in 0..1, moment_weight >= 0 and floors > 0, got {self}"
            )
        if min(self.steps, self.decoder_layers) < 1 or self.decoder_dim % 32 or self.rate <= 0:
            raise ConfigError(f"pretraining needs steps and decoder_layers >= 1, decoder_dim in 32s and rate > 0, got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps, final_share=0.02)
