"""Normalises inputs and outputs of the model, with statistics that are measured on the stream and saved in the checkpoint.

Joints and end-effector positions of an action become relative to the measured state of their frame. Actions are then mapped to
[-1, 1] between their 1% and 99% quantiles. Latents get zero mean and unit deviation, and may be projected onto their leading
directions (PCA whitening), no more than the model's width, so that the model can express all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError
from learner.codecs.config import LatentSpec
from learner.models.config import NormalizerConfig
from learner.models.hints import by_camera

_CAMERAS = "normalizer.cameras"


class Measurement:
    """Collects statistics from the first batches of a stream: all actions and states, and running sums of the latents."""

    def __init__(self, config: NormalizerConfig, latents: LatentSpec, action_dim: int) -> None:
        self._config, latent_dim = config, latents.channels
        self._patch = latent_dim - latents.moments
        self._actions: list[Tensor] = []
        self._proprio: list[Tensor] = []
        self._sum = torch.zeros(config.cameras or 1, latent_dim, dtype=torch.float64)
        self._sum_squares = torch.zeros_like(self._sum)
        size = self._patch if config.channels else 0
        self._products = torch.zeros(len(self._sum), size, size, dtype=torch.float64)
        self._latents = 0
        self.action_mask = torch.zeros(action_dim, dtype=torch.bool)

    def add(
        self, *, action_BTKA: Tensor, proprio_BTA: Tensor, action_mask_BA: Tensor, latents_BTNC: Tensor, valid_BT: Tensor
    ) -> None:
        """Adds one batch; `proprio` and `latents` have one frame more than `valid` has chunks."""
        actions = to_relative(action_BTKA, proprio_BTA[:, :-1], self._config.relative_channels)
        self._actions.append(actions[valid_BT].flatten(0, 1).cpu())
        self._proprio.append(proprio_BTA[:, :-1][valid_BT].cpu())
        rows = by_camera(latents_BTNC[:, :-1][valid_BT], len(self._sum), _CAMERAS).double().cpu()  # [frames, cameras, latents, C]
        self._sum += rows.sum(dim=(0, 2))
        self._sum_squares += rows.square().sum(dim=(0, 2))
        if self._config.channels:
            flat = rows[..., : self._patch].transpose(0, 1).flatten(1, 2)
            self._products += flat.transpose(1, 2) @ flat
        self._latents += rows.shape[0] * rows.shape[2]
        self.action_mask |= action_mask_BA.bool().any(dim=0).cpu()

    def quantiles(self) -> tuple[Tensor, Tensor]:
        """1% and 99% quantiles of actions and of states, each float32 [2, A]."""
        if not self._latents:
            raise ConfigError("nothing was measured: the normalizer's warm-up needs at least one batch")
        edges = torch.tensor([0.01, 0.99])
        return (torch.cat(self._actions).quantile(edges, dim=0), torch.cat(self._proprio).quantile(edges, dim=0))

    def extremes(self) -> Tensor:
        """Minimum and maximum of the actions, float32 [2, A]."""
        actions = torch.cat(self._actions)
        return torch.stack([actions.amin(dim=0), actions.amax(dim=0)])

    def directions(self) -> Tensor:
        """Leading principal directions of the normalised patch channels, float32 [C, P]. They are orthogonal and scaled alike, such
        that projections have unit variance on average.

        Covariances of cameras with separate statistics are averaged. Raises ConfigError when there are fewer than P channels.
        """
        count = self._config.channels
        if count > self._patch:
            raise ConfigError(f"normalizer.channels asks for {count} directions of latents that have {self._patch} patch channels")
        mean, std = (part.double().view(len(self._sum), -1)[:, : self._patch] for part in self.latent_moments())
        covariance = self._products / self._latents - mean[:, :, None] * mean[:, None, :]
        correlation = (covariance / (std[:, :, None] * std[:, None, :])).mean(dim=0)
        variances, axes = torch.linalg.eigh(correlation)  # eigenvalues come in ascending order
        leading = axes[:, -count:].flip(1)
        return (leading / variances[-count:].mean().sqrt()).float()

    def latent_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each latent channel, float32 [C], or [cameras, C] with separate statistics."""
        mean = self._sum / self._latents
        variance = (self._sum_squares / self._latents - mean.square()).clamp_min(1e-8)
        shape = (-1, mean.shape[-1]) if self._config.cameras else (-1,)
        return mean.float().view(shape), variance.sqrt().float().view(shape)


