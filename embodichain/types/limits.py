"""The range of values that a robot can be commanded to, in the unified representation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ChannelLimits(NamedTuple):
    """The limits of each channel of commands and measurements, in the unified representation; 0 in absent channels."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def bounded(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions [..., 30] with every channel clipped to its limits. NaN stays NaN, so that callers can refuse it."""
        return np.clip(actions, self.low, self.high)

    def breach(self, measured: NDArray[np.float32]) -> str:
        """Describes the channel of a measurement [30] that lies farthest outside its limits; empty when none does.

        This detects wrong units and corrupt values. Valid measurements exceed the limits too: a joint that is pressed against its
        stop, as fingers that lean on something, by more than a tenth of its range. So half of the range is allowed.
        """
        slack = 0.5 * (self.high - self.low) + 1e-3
        beyond = np.maximum(self.low - slack - measured, measured - self.high - slack)
        worst = int(np.argmax(np.where(np.isnan(beyond), np.inf, beyond)))
        if beyond[worst] <= 0.0:
            return ""
        return f"{channel_name(worst)} is {measured[worst]:g}, this robot's lies within {self.low[worst]:g}..{self.high[worst]:g}"


def channel_name(channel: int) -> str:
    """The meaning of a channel of the unified representation."""
    sides = ("left", "right")
    for side, start in zip(sides, (14, 21), strict=True):
        if start <= channel < start + 7:
            return f"channel {channel} ({side} joint {channel - start} [rad])"
    for side, start in zip(sides, (0, 7), strict=True):
        if start <= channel < start + 7:
            return f"channel {channel} ({side} end effector {('x', 'y', 'z', 'qw', 'qx', 'qy', 'qz')[channel - start]})"
    return f"channel {channel} ({sides[channel - 28]} gripper [m])"
