"""The state that an external benchmark reports after a control step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.types import WorldState


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnvironmentState(WorldState):
    """A state without poses and contacts, which benchmarks do not report, but with the benchmark's own success."""

    success: bool
    """Whether the benchmark counts this state as success."""
    reward: float
    """Reward of the last step, on the benchmark's scale."""
    progress: float
    """The reward scaled to 0..1."""
    expert: NDArray[np.float64]
    """The present command of the benchmark's scripted expert; empty if it has none."""
    observation: Mapping[str, NDArray[np.float64]]
    """The benchmark's observations of the true state, by its own names."""
