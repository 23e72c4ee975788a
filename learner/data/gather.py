"""Gathers the windows of a whole batch from a ring with one kernel launch a field, by advanced indexing over all slots.

A field of all slots is a strided view [slots, frames, ...] of the ring's memory, whose first stride is the size of a slot. It may
span many gigabytes; torch computes the offsets with 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from learner.data.windows import as_tensor


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Where the trajectories of a lease lie in a ring."""

    field: Callable[[str], Any]
    """Returns one field of all slots (`AnyRing.field`)."""
    indices: NDArray[np.int64]
    """The slot of each trajectory, [B]."""

    def windows(self, name: str, starts: Tensor, lengths: Tensor, size: int, device: torch.device | str) -> Tensor | None:
        """The windows of a field (see `gathered`); None when the field does not lie on `device`, or in host memory.

        In host memory one copy a window is several times as fast: torch's indexing there moves single elements.
        """
        field = as_tensor(self.field(name))
        if field.device.type == "cpu" or not lies_on(field.device, torch.device(device)):
            return None
        return gathered(field, self.indices, starts, lengths, size)


def lies_on(there: torch.device, wanted: torch.device) -> bool:
    """Whether `wanted` names the device `there`. A device without a number, such as "cuda", means the current one."""
    if there.type != wanted.type or wanted.type != "cuda":
        return there.type == wanted.type
    return there.index == (torch.cuda.current_device() if wanted.index is None else wanted.index)


def gathered(field: Tensor, slots: NDArray, starts: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Windows of rows: row t of window b is `field[slots[b], starts[b] + t]`, zero from `lengths[b]` on.

    Args:
        field: One field of all slots, [S, F, ...].
        slots: The slot of each window, integers [B].
        starts: Its first row, [B].
        lengths: How many rows it has, [B]; from 0 to `size`.
        size: Rows of every window of the result.

    Returns:
        A new tensor [B, size, ...] on the field's device.
    """
    steps = torch.arange(size)
    inside = steps[None] < lengths[:, None]
    # Rows beyond a window may lie outside of the field: read its first row instead, and overwrite that with zeros below.
    rows = torch.where(inside, starts[:, None] + steps[None], starts[:, None])
    where = torch.from_numpy(slots).to(field.device, non_blocking=True)
    out = field[where[:, None], rows.to(field.device, non_blocking=True)]
    if not bool(inside.all()):
        out[~inside.to(field.device)] = 0
    return out
