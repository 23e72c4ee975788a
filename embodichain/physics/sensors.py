"""Models of real sensors: blur of the optics, a rolling shutter, and the errors of depth cameras."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from embodichain.machine_code import compiled
from embodichain.types.settings import Sensor

__all__ = ["blur", "err", "roll"]

Floats = NDArray[np.float64]


def blur(rgb: NDArray[np.uint8], deviation: float) -> None:
    """Blurs pictures [C, h, w, 3] in place by a Gaussian of this standard deviation [pixels]."""
    rgb[...] = np.rint(gaussian_filter(rgb.astype(np.float32), (0.0, deviation, deviation, 0.0), mode="nearest"))


def roll(
    rgb: NDArray[np.uint8], others: tuple[NDArray[np.float32] | None, NDArray[np.uint8] | None], turn: Floats, fovy: float
) -> None:
    """Moves the rows of one picture [h, w, 3] in place to where they are seen when they are read.

    The camera turns by the rotation vector `turn` [rad], in its own frame, from the first row to the last; the middle row stays.
    `others` are depth and segmentation [h, w] of the same picture, which move with it, without interpolation. A camera's
    translation, and what moves before it, are left out.
    """
    height, width = rgb.shape[:2]
    focal = 0.5 * height / math.tan(math.radians(fovy) / 2.0)
    source = np.ascontiguousarray(rgb)
    moved = np.empty_like(source)
    # Where each pixel's light came from [pixels], [h, w].
    row, column = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    _places(row, column, np.asarray(turn, np.float64), focal)
    _pick(source, row, column, moved)
    rgb[...] = moved
    nearest = (np.clip(np.rint(row), 0, height - 1).astype(np.intp), np.clip(np.rint(column), 0, width - 1).astype(np.intp))
    for values in others:
        if values is not None:
            values[...] = values[nearest]


def err(depth: NDArray[np.float32], sensor: Sensor, drift: float, rng: np.random.Generator) -> None:
    """Adds the errors of a stereo or structured-light camera to depths [C, h, w] [m] in place; 0 stays 0.

    Noise and rounding grow with the square of the distance, since disparity is what is measured (Khoshelham and Elberink 2012).
    """
    true = depth.copy()
    square = true * true
    measured = true * np.float32(1.0 + drift) + np.float32(sensor.depth_noise) * square * rng.standard_normal(
        true.shape, np.float32
    )
    if sensor.depth_step:
        step = np.maximum(np.float32(sensor.depth_step) * square, np.float32(1e-6))
        measured = np.rint(measured / step) * step
    if sensor.depth_holes:
        jump = np.zeros(true.shape, bool)
        for axis in (1, 2):
            apart = np.abs(np.diff(true, axis=axis)) > 0.02
            first, last = [slice(None)] * 3, [slice(None)] * 3
            first[axis], last[axis] = slice(None, -1), slice(1, None)
            jump[tuple(first)] |= apart
            jump[tuple(last)] |= apart
        measured[jump & (rng.random(true.shape, np.float32) < sensor.depth_holes)] = 0.0
    depth[...] = np.where(true > 0.0, np.maximum(measured, 0.0), 0.0)


@compiled(nogil=True)
def _places(row, column, turn, focal):  # noqa: ANN001, ANN202
    height, width = row.shape
    for j in range(height):
        share = (j + 0.5) / height - 0.5
        for i in range(width):
            # The ray of this pixel, turned by the camera's rotation until this row is read, to first order.
            x, y = (i + 0.5 - 0.5 * width) / focal, (0.5 * height - j - 0.5) / focal
            a, b, c = turn[0] * share, turn[1] * share, turn[2] * share
            rx, ry, rz = x - b - c * y, y + c * x + a, -1.0 + a * y - b * x
            column[j, i] = -rx / rz * focal + 0.5 * width - 0.5
            row[j, i] = 0.5 * height + ry / rz * focal - 0.5


@compiled(nogil=True)
def _pick(source, row, column, out):  # noqa: ANN001, ANN202
    height, width = row.shape
    for j in range(height):
        for i in range(width):
            y, x = min(max(row[j, i], 0.0), height - 1.0), min(max(column[j, i], 0.0), width - 1.0)
            top, left = int(y), int(x)
            low, right = min(top + 1, height - 1), min(left + 1, width - 1)
            fy, fx = y - top, x - left
            for k in range(3):
                above = (1.0 - fx) * source[top, left, k] + fx * source[top, right, k]
                below = (1.0 - fx) * source[low, left, k] + fx * source[low, right, k]
                out[j, i, k] = np.uint8((1.0 - fy) * above + fy * below + 0.5)
