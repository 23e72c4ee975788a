"""Learning rate schedules."""

from __future__ import annotations

import math


def warm_cosine(step: int, steps: int, *, warmup: int = 0, final_share: float = 0.0) -> float:
    """Learning rate as a share of the highest: linear over `warmup` steps, then a cosine down to `final_share` at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * done))
