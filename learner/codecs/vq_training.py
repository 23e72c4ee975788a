"""Trains the vector-quantised autoencoder on frames, and the motion extractor on clips, of the rendered stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodichain.errors import LearnerError
from learner.codecs.codec import Codec
from learner.codecs.config import MotionConfig, VqConfig
from learner.codecs.motion import MotionExtractor
from learner.codecs.quantizer import perplexity
from learner.codecs.vae import scaled, ssim
from learner.codecs.vae_training import psnr
from learner.codecs.vq import CODES, VqAutoencoder
from learner.vision.camera_frames import CameraFrames

OnStep = Callable[[int, float, float], bool]
"""Called after every step with its number and two figures of quality; returns True to end the training."""


def train_vq(model: VqAutoencoder, images: Iterator[CameraFrames], config: VqConfig, on_step: OnStep) -> int:
    """Trains `model` in place on batches of views; returns the number of steps made.

    `on_step` is given the PSNR [dB] and the perplexity of the codes. Training ends after `config.steps`, when `images` ends, or
    when `on_step` returns True. Raises LearnerError when the loss is not finite.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(config.seed)
    model.train()
    step = -1
    for step, views in enumerate(images):
        pictures = F.avg_pool2d(scaled(views.rgb, model.network.moments.weight), config.halve)
        vectors, commitment, index = model.quantizer(model.encode(pictures), generator)
        decoded = model.decode(vectors)
        loss = F.l1_loss(decoded, pictures) + config.ssim_weight * (1.0 - ssim(decoded, pictures)) + config.commitment * commitment
        _move(model, optimizer, loss, config.rate_at(step), config.clip, step)
        asked = on_step(step + 1, float(psnr(decoded.detach(), pictures)), perplexity(index, CODES))
        if asked or step + 1 >= config.steps:
            break
    model.eval()
    return step + 1


def train_motion(
    extractor: MotionExtractor, codec: Codec, clips: Iterator[CameraFrames], config: MotionConfig, on_step: OnStep
) -> int:
    """Trains `extractor` in place on clips uint8 [B, 5, h, w, 3] of one camera each; returns the number of steps made.

    `on_step` is given the reconstruction error ÷ the error of repeating the first frame, and the share of pairs in which motion can
    be transferred (`transferred`). At the end the mean and deviation of the motions are stored in the extractor.
    """
    optimizer = torch.optim.AdamW(extractor.parameters(), lr=config.rate, weight_decay=0.01)
    step, seen = -1, []
    for step, views in enumerate(clips):
        latents = latents_of(codec, views.rgb, extractor.shape)
        parts = extractor.apart(latents)
        error = (extractor.together(parts) - latents).square().mean()
        _move(extractor, optimizer, error + config.decay * parts.motion.square().mean(), config.rate_at(step), 1.0, step)
        with torch.no_grad():
            seen.append(parts.motion.detach())
            seen = seen[-50:]
            still = (latents[:, :1] - latents).square().mean().clamp_min(1e-9)
            moved = transferred(extractor, latents)
        if on_step(step + 1, float(error.detach() / still), moved) or step + 1 >= config.steps:
            break
    if seen:
        motions = torch.cat(seen)
        extractor.motion_mean.copy_(motions.mean(dim=0))
        extractor.motion_std.copy_(motions.std(dim=0).clamp_min(1e-3))
    return step + 1


@torch.no_grad()
def latents_of(codec: Codec, clips: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Latents [B, 5, C, rows, columns] of clips uint8 [B, 5, h, w, 3]."""
    latents = codec(clips[:, :, None])
    return latents.unflatten(2, shape[1:]).permute(0, 1, 4, 2, 3)


@torch.no_grad()
def transferred(extractor: MotionExtractor, latents: Tensor) -> float:
    """Share of pairs (A, B) in which A's structure decoded with B's motion changes more like clip B than like clip A.

    Pairs are neighbours in the batch; a change is the last frame of a decoded clip minus its first.
    """
    parts = extractor.apart(latents)
    swapped = parts._replace(across=parts.across.roll(1, dims=0), down=parts.down.roll(1, dims=0))
    change = extractor.together(swapped)
    change = change[:, -1] - change[:, 0]
    own = latents[:, -1] - latents[:, 0]
    other = own.roll(1, dims=0)
    nearer = (change - other).square().flatten(1).sum(dim=1) < (change - own).square().flatten(1).sum(dim=1)
    return float(nearer.double().mean())


def _move(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip: float, step: int) -> None:
    if not bool(loss.isfinite()):
        raise LearnerError(f"the loss is {loss.item()} at step {step}; lower the rate")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
