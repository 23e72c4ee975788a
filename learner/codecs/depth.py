"""Depth as a grey image of inverse depth between fixed bounds, so that one codec encodes colours and depths.

The bounds are fixed: bounds taken from a clip could not be recovered from a single frame. Pixels without a hit count as far.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEAR_M, FAR_M = 0.2, 4.0
"""Distances along the camera's axis [m] that become 1 and -1."""


def disparity(depth_m: Tensor) -> Tensor:
    """2 (1/z - 1/far) / (1/near - 1/far) - 1 of depths [m], any shape, in -1..1; 0 m (nothing hit) counts as far."""
    z = torch.where(depth_m > 0, depth_m.float(), FAR_M).clamp(NEAR_M, FAR_M)
    return 2.0 * (1.0 / z - 1.0 / FAR_M) / (1.0 / NEAR_M - 1.0 / FAR_M) - 1.0


def depth_of(disparities: Tensor) -> Tensor:
    """The inverse of `disparity` [m]."""
    return 1.0 / (0.5 * (disparities.float().clamp(-1.0, 1.0) + 1.0) * (1.0 / NEAR_M - 1.0 / FAR_M) + 1.0 / FAR_M)
