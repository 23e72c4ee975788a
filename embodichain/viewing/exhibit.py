"""What there is to see of a thing, whatever it is and whatever shows it: parts on frames that move, sliders, a timeline."""

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
    """What kind of thing a part is; each kind is shown or hidden as a whole."""

    LOOKS = "looks"
    """What cameras see."""
    HULLS = "hulls"
    """What physics collides."""
    INERTIA = "inertia"
    """Solid ellipsoids with the masses and the moments of the bodies, and balls at their centres of mass."""
    GRASPS = "grasps"
    """Grippers where they were tried."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A mesh that hangs on a frame, in the coordinates of that frame [m]."""

    frame: str
    layer: Layer
    mesh: Mesh
    color: Color


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A joint to move, between two positions [rad or m]."""

    name: str
    lower: float
    upper: float
    start: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """An episode from its start to its end, T moments of it."""

    time_s: Floats
    """[T]."""
    poses: Floats
    """Position [m] and quaternion (w, x, y, z) of every frame of the exhibit, [T, F, 7]."""
    contacts: Sequence[Floats]
    """Where bodies touch [m], [n, 3] for each of the T moments."""
    notes: Sequence[str]
    """What the expert does, and what touches what, in Markdown, for each of the T moments."""
    cameras: tuple[str, ...] = ()
    pictures: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0, 1, 1, 3), np.uint8))
    """What the cameras recorded, [P, C, h, w, 3]."""
    shown: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    """Which of the P pictures is the latest at each of the T moments, [T]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exhibit:
    """All there is to see of one thing, in the world's frame: metres, Z up."""

    title: str
    facts: Mapping[str, str]
    """What is worth knowing, by name, in the order in which it is told."""
    parts: Sequence[Part]
    posed: Callable[[Mapping[str, float]], Mapping[str, Pose]]
    """The pose of every frame when the sliders stand at these positions."""
    sliders: Sequence[Slider] = ()
    around: Sequence[str] = ()
    """Frames that merely surround what there is to see."""
    timeline: Timeline | None = None

    @property
    def layers(self) -> list[Layer]:
        """The kinds of parts that there are."""
        return [layer for layer in Layer if any(part.layer is layer for part in self.parts)]

    def start(self) -> Mapping[str, Pose]:
        """The pose of every frame at first."""
        return self.posed({slider.name: slider.start for slider in self.sliders})
