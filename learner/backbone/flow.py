"""Flow matching in pure functions: noising, velocity targets, the time shift and a stateless Euler sampler.

Flow time s: 0 is noise, 1 is data (Lipman et al. 2023, "Flow Matching for Generative Modeling", optimal-transport path).
Code of others uses sigma = 1 - s; convert at the boundary only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def interpolate(noise: Tensor, data: Tensor, time: Tensor) -> Tensor:
    """The point x_s = (1 - s) eps + s x on the path; `time` holds s and broadcasts against noise and data."""
    return noise + time * (data - noise)


def velocity(noise: Tensor, data: Tensor) -> Tensor:
    """The target v = x - eps, constant along the path."""
    return data - noise


_NEAR_DATA = 0.05
"""Smallest 1 - s that `towards` divides by: with less noise the velocity would grow without bound."""


def towards(data: Tensor, point: Tensor, time: Tensor) -> Tensor:
    """The velocity that leads from `point` at flow time s straight to the predicted `data`, (x - x_s) / (1 - s).

    As in Li & He 2025, "Back to basics: let denoising generative models denoise", 1 - s counts as 0.05 at least.
    """
    return (data - point) / (1.0 - time).clamp_min(_NEAR_DATA)


def shift_time(time: Tensor, shift: float) -> Tensor:
    """Flow time after the shift by k, s / (s + k (1 - s)): k > 1 spends more steps near noise; the inverse is the shift by 1 / k.

    In noise levels, sigma = 1 - s, it is the usual sigma' = k sigma / (1 + (k - 1) sigma).
    """
    return time / (time + shift * (1.0 - time))


def time_grid(steps: int, shift: float = 1.0, *, start: float = 0.0, stop: float = 1.0) -> Tensor:
    """Flow times of an Euler integration, float64 [steps + 1], from `start` to `stop` on the shifted grid.

    `start` and `stop` are unshifted; two grids that meet at a time s_mid can be integrated one after the other.
    """
    return shift_time(torch.linspace(start, stop, steps + 1, dtype=torch.float64), shift)


def euler(field: Callable[[Tensor, Tensor], Tensor], point: Tensor, grid: Tensor) -> Tensor:
    """Integrates dx/ds = field(x, s) along `grid`; `field` is given s as a tensor of shape [B]. Keeps no state.

    Integrating over grid[: m + 1] and then over grid[m:] gives bitwise the result of the whole grid.
    """
    for now, after in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        time = torch.full(point.shape[:1], now, dtype=point.dtype, device=point.device)
        point = point + (after - now) * field(point, time)
    return point
