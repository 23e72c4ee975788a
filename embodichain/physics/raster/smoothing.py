"""Kernels of the rasteriser that fill in samples between pixel centres, and write the final picture."""

# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

import numpy as np

from embodichain.physics.raster.parts import HALF, kernel, part

_ALIKE = np.float32(10.0 / 255.0)
"""Colours that differ by less than this are interpolated instead of shading the sample between them."""
_RED_OF, _GREEN_OF, _BLUE_OF = np.uint64(0), np.uint64(1), np.uint64(2)


@part
def _apart(one, other, owner):
    """Whether two samples with these triangles show different geoms, or only one of them shows any."""
    return one != other and (one < 0 or other < 0 or owner[one] != owner[other])


@part
def _between_two(owner, shown, colour, chosen, j, i, j0, i0, j1, i1):
    """Gives a sample the mean colour of two neighbours, or marks it in `chosen` if it must be shaded."""
    t = shown[j, i]
    differ = _apart(t, shown[j0, i0], owner) or _apart(t, shown[j1, i1], owner)
    if not differ:
        r, g, b = colour[j0, i0, _RED_OF], colour[j0, i0, _GREEN_OF], colour[j0, i0, _BLUE_OF]
        s, h, c = colour[j1, i1, _RED_OF], colour[j1, i1, _GREEN_OF], colour[j1, i1, _BLUE_OF]
        differ = max(abs(r - s), max(abs(g - h), abs(b - c))) > _ALIKE
        colour[j, i, _RED_OF] = HALF * (r + s)
        colour[j, i, _GREEN_OF] = HALF * (g + h)
        colour[j, i, _BLUE_OF] = HALF * (b + c)
    chosen[j, i] = differ


@kernel
def between(owner, room):
    """Fills in the samples between pixel centres: from two centres beside them, or from two samples above and below.

    Centres are at odd rows and columns and are already shaded. A sample whose two neighbours show the same geom in nearly the same
    colour is interpolated; all others are marked in `chosen`.
    """
    shown, colour, chosen = room.shown, room.colour, room.chosen
    rows, columns = np.uint64(shown.shape[0]), np.uint64(shown.shape[1])
    one, two = np.uint64(1), np.uint64(2)
    for half in range(rows // two):
        j = two * np.uint64(half) + one
        _between_two(owner, shown, colour, chosen, j, np.uint64(0), j, one, j, one)
        for other in range(one, columns // two):
            i = two * np.uint64(other)
            _between_two(owner, shown, colour, chosen, j, i, j, i - one, j, i + one)
        _between_two(owner, shown, colour, chosen, j, columns - one, j, columns - two, j, columns - two)
    for half in range(rows // two + one):
        j = two * np.uint64(half)
        up, down = j - one if j > 0 else one, j + one if j + one < rows else j - one
        for other in range(columns):
            i = np.uint64(other)
            _between_two(owner, shown, colour, chosen, j, i, up, i, down, i)
            if chosen[up, i] or chosen[down, i]:
                chosen[j, i] = True


@kernel
def develop(colour, fine, rgb):
    """Converts colours to bytes: one sample a pixel or, with `fine`, centre and eight neighbours weighted 4, 2 and 1."""
    height, width = rgb.shape[0], rgb.shape[1]
    full = np.float32(255.0)
    for row in range(height):
        for column in range(width):
            j, i = (2 * row + 1, 2 * column + 1) if fine else (row, column)
            for k in range(3):
                value = colour[j, i, k]
                if fine:
                    sides = colour[j - 1, i, k] + colour[j + 1, i, k] + colour[j, i - 1, k] + colour[j, i + 1, k]
                    ends = colour[j - 1, i - 1, k] + colour[j - 1, i + 1, k] + colour[j + 1, i - 1, k] + colour[j + 1, i + 1, k]
                    value = np.float32(0.25) * value + np.float32(0.125) * sides + np.float32(0.0625) * ends
                rgb[row, column, k] = np.uint8(value * full + HALF)
