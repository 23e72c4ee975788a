"""Painters: what draws the pictures of a world. A world's configuration names one, and so does the record of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from embodichain.registry import Registry

if TYPE_CHECKING:
    import mujoco

__all__ = ["BACKGROUND", "PAINTERS", "Painter"]

BACKGROUND = (0.70, 0.74, 0.78, 1.0)
"""Colour where nothing is hit."""


class Painter(Protocol):
    """Draws one model from several of its cameras at once. Implementations: `physics.render`, `physics.raster`.

    Owned by one thread. A picture depends on the model and the state alone: bitwise the same in any process on one kind of
    processor, whatever was drawn before.
    """

    def draw(
        self,
        data: mujoco.MjData,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        geoms: NDArray[np.int32] | None = None,
    ) -> None:
        """Writes what the cameras see in the state `data`.

        Args:
            data: A state of the model; derived poses in it are brought up to date, which no later step notices.
            rgb: Filled with the pictures, uint8 [C, h, w, 3].
            depth: Filled, when given, with the distance along each camera's axis [m], float32 [C, h, w]; 0 where nothing is hit.
            geoms: Filled, when given, with the geom that each pixel shows, int32 [C, h, w]; -1 where nothing is hit.
        """
        ...


PAINTERS: Registry[Callable[..., Painter]] = Registry(
    "painter",
    "embodichain.painters",
    {"raycast": "embodichain.physics.render:Renderer", "raster": "embodichain.physics.raster.rasteriser:Rasteriser"},
)
"""Every painter by name: its class, made with `model`, `width`, `height`, `cameras`, `shadows` and `samples`."""
