"""Settings of the codecs and of their training. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from embodichain.errors import ConfigError
from learner.records.schedules import warm_cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which codec turns frames into latents, and from which weights.

    `source` is a local folder (for DINOv3 also a hub id), "builtin" for the small network that ships with this package and was
    trained on rendered frames (`embodichain encoder train`, `codec train vae`), or "" for a small network with seeded random
    weights. `dim`, `layers`, `heads`, `patch` and `registers` matter only for a random DINOv3.
    """

    codec: str = "dino"
    """"dino": patch tokens of a DINOv3, which cannot be decoded; "vae": latents of an image autoencoder, which decode to images;
    "vq": those latents with one of 512 discrete codes each. From local folders alone: "wan": latents of Wan2.2's video autoencoder;
    "siglip": patch tokens of SigLIP's vision tower; "emu3": discrete codes of Emu3's autoencoder."""
    source: str = ""
    dim: int = 96
    layers: int = 4
    heads: int = 3
    patch: int = 16
    registers: int = 4
    seed: int = 0
    max_images: int = 256
    """Most images in one forward pass; it bounds the memory of the encoder."""
    merge: int = 1
    """Squares of `merge` x `merge` patches are concatenated into one latent: fewer tokens for the model, no information lost."""
    segmenter: str = ""
    """Folder of a trained segmenter, or "builtin": the six image moments of the objects that a camera sees are then appended to
    each of its latents. Empty: no segmenter."""

    def __post_init__(self) -> None:
        if self.dim % (4 * self.heads):
            raise ConfigError(f"encoder dim must be a multiple of 4 x heads (2D rotary), got dim={self.dim}, heads={self.heads}")
        if self.max_images < 1 or self.merge < 1:
            raise ConfigError(f"encoder max_images and merge must be at least 1, got {self.max_images} and {self.merge}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig:
    """How the image autoencoder trains. Loss: L1 + `ssim_weight` (1 - SSIM) + `kl_weight` KL, for colour and depth images alike.

    `rate` warms up over `warmup_steps`, then falls as a cosine to a fiftieth at `steps`.
    """

    steps: int = 4000
    depth_share: float = 0.25
    """Share of the training images that show depth, as grey values, instead of colour."""
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
        """Learning rate at a step: linear warm-up, then cosine decay."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps, final_share=0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class VqConfig:
    """How the vector-quantised autoencoder trains. Loss: L1 + `ssim_weight` (1 - SSIM) + `commitment` x distance to the codes."""

    steps: int = 3000
    ssim_weight: float = 0.1
    commitment: float = 0.25
    halve: int = 2
    """Images are reduced by this factor; must equal `EncoderConfig.merge` of the model that will read the codes."""
    rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.halve) < 1 or self.rate <= 0 or min(self.ssim_weight, self.commitment) < 0.0:
            raise ConfigError(f"codes need steps and halve >= 1, rate > 0 and weights >= 0, got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then cosine decay."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps, final_share=0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionConfig:
    """How the motion extractor trains: it reconstructs clips of the image autoencoder's latents from structure and motion."""

    steps: int = 1500
    merge: int = 2
    """`EncoderConfig.merge` of the model that will read the motions."""
    decay: float = 1e-3
    """Weight of the mean square of the motions, which keeps them small."""
    rate: float = 2e-3
    warmup_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.merge) < 1 or self.rate <= 0 or self.decay < 0.0:
            raise ConfigError(f"a motion extractor needs steps and merge >= 1, rate > 0 and decay >= 0, got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then cosine decay."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps, final_share=0.02)


SCALE = 30.0
"""Rounding scale of action tokens. 99 of 100 fingertip positions of experts' chunks are then kept to 1.8 mm; at 20, the scale of
before, it is 2.5 mm, for a sixth fewer tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FastConfig:
    """Settings of the FAST action tokenizer and of its training."""

    chunks: int = 3000
    """Number of action chunks from which the byte-pair merges are learned."""
    scale: float = SCALE
    clip: float = 3.0
    channels: tuple[int, ...] = (*range(14, 20), *range(21, 27), 28, 29)
    """Channels of the unified action that are tokenized: the joints of two six-joint arms, and both grippers."""

    def __post_init__(self) -> None:
        if self.chunks < 1 or self.scale <= 0 or self.clip <= 0 or not self.channels:
            raise ConfigError(f"an action tokenizer needs chunks >= 1, scale and clip > 0 and channels, got {self}")


class LatentSpec(NamedTuple):
    """Channels of a latent, and how many of them, at the end, are image moments of objects."""

    channels: int
    moments: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How the encoder trains. `rate` warms up over `warmup_steps`, then falls as a cosine to a fiftieth at `steps`."""

    steps: int = 3600
    mask_share: float = 0.3
    """Share of the patches that are hidden from the encoder. A larger share makes the task harder and a step cheaper, but differs
    more from the whole frames of later use: after training at 0.7, object positions could be read less well from the tokens."""
    asked_share: float = 0.4
    """Share of the hidden patches that the decoder must reconstruct; reconstructing all costs more than it teaches."""
    seen_weight: float = 1.0
    """Weight of the error on visible patches; hidden patches have weight 1."""
    contrast_floor: float = 0.2
    """Errors are divided by the patch's contrast (variance of its normalised pixels) plus this floor. So a small object counts as
    much as a large bare table, and noise on the table does not count."""
    depth_floor: float = 2e-4
    """`contrast_floor` for depth inside a patch, as variance of log depth; the mean depth of the patch is a target of its own."""
    segmentation_floor: float = 0.05
    """`contrast_floor` for segmentation into room, table, robot and object."""
    depth_weight: float = 1.0
    segmentation_weight: float = 1.0
    """Weights of the depth and segmentation errors; colours have weight 1."""
    moment_weight: float = 10.0
    """Weight of the error on the moments of visible patches; the reconstruction of hidden patches has weight 1."""
    moment_floor: float = 0.01
    """`contrast_floor` for moments."""
    decoder_dim: int = 96
    decoder_layers: int = 1
    rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    clip: float = 1.0
    bf16: bool = False
    """Train in bfloat16. Off by default: on CPUs the backward pass of attention is several times slower in it."""
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
        """Learning rate at a step: linear warm-up, then cosine decay."""
        return self.rate * warm_cosine(step, self.steps, warmup=self.warmup_steps, final_share=0.02)
