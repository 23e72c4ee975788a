"""Self-supervised training of the encoder: a small decoder must reconstruct what the camera measured in hidden patches.

Masked autoencoding (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners") with a DINOv3 vision transformer as the
encoder: it sees only the visible patches, and only their colours. The decoder reconstructs colours, depth and segmentation
(Bachmann et al. 2022, "MultiMAE": several modalities as targets), as far as the stream carries them; the renderer provides them
without any labelling. Depth and segmentation make the tokens encode where things are in space and where their borders run, which
colours alone would not. Visible patches count too. The decoder is discarded after training.

Control needs the exact position of a thing inside its patch, and a model that reads tokens by linear maps must be able to find it
there. So a single linear map must also predict, from each visible token, the low moments of its patch: how much of it a thing
covers, around which point, how it is stretched, and in which colours. Moments of different patches can be added up.

Shapes: B images, N patches, M of them seen, C channels of a token, P side of a patch [pixels].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from embodichain.errors import LearnerError
from learner.codecs.config import PretrainConfig
from learner.codecs.dino import Encoder
from learner.vision.camera_frames import KINDS, CameraFrames

_LEVEL_CONTRAST = 0.05
"""Variance of log depth by which errors of a patch's mean depth are divided: an error of 0.22, about 22% of the depth, counts 1."""
_NEAR, _FAR = 0.02, 4.0
"""Depths [m] are clipped to this range before their logarithm is taken; pixels without a hit count as far."""


class Errors(NamedTuple):
    """Mean squared errors relative to patch contrast: the training loss, and the error on hidden patches alone."""

    loss: Tensor
    hidden: Tensor


