"""How exactly float32 matrix products are taken on a GPU: by tensor cores in TF32, or in full.

The memory's state stays float32, and a step of training spends 4% of its arithmetic in products of it. In full precision these run
without tensor cores and take a third of the step; TF32 keeps the range of float32 and 10 bits of its mantissa in the operands, and
sums in float32 (NVIDIA A100 whitepaper, 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["in_full", "tensor_cores"]


def in_full(device: torch.device) -> torch.autocast:
    """A block in which products are taken in the type of their operands, also under autocast, which would round them to bfloat16.

    A state that many small steps are added to must not be made of rounded steps; `tensor_cores` makes its products fast.
    """
    return torch.autocast(device.type, enabled=False)


@contextmanager
def tensor_cores(enabled: bool = True) -> Iterator[None]:
    """Takes float32 products on CUDA in TF32 inside the block, forward passes and backward passes alike; then as before.

    The setting is one of the whole process: enclose the backward pass too, whose products run when that is called. It has no effect
    on a CPU, and none on products in other types.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = enabled
    try:
        yield
    finally:
        matmul.allow_tf32 = before
