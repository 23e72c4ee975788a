"""Real-time chunking: a new decision that continues from actions that are already being executed.

Mode "guided" (Black, Galliker & Levine 2025, "Real-Time Execution of Action Chunking Flow Policies"): each step of the sampler is
pulled towards the rest of the last decision by the gradient of the predicted clean chunk. Mode "prefix" ("Training-Time Action
Conditioning for Efficient Real-Time Chunking"): a model trained with clean prefixes is given the committed actions as input.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def overlap_weights(horizon: int, delay: int, overlap: int) -> Tensor:
    """Guidance weight of each of `horizon` actions, float32 [H]: 1 for the first `delay`, then decreasing, then 0.

    It decreases as c (e^c - 1) / (e - 1) with c from 1 to 0 over the rest of the `overlap` known actions (eq. 5 of the paper).
    """
    index = torch.arange(horizon, dtype=torch.float32)
    c = ((overlap - index) / max(overlap - delay + 1, 1)).clamp(0.0, 1.0)
    fading = c * (c.exp() - 1.0) / (math.e - 1.0)
    return torch.where(index < delay, 1.0, torch.where(index < overlap, fading, 0.0))


def strength(time: float, most: float) -> float:
    """Guidance strength g = (1 - s) / s ((1 - s)^2 + s^2) / (1 - s)^2 at flow time s, at most `most`."""
    if time <= 0.0 or time >= 1.0:
        return most
    return min(most, (1.0 - time) / time * ((1.0 - time) ** 2 + time**2) / (1.0 - time) ** 2)


def guided(
    field: Callable[[Tensor], tuple[Tensor, Tensor]], point: Tensor, target: Tensor, weights: Tensor, time: float, most: float
) -> tuple[Tensor, Tensor]:
    """The guided velocity v + g J^T e, with e = w (target - x1), x1 = x + (1 - s) v and J the Jacobian of x1.

    Args:
        field: returns the velocity of a point, and something else that is passed on.
        point: the chunk at flow time s, [B, ...]; must not have been made in inference mode.
        target: the actions being executed, [B, ...].
        weights: w of each element, broadcasting against `point`.
        time: s.
        most: largest g.

    Returns:
        The guided velocity, and the second value of `field`.
    """
    with torch.enable_grad():
        x = point.detach().requires_grad_(True)
        velocity, rest = field(x)
        clean = x + (1.0 - time) * velocity
        error = (weights * (target - clean)).detach()
        (pull,) = torch.autograd.grad(clean, x, error)
    return velocity.detach() + strength(time, most) * pull, rest.detach()
