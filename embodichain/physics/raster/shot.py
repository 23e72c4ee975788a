"""A shot: a copy of everything that determines the pictures of some frames of a scene, for a painter on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.physics.film import Exposure
from embodichain.physics.raster.rasteriser import Rasteriser
from embodichain.physics.raster.views import CameraViews, Lamps, no_lamps, no_views

__all__ = ["Shooting", "Shot"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """F frames of one scene. Later changes of the model do not affect it, so it can be drawn at any time."""

    painter: Rasteriser
    """The rasteriser that would draw it on the CPU; it owns the shapes, the textures and the size of the pictures."""
    views: CameraViews
    lamps: Lamps
    exposures: Sequence[Exposure]
    """Exposure and noise of each frame, [F]."""
    labels: NDArray[np.uint8]
    """The segmentation label of each visible geom, [G]."""
    paint: NDArray[np.float32]
    """As in `parts.Skins`."""
    surface: NDArray[np.float32]
    """As in `parts.Skins`."""
    ambient: NDArray[np.float32]
    """As in `parts.Lights`."""
    head: NDArray[np.float32]
    """As in `parts.Lights`."""


class Shooting:
    """Collects the frames of a shot one by one."""

    def __init__(self, painter: Rasteriser, num_frames: int, labels: NDArray[np.uint8]) -> None:
        """`labels` holds the segmentation labels of all geoms of the model."""
        cameras, height, width, _ = painter.shape
        geoms, lights = len(painter.solids.geoms), len(painter.lights.texel)
        self._painter, self._labels = painter, labels
        self._views = no_views(num_frames * cameras, geoms, lights, height, width)
        self._lamps = no_lamps(num_frames, geoms, lights)
        self._exposures: list[Exposure] = []

    def take(self, data: mujoco.MjData, exposure: Exposure) -> None:
        """Adds the frame in the state `data`."""
        self._painter.place(data, len(self._exposures), self._views, self._lamps)
        self._exposures.append(exposure)

    def finished(self) -> Shot:
        """The complete shot."""
        skins, lights = self._painter.skins, self._painter.lights
        return Shot(
            painter=self._painter,
            views=self._views,
            lamps=self._lamps,
            exposures=tuple(self._exposures),
            labels=self._labels[self._painter.solids.geoms],
            paint=skins.paint.copy(),
            surface=skins.surface.copy(),
            ambient=lights.ambient.copy(),
            head=lights.head.copy(),
        )
