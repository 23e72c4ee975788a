"""What a robot can be asked for, in the unified representation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Limits(NamedTuple):
    """What a robot can be asked for, and what can be measured of it, in the unified representation; 0 in absent channels."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def bounded(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions [..., 30], every channel within its limits; what is no number stays none: callers refuse it."""
        return np.clip(actions, self.low, self.high)

    def breach(self, measured: NDArray[np.float32]) -> str:
        """In words, the channel of a measurement [30] that lies farthest beyond its limits; empty when none does.

        What is meant to be caught are other units and nonsense. A joint that is pressed against its stop is measured beyond its
        range: fingers that lean on something, by more than a tenth of it. Half of the range is allowed.
        """
        slack = 0.5 * (self.high - self.low) + 1e-3
        beyond = np.maximum(self.low - slack - measured, measured - self.high - slack)
        worst = int(np.argmax(np.where(np.isnan(beyond), np.inf, beyond)))
        if beyond[worst] <= 0.0:
            return ""
        return f"{channel_name(worst)} is {measured[worst]:g}, this robot's lies within {self.low[worst]:g}..{self.high[worst]:g}"


def channel_name(channel: int) -> str:
    """What a channel of the unified representation is."""
    sides = ("left", "right")
    for side, start in zip(sides, (14, 21), strict=True):
        if start <= channel < start + 7:
            return f"channel {channel} ({side} joint {channel - start} [rad])"
    for side, start in zip(sides, (0, 7), strict=True):
        if start <= channel < start + 7:
            return f"channel {channel} ({side} end effector {('x', 'y', 'z', 'qw', 'qx', 'qy', 'qz')[channel - start]})"
    return f"channel {channel} ({sides[channel - 28]} gripper [m])"
