"""Vector quantisation: each vector is replaced by the nearest entry of a codebook.

Codes are exponential moving averages of the vectors assigned to them (van den Oord et al. 2017, "Neural Discrete Representation
Learning", appendix A.1). A code that is not used for long restarts at a random vector of the batch.

Shapes: R vectors of width d, Q codes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Quantizer(nn.Module):
    """The codebook and its moving averages. They are buffers, not parameters: the optimiser does not change them."""

    codes: Tensor
    counts: Tensor
    sums: Tensor
    idle: Tensor

    def __init__(self, count: int, width: int, *, decay: float = 0.99, patience: int = 100) -> None:
        """`count` codes of `width` channels; codes not used for `patience` steps restart."""
        super().__init__()
        self.decay, self.patience = decay, patience
        self.register_buffer("codes", torch.randn(count, width))
        self.register_buffer("counts", torch.ones(count))
        self.register_buffer("sums", self.codes.clone())
        self.register_buffer("idle", torch.zeros(count, dtype=torch.long))

    def indices(self, vectors: Tensor) -> Tensor:
        """Index of the nearest code for each vector [..., d], int64 [...]."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        distance = self.codes.square().sum(dim=1) - 2.0 * flat @ self.codes.T
        return distance.argmin(dim=1).view(vectors.shape[:-1])

    def forward(self, vectors: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Quantises vectors [..., d]; in training mode it also updates the codebook.

        Returns:
            The nearest codes [..., d], through which gradients pass straight to the vectors; the commitment loss; indices [...].
        """
        index = self.indices(vectors.detach())
        found = self.codes[index]
        if self.training:
            self._follow(vectors.detach().reshape(-1, vectors.shape[-1]), index.flatten(), generator)
        return vectors + (found - vectors).detach(), (vectors - found.detach()).square().mean(), index

    @torch.no_grad()
    def _follow(self, vectors: Tensor, index: Tensor, generator: torch.Generator | None) -> None:
        chosen = torch.bincount(index, minlength=len(self.codes)).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, index, vectors)
        self.counts.lerp_(chosen, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        self.codes.copy_(self.sums / self.counts.clamp_min(1e-5)[:, None])
        self.idle.copy_(torch.where(chosen > 0, 0, self.idle + 1))
        dead = (self.idle >= self.patience).nonzero()[:, 0]
        if len(dead):
            picks = torch.randint(0, len(vectors), (len(dead),), generator=generator)
            self.codes[dead] = vectors[picks]
            self.sums[dead], self.counts[dead], self.idle[dead] = vectors[picks], 1.0, 0


def perplexity(index: Tensor, count: int) -> float:
    """Effective number of codes in use: the exponential of the entropy of their frequencies."""
    share = torch.bincount(index.flatten(), minlength=count).double()
    share = share[share > 0] / share.sum()
    return float(torch.exp(-(share * share.log()).sum()))
