"""Trains an encoder by itself: hides most patches of camera frames and asks a small decoder for their pixels. No labels.

Masked autoencoding (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners") with a DINOv3 vision transformer as the
encoder: it sees only the patches that stay, so a step costs less than half of a pass over whole images. The decoder also gives
back the patches that were seen, at a lower weight, so that tokens keep where exactly in its patch a thing lies: control asks for
that. The decoder is thrown away.

Shapes: B images, N patches, M of them seen, C channels of a token, P side of a patch [pixels].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodichain.errors import ConfigError, LearnerError
from learner.encoder import Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How the encoder trains. `rate` warms up over `warmup_steps`, then falls as a cosine to a fiftieth at `steps`."""

    steps: int = 1500
    mask_share: float = 0.6
    """Share of the patches that the encoder does not see."""
    seen_weight: float = 0.25
    """Weight of the error on patches that it saw, beside 1 on the hidden ones."""
    contrast_floor: float = 0.2
    """Errors count relative to the patch's own contrast (variance of its pixels, in deviations of ImageNet's) plus this: a small
    object counts as much as a large bare table, whose noise does not."""
    decoder_dim: int = 96
    decoder_layers: int = 1
    rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    clip: float = 1.0
    bf16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.mask_share < 1.0 or not 0.0 <= self.seen_weight <= 1.0 or self.contrast_floor <= 0.0:
            raise ConfigError(f"pretraining needs mask_share in (0, 1), seen_weight in 0..1 and contrast_floor > 0, got {self}")
        if min(self.steps, self.decoder_layers) < 1 or self.decoder_dim % 32 or self.rate <= 0:
            raise ConfigError(f"pretraining needs steps and decoder_layers >= 1, decoder_dim in 32s and rate > 0, got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        if step < self.warmup_steps:
            return self.rate * (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        return self.rate * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done)))


class Errors(NamedTuple):
    """Mean squared errors in units of patch contrast: the training loss, and over hidden patches alone."""

    loss: Tensor
    hidden: Tensor


class MaskedAutoencoder(nn.Module):
    """An encoder under training and the decoder that asks of it; `rows` and `columns` are the patches of its images."""

    def __init__(self, encoder: Encoder, config: PretrainConfig, *, rows: int, columns: int) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        encoder.vit.requires_grad_(True)
        channels, dim = int(encoder.vit.config.hidden_size), config.decoder_dim
        self.patch = int(encoder.vit.config.patch_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.enter = nn.Linear(channels, dim)
            self.hidden = nn.Parameter(torch.zeros(dim))
            self.place = nn.Parameter(0.02 * torch.randn(rows * columns, dim))
            layer = nn.TransformerEncoderLayer(
                dim, dim // 32, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(layer, config.decoder_layers, nn.LayerNorm(dim), enable_nested_tensor=False)
            self.leave = nn.Linear(dim, 3 * self.patch**2)

    def forward(self, images: Tensor, generator: torch.Generator) -> Errors:
        """Errors on images, uint8 [B, h, w, 3], with patches hidden by `generator` (on the CPU)."""
        pixels = self.encoder.pixels(images)
        target = F.unfold(pixels, self.patch, stride=self.patch).transpose(1, 2)
        count = target.shape[1]
        order = torch.rand(target.shape[:2], generator=generator).argsort(dim=1).to(pixels.device)
        seen = order[:, : max(1, round(count * (1.0 - self.config.mask_share)))]
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.config.bf16):
            tokens = self.enter(self.encoder.tokens_of(pixels, seen))
            wide = seen[..., None].expand(-1, -1, tokens.shape[-1])
            everywhere = self.hidden.to(tokens).expand(len(images), count, -1).scatter(1, wide, tokens)
            predicted = self.leave(self.blocks(everywhere + self.place))
        contrast = target.var(dim=-1) + self.config.contrast_floor
        errors = (predicted.float() - target).square().mean(dim=-1) / contrast
        hidden = torch.ones_like(errors).scatter(1, seen, 0.0)
        weights = hidden + (1.0 - hidden) * self.config.seen_weight
        return Errors((errors * weights).mean(), (errors * hidden).sum() / hidden.sum())


OnStep = Callable[[int, float, float], bool]
"""Told of every step: its number, the loss, and the error on hidden patches; True ends the training after it."""


def pretrain(encoder: Encoder, images: Iterator[Tensor], config: PretrainConfig, on_step: OnStep) -> int:
    """Trains `encoder` in place on batches of uint8 images [B, h, w, 3]; returns the number of steps made.

    Ends after `config.steps`, when `images` ends, or when `on_step` says so. Raises LearnerError when the loss is not finite.
    """
    model: MaskedAutoencoder | None = None
    generator = torch.Generator().manual_seed(config.seed)
    step = 0
    try:
        for step, batch in enumerate(images):
            if model is None:
                rows, columns = encoder.patches(batch.shape[1], batch.shape[2])
                model = MaskedAutoencoder(encoder, config, rows=rows, columns=columns)
                optimizer = _optimizer(model, config)
            errors = model(batch, generator)
            if not bool(errors.loss.isfinite()):
                raise LearnerError(f"the encoder's loss is {errors.loss.item()} at step {step}; lower the rate")
            optimizer.zero_grad()
            errors.loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            for group in optimizer.param_groups:
                group["lr"] = config.rate_at(step)
            optimizer.step()
            if on_step(step + 1, float(errors.loss.detach()), float(errors.hidden.detach())) or step + 1 >= config.steps:
                return step + 1
        return step + 1 if model is not None else 0
    finally:
        encoder.vit.requires_grad_(False)


def _optimizer(model: nn.Module, config: PretrainConfig) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.95), fused=True)