class Normalizer(nn.Module):
    """Maps physical values to normalised ones and back. Its statistics are buffers, so that checkpoints contain them."""

    action_range: Tensor
    proprio_range: Tensor
    latent_mean: Tensor
    latent_std: Tensor
    directions: Tensor
    """The projection, [C, P]; exists only if the configuration sets `channels`."""
    action_mask: Tensor
    fitted: Tensor

    def __init__(self, config: NormalizerConfig, latents: LatentSpec, action_dim: int) -> None:
        super().__init__()
        config.check(action_dim)
        self.config, latent_dim = config, latents.channels
        self._patch = latent_dim - latents.moments
        self.spec = LatentSpec(config.channels + latents.moments, latents.moments) if config.channels else latents
        """Channels of a normalised latent, and how many of them are image moments."""
        if config.channels:
            self.register_buffer("directions", torch.eye(self._patch, config.channels))
        self.register_buffer("action_range", torch.tensor([-1.0, 1.0])[:, None].repeat(1, action_dim))
        self.register_buffer("proprio_range", torch.tensor([-1.0, 1.0])[:, None].repeat(1, action_dim))
        shape = (config.cameras, latent_dim) if config.cameras else (latent_dim,)
        self.register_buffer("latent_mean", torch.zeros(shape))
        self.register_buffer("latent_std", torch.ones(shape))
        self.register_buffer("action_mask", torch.ones(action_dim, dtype=torch.bool))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def is_fitted(self) -> bool:
        """Whether statistics were measured or loaded."""
        return bool(self.fitted)

    @torch.no_grad()
    def fit(self, measurement: Measurement) -> None:
        """Sets the statistics to those measured."""
        actions, proprio = measurement.quantiles()
        span = _widen(actions, self.config.min_span)
        self.action_range.copy_(_holding(span, measurement.extremes(), self.config.clip) if self.config.exact else span)
        self.proprio_range.copy_(_widen(proprio, self.config.min_span))
        mean, std = measurement.latent_moments()
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)
        if self.config.channels:
            self.directions.copy_(measurement.directions())
        self.action_mask.copy_(measurement.action_mask)
        self.fitted.fill_(True)

    def latents(self, latents: Tensor) -> Tensor:
        """Normalised latents [..., N, C or P]; raises ConfigError when N does not divide by the number of cameras."""
        if not self.config.cameras:
            scaled = (latents - self.latent_mean) / self.latent_std
        else:
            apart = by_camera(latents, self.config.cameras, _CAMERAS)
            scaled = ((apart - self.latent_mean[:, None]) / self.latent_std[:, None]).flatten(-3, -2)
        if not self.config.channels:
            return scaled
        patch, moments = scaled.split([self._patch, scaled.shape[-1] - self._patch], dim=-1)
        return torch.cat([patch @ self.directions, moments], dim=-1)

    def encoder_latents(self, latents: Tensor) -> Tensor:
        """The inverse of `latents`, [..., N, C], for decoding images; channels dropped by the projection are lost."""
        if self.config.channels:
            patch, moments = latents.split([self.config.channels, latents.shape[-1] - self.config.channels], dim=-1)
            along = self.directions / self.directions.square().sum(dim=0)
            latents = torch.cat([patch @ along.T, moments], dim=-1)
        if not self.config.cameras:
            return latents * self.latent_std + self.latent_mean
        apart = by_camera(latents, self.config.cameras, _CAMERAS)
        return (apart * self.latent_std[:, None] + self.latent_mean[:, None]).flatten(-3, -2)

    def proprio(self, proprio: Tensor) -> Tensor:
        """Normalised proprioception, [..., A]."""
        return _to_unit(proprio, self.proprio_range).clamp(-self.config.clip, self.config.clip) * self.action_mask

    def playable(self, actions: Tensor) -> Tensor:
        """Normalised chunks as they will be executed: absent channels 0, and clipped unless the configuration is exact."""
        return self._bounded(actions) * self.action_mask

    def actions(self, actions: Tensor, proprio: Tensor) -> Tensor:
        """Physical chunks [..., K, A] at frames with physical proprio [..., A] → normalised, absent channels 0."""
        relative = to_relative(actions, proprio, self.config.relative_channels)
        return self._bounded(_to_unit(relative, self.action_range)) * self.action_mask

    def physical_actions(self, actions: Tensor, proprio: Tensor) -> Tensor:
        """The inverse of `actions`, except for values that it clipped; absent channels are 0."""
        low, high = self.action_range
        relative = low + (actions + 1.0) * 0.5 * (high - low)
        return to_absolute(relative, proprio, self.config.relative_channels) * self.action_mask

    def _bounded(self, actions: Tensor) -> Tensor:
        return actions if self.config.exact else actions.clamp(-self.config.clip, self.config.clip)


def to_relative(actions: Tensor, proprio: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Subtracts the frame's measured state [..., A] from chunks [..., K, A] in `channels`."""
    return actions - _reference(proprio, channels)


def to_absolute(actions: Tensor, proprio: Tensor, channels: tuple[int, ...]) -> Tensor:
    """The inverse of `to_relative`."""
    return actions + _reference(proprio, channels)


def _reference(proprio: Tensor, channels: tuple[int, ...]) -> Tensor:
    keep = torch.zeros(proprio.shape[-1], dtype=proprio.dtype, device=proprio.device)
    keep[list(channels)] = 1.0
    return (proprio * keep).unsqueeze(-2)


def _to_unit(values: Tensor, span: Tensor) -> Tensor:
    low, high = span
    return (values - low) * (2.0 / (high - low)) - 1.0


def _widen(span: Tensor, least: float) -> Tensor:
    """Moves quantiles at least `least` apart, around the same centre."""
    centre, half = span.mean(dim=0), 0.5 * (span[1] - span[0]).clamp_min(least)
    return torch.stack([centre - half, centre + half])


def _holding(span: Tensor, extremes: Tensor, clip: float) -> Tensor:
    """Moves quantiles apart, around the same centre, until all values between the extremes map to -clip..clip."""
    centre, half = span.mean(dim=0), 0.5 * (span[1] - span[0])
    half = torch.maximum(half, (extremes - centre).abs().amax(dim=0) / clip)
    return torch.stack([centre - half, centre + half])
