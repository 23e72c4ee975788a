"""Kernels of the rasteriser that draw all pictures of a state in one call.

A call from Python unpacks some hundred arrays, which takes as long as shading a tenth of a picture when other work has filled the
processor's caches in between, as physics does.
"""

# ruff: noqa: ANN001, ANN201  (numba infers the types)

from __future__ import annotations

import numpy as np

from embodichain.physics.raster import ambience, shading, shadows, smoothing, visibility
from embodichain.physics.raster.parts import ZERO, entry

_OPAQUE = np.float32(0.999)
"""Geoms with a lower opacity can be seen through, in scenes that have such geoms."""


@entry
def prepare(active, casting, diffuse, shadowed, direction, rotation, position, aabb, solids, materials, skins, lights):
    """Reads the surfaces from the model, and finds the active lights and the spaces of their shadow maps."""
    shading.read_surfaces(solids, materials, skins)
    shadows.find(active, casting, diffuse, shadowed, direction, rotation, position, aabb, solids, lights)


@entry
def draw(
    cameras,
    places,
    axes,
    fovy,
    far,
    cull,
    fine,
    read,
    active,
    rotation,
    position,
    solids,
    skins,
    lights,
    around,
    room,
    rgb,
    depth,
    geoms,
):
    """Draws the shadow maps that `prepare` found, then the pictures [C, h, w, 3] of the model's `cameras` [C].

    `places` [N, 3], `axes` [N, 9] and `fovy` [N] are those of all N cameras of the model. With `read`, depths and geoms [C, h, w]
    are written too.
    """
    shadows.light_up(active, rotation, position, solids, lights, room)
    for number in range(len(cameras)):
        camera = cameras[number]
        eye, frame = places[camera], axes[camera].reshape(3, 3)
        if around.on[1]:  # first without what can be seen through, which is then mixed with what is behind it
            visibility.see(rotation, position, solids, eye, frame, fovy[camera], far, cull, fine, _OPAQUE, room)
            shading.colour(fine, frame, eye, solids, skins, lights, around, room)
            ambience.keep(room.colour, room.behind)
        visibility.see(rotation, position, solids, eye, frame, fovy[camera], far, cull, fine, ZERO, room)
        shading.colour(fine, frame, eye, solids, skins, lights, around, room)
        if around.on[1]:
            ambience.veil(solids.rgba, solids.owner, solids.geoms, room.shown, room.colour, room.behind)
        smoothing.develop(room.colour, fine, rgb[number])
        if read:
            visibility.read(fine, solids, room, depth[number], geoms[number])