class MaskedAutoencoder(nn.Module):
    """The encoder under training and its decoder; `rows` and `columns` count the patches of an image."""

    def __init__(
        self, encoder: Encoder, config: PretrainConfig, *, rows: int, columns: int, depth: bool = False, segmentation: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        encoder.vit.requires_grad_(True)
        channels, dim = int(encoder.vit.config.hidden_size), config.decoder_dim
        self.patch = int(encoder.vit.config.patch_size)
        values = (3 + depth + len(KINDS) * segmentation) * self.patch**2 + depth
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.enter = nn.Linear(channels, dim)
            self.hidden = nn.Parameter(torch.zeros(dim))
            self.place = nn.Parameter(0.02 * torch.randn(rows * columns, dim))
            layer = nn.TransformerEncoderLayer(
                dim, dim // 32, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(layer, config.decoder_layers, nn.LayerNorm(dim), enable_nested_tensor=False)
            self.leave = nn.Linear(dim, values)
            self.tell = nn.Linear(channels, len(patch_waves(self.patch)) * (3 + (1 + 1 + 3) * segmentation))
            # Predict zero at first: relative to a patch without contrast, the smallest random output would be a large error.
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)

    def forward(self, views: CameraFrames, generator: torch.Generator) -> Errors:
        """Errors on images with patches hidden by `generator` (on the CPU)."""
        config, pixels = self.config, self.encoder.pixels(views.rgb)
        count = len(self.place)
        num_seen = max(1, round(count * (1.0 - config.mask_share)))
        num_asked = num_seen + max(1, round((count - num_seen) * config.asked_share))
        order = torch.rand(len(pixels), count, generator=generator).argsort(dim=1).to(pixels.device)
        seen, asked = order[:, :num_seen], order[:, :num_asked]
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=config.bf16):
            told = self.encoder.tokens_of(pixels, seen)
            tokens, told = self.enter(told), self.tell(told).float()
            hidden = self.hidden.to(tokens).expand(len(pixels), num_asked - num_seen, -1)
            predicted = self.leave(self.blocks(torch.cat([tokens, hidden], dim=1) + self.place[asked])).float()
        errors = _errors(predicted, self.targets(views, pixels, asked))
        unseen, share = errors[:, num_seen:].mean(), config.mask_share
        loss = share * unseen + (1.0 - share) * config.seen_weight * errors[:, :num_seen].mean()
        return Errors(loss + config.moment_weight * _errors(told, self.moments(views, pixels, seen)).mean(), unseen)

    def targets(self, views: CameraFrames, pixels: Tensor, asked: Tensor) -> list[Target]:
        """Reconstruction targets of the patches `asked`, indices [B, A]: colours, then depth and segmentation if present."""
        config = self.config
        targets = [_target(self._patches(pixels, asked), config.contrast_floor, 1.0)]
        if views.depth is not None:
            depth = torch.where(views.depth > 0, views.depth, _FAR).clamp(_NEAR, _FAR).float().log()
            depth = self._patches(depth[:, None], asked)
            level = depth.mean(dim=-1, keepdim=True)
            targets.append(_target(depth - level, config.depth_floor, config.depth_weight))
            targets.append(Target(level, torch.full_like(level[..., 0], _LEVEL_CONTRAST), config.depth_weight))
        if views.segmentation is not None:
            kinds = views.segmentation.clamp(max=len(KINDS) - 1)[:, None]
            kinds = self._patches(kinds == torch.arange(len(KINDS), device=kinds.device).view(-1, 1, 1), asked).float()
            targets.append(_target(kinds, config.segmentation_floor, config.segmentation_weight))
        return targets

    def moments(self, views: CameraFrames, pixels: Tensor, seen: Tensor) -> list[Target]:
        """Moments of the patches `seen`, indices [B, M]: of colours and, with segmentation, of robot, object and object colours."""
        floor = self.config.moment_floor
        targets = [_target(self._moments(pixels, seen), floor, 1.0)]
        if views.segmentation is not None:
            robot, thing = (views.segmentation == 2)[:, None].to(pixels), (views.segmentation > 2)[:, None].to(pixels)
            targets.append(_target(self._moments(torch.cat([robot, thing, thing * pixels], dim=1), seen), floor, 1.0))
        return targets

    def _moments(self, planes: Tensor, seen: Tensor) -> Tensor:
        waves = patch_waves(self.patch).to(planes)
        return (self._patches(planes, seen).unflatten(-1, (planes.shape[1], -1)) @ waves.T).flatten(2) / waves.shape[1]

    def _patches(self, planes: Tensor, asked: Tensor) -> Tensor:
        """The patches with indices `asked` [B, A] of planes [B, planes, h, w]: [B, A, planes x P x P]."""
        side = self.patch
        images, count, height, width = planes.shape
        columns = width // side
        squares = planes.reshape(images, count, height // side, side, columns, side).permute(0, 2, 4, 1, 3, 5)
        rows = torch.arange(images, device=planes.device)[:, None]
        return squares[rows, asked // columns, asked % columns].flatten(2)


def patch_waves(side: int) -> Tensor:
    """Orthonormal polynomials up to degree 2 over a patch of `side` x `side` pixels, [6, side x side]."""
    at = (2.0 * torch.arange(side) + 1.0) / side - 1.0
    v, u = (part.flatten() for part in torch.meshgrid(at, at, indexing="ij"))
    bent = [math.sqrt(5.0) / 2.0 * (3.0 * x.square() - 1.0) for x in (u, v)]
    return torch.stack([torch.ones_like(u), math.sqrt(3.0) * u, math.sqrt(3.0) * v, *bent, 3.0 * u * v])


class Target(NamedTuple):
    """One reconstruction target: values [B, A, V], the contrast [B, A] that errors are divided by, and a weight."""

    values: Tensor
    contrast: Tensor
    weight: float


def _errors(predicted: Tensor, targets: Sequence[Target]) -> Tensor:
    """Weighted sum [B, A] of the mean squared errors of all targets, relative to contrast."""
    parts = predicted.split([target.values.shape[-1] for target in targets], dim=-1)
    errors = predicted.new_zeros(predicted.shape[:2])
    for part, target in zip(parts, targets, strict=True):
        errors = errors + target.weight * (part - target.values).square().mean(dim=-1) / target.contrast
    return errors / sum(target.weight for target in targets)


def _target(values: Tensor, floor: float, weight: float) -> Target:
    return Target(values, values.var(dim=-1) + floor, weight)


OnStep = Callable[[int, float, float], bool]
"""Called after every step with its number, the loss, and the error on hidden patches; returns True to end the training."""


def pretrain(encoder: Encoder, images: Iterator[CameraFrames], config: PretrainConfig, on_step: OnStep) -> int:
    """Trains `encoder` in place on batches of views; returns the number of steps made.

    Ends after `config.steps`, when `images` ends, or when `on_step` says so. Raises LearnerError when the loss is not finite.
    """
    model: MaskedAutoencoder | None = None
    generator = torch.Generator().manual_seed(config.seed)
    step = 0
    try:
        for step, batch in enumerate(images):
            if model is None:
                rows, columns = encoder.patches(*batch.rgb.shape[1:3])
                depth, segmentation = batch.depth is not None, batch.segmentation is not None
                model = MaskedAutoencoder(encoder, config, rows=rows, columns=columns, depth=depth, segmentation=segmentation)
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
