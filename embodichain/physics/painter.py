"""The interface of painters, which render the pictures of a world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mujoco

BACKGROUND = (0.70, 0.74, 0.78, 1.0)
"""Colour where nothing is hit."""


class Painter(Protocol):
    """Draws one model from several of its cameras at once. Implementations: `physics.render`, `physics.raster`.

    For one thread. A picture depends only on the model and the state: it is bitwise the same in any process on the same kind of
    processor, whatever was drawn before.
    """

    def draw(
        self,
        data: mujoco.MjData,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        geoms: NDArray[np.int32] | None = None,
    ) -> None:
        """Renders the cameras in the state `data`.

        Args:
            data: A state of the model; derived poses in it are updated, which does not affect later steps.
            rgb: Filled with the pictures, uint8 [C, h, w, 3].
            depth: Filled, when given, with the distance along each camera's axis [m], float32 [C, h, w]; 0 where nothing is hit.
            geoms: Filled, when given, with the geom that each pixel shows, int32 [C, h, w]; -1 where nothing is hit.
        """
        ...
