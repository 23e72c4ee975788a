"""Trains the image autoencoder on camera frames of the rendered stream: colours, and depths drawn in grey."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodichain.errors import LearnerError
from learner.codecs.config import VaeConfig
from learner.codecs.depth import disparity
from learner.codecs.vae import Vae, scaled, ssim
from learner.vision.camera_frames import CameraFrames

OnStep = Callable[[int, float], bool]
"""Called after every step with its number and the peak signal-to-noise ratio [dB]; returns True to end the training."""


def train_vae(vae: Vae, images: Iterator[CameraFrames], config: VaeConfig, on_step: OnStep) -> int:
    """Trains `vae` in place on batches of views; returns the number of steps made.

    Ends after `config.steps`, when `images` ends, or when `on_step` says so. Raises LearnerError when the loss is not finite.
    """
    optimizer = torch.optim.AdamW(vae.parameters(), lr=config.rate, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(config.seed)
    step = -1
    for step, views in enumerate(images):
        pictures = shown(views, config.depth_share, generator, vae.moments.weight)
        mean, log_variance = vae.encode(pictures)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        decoded = vae.decode(mean + noise * (0.5 * log_variance).exp())
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
        loss = F.l1_loss(decoded, pictures) + config.ssim_weight * (1.0 - ssim(decoded, pictures)) + config.kl_weight * divergence
        if not bool(loss.isfinite()):
            raise LearnerError(f"the autoencoder's loss is {loss.item()} at step {step}; lower the rate")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), config.clip)
        for group in optimizer.param_groups:
            group["lr"] = config.rate_at(step)
        optimizer.step()
        if on_step(step + 1, float(psnr(decoded.detach(), pictures))) or step + 1 >= config.steps:
            break
    return step + 1


def shown(views: CameraFrames, depth_share: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """Training images [B, 3, h, w] of views: a random share shows depth as grey values, if the views have depth."""
    pictures = scaled(views.rgb, like)
    if views.depth is None or not depth_share:
        return pictures
    grey = disparity(views.depth)[:, None].to(like).expand(-1, 3, -1, -1)
    chosen = torch.rand(len(grey), generator=generator) < depth_share
    return torch.where(chosen.to(like.device)[:, None, None, None], grey, pictures)


def psnr(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [dB] of pictures with values -1 to 1, mean over the batch."""
    errors = (decoded.clamp(-1.0, 1.0) - pictures).square().flatten(1).mean(dim=1).clamp_min(1e-10)
    return (10.0 * torch.log10(4.0 / errors)).mean()
