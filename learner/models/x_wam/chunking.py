"""Real-time chunking: a new decision that goes on from actions that are already under way.

Guided (Black, Galliker & Levine 2025, "Real-Time Execution of Action Chunking Flow Policies"): each step of the sampler is drawn
towards the actions that are left of the last decision, by the gradient of the predicted clean chunk. Where a model was trained with
clean prefixes, the committed actions are simply given ("Training-Time Action Conditioning for Efficient Real-Time Chunking").
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def overlap_weights(horizon: int, delay: int, overlap: int) -> Tensor:
    """How much each of `horizon` actions is held to those under way, float32 [H]: 1 for the first `delay`, then falling, then 0.

    Falls as c (e^c - 1) / (e - 1) with c from 1 to 0 over the rest of the `overlap` actions that are known (the paper's eq. 5).
    """
    index = torch.arange(horizon, dtype=torch.float32)
    c = ((overlap - index) / max(overlap - delay + 1, 1)).clamp(0.0, 1.0)
    fading = c * (c.exp() - 1.0) / (math.e - 1.0)
    return torch.where(index < delay, 1.0, torch.where(index < overlap, fading, 0.0))


def strength(time: float, most: float) -> float:
    """G = (1 - s) / s ((1 - s)^2 + s^2) / (1 - s)^2 at flow time s, at most `most`."""
    if time <= 0.0 or time >= 1.0:
        return most
    return min(most, (1.0 - time) / time * ((1.0 - time) ** 2 + time**2) / (1.0 - time) ** 2)


def guided(
    field: Callable[[Tensor], tuple[Tensor, Tensor]], point: Tensor, target: Tensor, weights: Tensor, time: float, most: float
) -> tuple[Tensor, Tensor]:
    """Velocity v + g J^T e of the point, with e = w (target - x1), x1 = x + (1 - s) v and J the Jacobian of x1; and the rest.

    Args:
        field: velocity of a point, and whatever else it computes.
        point: the chunk at flow time s, [B, ...]; may have been made without gradients, but not in inference mode.
        target: the actions under way, [B, ...].
        weights: of each element's error, broadcasting against `point`.
        time: s.
        most: largest g.
    """
    with torch.enable_grad():
        x = point.detach().requires_grad_(True)
        velocity, rest = field(x)
        clean = x + (1.0 - time) * velocity
        error = (weights * (target - clean)).detach()
        (pull,) = torch.autograd.grad(clean, x, error)
    return velocity.detach() + strength(time, most) * pull, rest.detach()
