"""Precision of float32 matrix products on a GPU: TF32 on tensor cores, or full float32.

The memory's state is float32, and products with it are 4% of the arithmetic of a training step. In full precision they run without
tensor cores and take a third of the step's time. TF32 rounds the operands to 10 bits of mantissa, keeps the range of float32, and
accumulates in float32 (NVIDIA A100 whitepaper, 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["in_full", "tensor_cores"]


def in_full(device: torch.device) -> torch.autocast:
    """A context in which autocast is off, so that float32 products are not rounded to bfloat16.

    The memory's state is a sum of many small steps, which rounding would falsify. `tensor_cores` makes these products fast.
    """
    return torch.autocast(device.type, enabled=False)


@contextmanager
def tensor_cores(enabled: bool = True) -> Iterator[None]:
    """Computes float32 products on CUDA in TF32 inside the `with` block, and restores the old setting afterwards.

    The setting applies to the whole process at the time a product runs, so the block must enclose the backward pass too. It has no
    effect on a CPU or on products in other types.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = enabled
    try:
        yield
    finally:
        matmul.allow_tf32 = before
