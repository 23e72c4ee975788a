"""A description of what to show, independent of the viewer: parts on moving frames, sliders, a timeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from embodichain.types import Mesh, Pose

Floats = NDArray[np.float64]
Color = tuple[float, float, float, float]
"""Red, green, blue and opacity, 0 to 1."""


class Layer(StrEnum):
    """Layers of parts, each of which can be shown or hidden."""

    LOOKS = "looks"
    """Visual geometry."""
    HULLS = "hulls"
    """Collision geometry."""
    INERTIA = "inertia"
    """Ellipsoids with the same mass and inertia as the bodies, and balls at their centres of mass."""
    GRASPS = "grasps"
    """Grippers at tested grasps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownMesh:
    """A mesh attached to a frame, in the coordinates of that frame [m]."""

    frame: str
    layer: Layer
    mesh: Mesh
    color: Color


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A movable joint with its limits [rad or m]."""

    name: str
    lower: float
    upper: float
    start: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """T moments of an episode."""

    time_s: Floats
    """Time of each moment [s], [T]."""
    poses: Floats
    """Position [m] and quaternion (w, x, y, z) of every frame of the exhibit, [T, F, 7]."""
    contacts: Sequence[Floats]
    """Contact points [m], [n, 3], for each of the T moments."""
    notes: Sequence[str]
    """Markdown text about the expert and contacts, for each of the T moments."""
    cameras: tuple[str, ...] = ()
    pictures: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0, 1, 1, 3), np.uint8))
    """Recorded pictures, [P, C, h, w, 3]."""
    shown: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    """Index of the latest picture at each of the T moments, [T]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exhibit:
    """Everything to show of one thing, in the world frame: metres, Z up."""

    title: str
    facts: Mapping[str, str]
    """Facts by name, in display order."""
    parts: Sequence[ShownMesh]
    posed: Callable[[Mapping[str, float]], Mapping[str, Pose]]
    """Returns the pose of every frame for given positions of the sliders."""
    sliders: Sequence[Slider] = ()
    around: Sequence[str] = ()
    """Frames of the surroundings, which do not count for the initial view."""
    timeline: Timeline | None = None

    @property
    def layers(self) -> list[Layer]:
        """The layers that have parts."""
        return [layer for layer in Layer if any(part.layer is layer for part in self.parts)]

    def start(self) -> Mapping[str, Pose]:
        """The initial pose of every frame."""
        return self.posed({slider.name: slider.start for slider in self.sliders})
