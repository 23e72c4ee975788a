"""Computes poses of geoms and lights relative to many cameras at once, as input of a painter on a GPU: see `physics.warp.card`.

The float64 arithmetic is done here by the functions that the rasteriser calls, so that the GPU needs none.
"""

# ruff: noqa: ANN001, ANN201  (numba infers the types)

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.physics.raster import shading, shadows, visibility
from embodichain.physics.raster.parts import HALF, ONE, Lights, entry

HIDDEN, AHEAD, AROUND = 0, 1, 2
"""Position of a geom in a view: outside of it, in front of the near plane, or possibly on both sides of the near plane."""


class CameraViews(NamedTuple):
    """V views of G geoms under L lights, pictures of h x w samples; float32 unless stated otherwise."""

    dx: NDArray[np.float32]
    """Slope of the ray through each column, [V, w]."""
    dy: NDArray[np.float32]
    """Slope of the ray through each row, [V, h]."""
    scales: NDArray[np.float32]
    """Samples per slope along x and y, and the picture's centre [samples], [V, 4]."""
    turns: NDArray[np.float32]
    """Rotation from each geom's frame to camera space, [V, G, 3, 3]."""
    shifts: NDArray[np.float32]
    """Position of each geom's origin in camera space [m], [V, G, 3]."""
    eyes: NDArray[np.float32]
    """Position of the camera in each geom's frame [m], [V, G, 3]."""
    seen: NDArray[np.uint8]
    """One of HIDDEN, AHEAD and AROUND, [V, G]."""
    aims: NDArray[np.float32]
    """Unit vectors towards each light in camera space, [V, L, 3]."""
    matrices: NDArray[np.float32]
    """Transformation from camera space to each shadow map, [V, L, 3, 4]."""


class Lamps(NamedTuple):
    """The active lights in F frames, in the first `count[f]` of L."""

    count: NDArray[np.int32]
    """Number of active lights in each frame, [F]."""
    colour: NDArray[np.float32]
    """Colour of each light, [F, L, 3]."""
    mapped: NDArray[np.uint8]
    """Whether it casts shadows, [F, L]."""
    texel: NDArray[np.float32]
    """Edge length of a texel of its shadow map [m], [F, L]."""
    turns: NDArray[np.float32]
    """Rotation from each geom's frame to the space of its shadow map, [F, L, G, 3, 3]."""
    shifts: NDArray[np.float32]
    """Translation from each geom's frame to that space [texels, texels, m], [F, L, G, 3]."""


def no_views(views: int, geoms: int, lights: int, height: int, width: int) -> CameraViews:
    """Arrays for this many views; see `CameraViews`."""
    return CameraViews(
        dx=np.zeros((views, width), np.float32),
        dy=np.zeros((views, height), np.float32),
        scales=np.zeros((views, 4), np.float32),
        turns=np.zeros((views, geoms, 3, 3), np.float32),
        shifts=np.zeros((views, geoms, 3), np.float32),
        eyes=np.zeros((views, geoms, 3), np.float32),
        seen=np.zeros((views, geoms), np.uint8),
        aims=np.zeros((views, lights, 3), np.float32),
        matrices=np.zeros((views, lights, 3, 4), np.float32),
    )


def no_lamps(frames: int, geoms: int, lights: int) -> Lamps:
    """Arrays for this many frames; see `Lamps`."""
    return Lamps(
        count=np.zeros(frames, np.int32),
        colour=np.zeros((frames, lights, 3), np.float32),
        mapped=np.zeros((frames, lights), np.uint8),
        texel=np.zeros((frames, lights), np.float32),
        turns=np.zeros((frames, lights, geoms, 3, 3), np.float32),
        shifts=np.zeros((frames, lights, geoms, 3), np.float32),
    )


@entry
def place(view, eye, axes, fovy, far, rotation, position, solids, lights, views, room):
    """Writes one view, after `shadows.find`: geoms as `visibility.see` poses them, and lights as `shading.aim` does."""
    dx, dy = views.dx[view], views.dy[view]
    tan_x, tan_y = visibility.rays(fovy, len(dx), len(dy), False, dx, dy)
    views.scales[view, 0], views.scales[view, 1] = ONE / (dx[1] - dx[0]), ONE / (dy[0] - dy[1])
    views.scales[view, 2], views.scales[view, 3] = HALF * np.float32(len(dx) - 1), HALF * np.float32(len(dy) - 1)
    away, turn, local = room.away, room.turn, room.local
    for number in range(len(solids.geoms)):
        g = solids.geoms[number]
        visibility.offset(eye, axes, position, g, away)
        visibility.turned(eye, axes, rotation, position, g, turn, local)
        # A radius of 0 means unbounded, as of a plane: such a geom is never culled, and its vertices may be behind the camera.
        radius = solids.rbound[g]
        views.seen[view, number] = AHEAD
        if radius == 0.0 or -away[2] - radius < visibility.NEAR:
            views.seen[view, number] = AROUND
        if radius > 0.0 and visibility.outside(away[0], away[1], -away[2], radius, tan_x, tan_y, far):
            views.seen[view, number] = HIDDEN
        # Opacity 0 means not drawn: the GPU can skip these triangles like those outside of the view.
        if solids.rgba[g, 3] == np.float32(0.0):
            views.seen[view, number] = HIDDEN
        for i in range(3):
            views.shifts[view, number, i], views.eyes[view, number, i] = np.float32(away[i]), local[i]
            for k in range(3):
                views.turns[view, number, i, k] = turn[i, k]
    # The rasteriser's own function, so that the GPU shades with the same bits.
    shading.aim(axes, eye, lights)
    for light in range(lights.count[0]):
        for i in range(3):
            views.aims[view, light, i] = lights.aims[light, i]
            for k in range(4):
                views.matrices[view, light, i, k] = lights.matrices[light, i, k]


@entry
def lamp(frame, rotation, position, solids, lights, lamps, room):
    """Writes the lights of one frame, after `shadows.find` has found them, and geoms as `shadows.cast` poses them."""
    turn, shift = room.turn, room.shift
    lamps.count[frame] = lights.count[0]
    for light in range(lights.count[0]):
        for k in range(3):
            lamps.colour[frame, light, k] = lights.colour[light, k]
        lamps.mapped[frame, light] = 1 if lights.mapped[light] else 0
        lamps.texel[frame, light] = lights.texel[light]
        if not lights.mapped[light]:
            continue
        for number in range(len(solids.geoms)):
            shadows.into_map(lights.frames[light], rotation, position, solids.geoms[number], turn, shift)
            for i in range(3):
                lamps.shifts[frame, light, number, i] = shift[i]
                for k in range(3):
                    lamps.turns[frame, light, number, i, k] = turn[i, k]


def casters(lights: Lights, num_geoms: int) -> NDArray[np.uint8]:
    """Whether each visible geom casts shadows, [G]."""
    found = np.zeros(num_geoms, np.uint8)
    found[lights.still] = found[lights.moving] = 1
    return found
