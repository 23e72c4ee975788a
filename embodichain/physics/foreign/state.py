"""What somebody else's benchmark says after a control step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.types import WorldState


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnvironmentState(WorldState):
    """A state without poses and contacts, which the benchmark keeps to itself; it says whether its task is done."""

    success: bool
    """What the benchmark says of this very moment."""
    reward: float
    """Of the last step, on the benchmark's own scale."""
    progress: float
    """The same in 0..1."""
    expert: NDArray[np.float64]
    """What the benchmark's own scripted expert would command now; empty where it has none."""
    observation: Mapping[str, NDArray[np.float64]]
    """What the benchmark shows to those who may know the truth, by its own names."""
