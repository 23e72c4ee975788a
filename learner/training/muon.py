"""Muon on CPUs: torch's, but orthogonalised in single precision, all matrices of a shape together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with learning rates as for AdamW; its state is the same.

    torch orthogonalises each matrix in bfloat16. A CPU that cannot multiply in bfloat16 spends a quarter of the training step of a
    small model on that. Other devices use torch's own step.
    """

    def __init__(self, matrices: list[Tensor], *, lr: float, weight_decay: float) -> None:
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step; returns the loss from `closure`, if given."""
        if any(matrix.device.type != "cpu" for group in self.param_groups for matrix in group["params"]):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for shape, matrices in alike.items():
                momenta = torch.stack([self._momentum(matrix, group) for matrix in matrices])
                moves = orthogonal(momenta, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rate = group["lr"] * 0.2 * math.sqrt(max(shape))  # entries then move as far as by AdamW (Liu et al. 2025)
                for matrix, move in zip(matrices, moves, strict=True):
                    matrix.mul_(1.0 - group["lr"] * group["weight_decay"]).add_(move, alpha=-rate)
        return loss

    def _momentum(self, matrix: Tensor, group: dict[str, Any]) -> Tensor:
        """Follows the gradient; returns Nesterov's look ahead of the momentum."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix.grad)
        momentum = state["momentum_buffer"].lerp_(matrix.grad, 1.0 - group["momentum"])
        return matrix.grad.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Matrices [n, rows, columns] with nearly the same singular vectors and singular values of about 1 (0.5 to 1.5).

    Newton-Schulz iteration with a quintic polynomial: K. Jordan et al., "Muon: an optimizer for hidden layers" (2024).
    """
    linear, cubic, quintic = coefficients
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp_min(eps)
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic), wide, beta=linear)
    return wide.mT if matrices.shape[1] > matrices.shape[2] else wide
