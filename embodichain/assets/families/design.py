"""The result of a procedural family, exact solids with joints and affordances, and functions that many families use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from embodichain.types import Joint, JointKind, Mesh, Pose
from embodichain.types.poses import frame

Color = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SolidPart:
    """One body of a design: closed solids that may overlap, whose union is the body. See `parts.Part` for the other fields."""

    name: str
    pieces: tuple[Mesh, ...]
    material: str
    color: Color
    pose: Pose = field(default_factory=Pose)
    shell_thickness: float = 0.0
    mass: float | None = None
    seams: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """An instance of a family, exact and without mesh faults."""

    solids: tuple[SolidPart, ...]
    parameters: Mapping[str, float | str]
    joints: tuple[Joint, ...] = ()
    affordances: Mapping[str, tuple[str, Pose]] = field(default_factory=dict)


Family = Callable[[np.random.Generator], Design]

PALETTE: tuple[Color, ...] = (
    (0.80, 0.22, 0.20, 1.0),
    (0.20, 0.42, 0.75, 1.0),
    (0.24, 0.60, 0.34, 1.0),
    (0.93, 0.76, 0.26, 1.0),
    (0.90, 0.88, 0.84, 1.0),
    (0.45, 0.30, 0.58, 1.0),
    (0.92, 0.54, 0.24, 1.0),
)
WOODS: tuple[Color, ...] = ((0.76, 0.58, 0.38, 1.0), (0.62, 0.43, 0.26, 1.0), (0.45, 0.29, 0.18, 1.0), (0.84, 0.70, 0.50, 1.0))
STEEL: Color = (0.72, 0.73, 0.75, 1.0)


def down(x: float, y: float, z: float, closing: Sequence[float] = (0.0, 1.0, 0.0)) -> Pose:
    """The frame of a grasp from above at a point [m]."""
    return frame((x, y, z), (0.0, 0.0, -1.0), closing)


def tint(rng: np.random.Generator, palette: Sequence[Color] = PALETTE) -> Color:
    """A colour of the palette with a little variation."""
    red, green, blue, _ = palette[int(rng.integers(len(palette)))]
    shade = rng.uniform(0.85, 1.1)
    return (min(red * shade, 1.0), min(green * shade, 1.0), min(blue * shade, 1.0), 1.0)


def bolted(name: str) -> Joint:
    """The joint that fixes the body `name` to the surface on which the asset is placed."""
    return Joint(name="mount", kind=JointKind.FIXED, parent="", child=name)
