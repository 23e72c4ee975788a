"""Noise of camera pixels from an integer hash, so that it is bitwise the same on a CPU and on a GPU, in any process.

The noise of a value is the sum of the eight bytes of splitmix64 (Steele, Lea and Flood 2014) of its scene, moment and place, minus
the mean of such a sum: nearly normal, with a standard deviation of 209. Exposure and noise are applied in integers, because
compilers for GPUs fuse float32 products and sums, which NumPy does not.
"""

# ruff: noqa: ANN202  (numba infers the types of kernels)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodichain.machine_code import compiled

STEP = 0x9E3779B97F4A7C15
"""Increment of splitmix64's counter: 2^64 over the golden ratio."""
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Multipliers of splitmix64's finaliser."""
MEAN = 1020
"""Mean of the sum of eight bytes."""
DEVIATION = 209.0
"""Standard deviation of such a sum, sqrt(8 (256^2 - 1) / 12) = 209.02, as an integer."""
BITS = 16
"""Number of fractional bits of gains and amplitudes."""
_MASK = (1 << 64) - 1


def key(scene: int, stream: int, frame: int) -> int:
    """The 64-bit key of a moment's noise: a hash of the scene's seed, the number of its stream of effects, and the control step."""
    return _mixed((_mixed((_mixed(scene) + stream) & _MASK) + frame) & _MASK)


def _mixed(value: int) -> int:
    """splitmix64 in Python's integers."""
    value = (value + STEP) & _MASK
    value = ((value ^ (value >> 30)) * FIRST) & _MASK
    value = ((value ^ (value >> 27)) * SECOND) & _MASK
    return value ^ (value >> 31)


def gain_of(stops: float) -> int:
    """The factor of an exposure [stops], with `BITS` fractional bits."""
    return round(2.0**stops * (1 << BITS))


def amplitude_of(noise: float) -> int:
    """The factor of a sum of bytes for a standard deviation of `noise` (full scale 1), with `BITS` fractional bits."""
    return round(255.0 * noise / DEVIATION * (1 << BITS))


def develop(rgb: NDArray[np.uint8], gain: int, amplitude: int, moment: int) -> None:
    """Applies exposure and noise to pictures in place; `moment` is their `key`, and pixels are numbered in the array's order."""
    values = rgb if rgb.flags.c_contiguous else np.ascontiguousarray(rgb)
    _develop(values.reshape(-1), np.int64(gain), np.int64(amplitude), np.uint64(moment))
    if values is not rgb:
        rgb[...] = values


@compiled(nogil=True)
def _develop(values, gain, amplitude, moment):  # noqa: ANN001
    step, first, second = np.uint64(STEP), np.uint64(FIRST), np.uint64(SECOND)
    low, byte = np.uint64(0x00FF00FF00FF00FF), np.uint64(0xFFFF)
    half = np.int64(1) << np.int64(BITS - 1)
    for place in range(len(values)):
        # A counter in place of a state: each value's noise follows from its place alone, so that threads need no order.
        drawn = moment + np.uint64(place + 1) * step
        drawn = (drawn ^ (drawn >> np.uint64(30))) * first
        drawn = (drawn ^ (drawn >> np.uint64(27))) * second
        drawn ^= drawn >> np.uint64(31)
        pairs = (drawn & low) + ((drawn >> np.uint64(8)) & low)  # four sums of two bytes each
        total = (pairs & byte) + ((pairs >> np.uint64(16)) & byte) + ((pairs >> np.uint64(32)) & byte) + (pairs >> np.uint64(48))
        value = np.int64(values[place]) * gain + (np.int64(total) - np.int64(MEAN)) * amplitude + half
        values[place] = np.uint8(min(max(value >> np.int64(BITS), np.int64(0)), np.int64(255)))
