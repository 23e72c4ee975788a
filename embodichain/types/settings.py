"""Settings: where a scene takes place, and what its surfaces are made of, as numbers of things that are made by procedure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "NUM_ENVIRONMENTS",
    "NUM_ROOMS",
    "NUM_TABLES",
    "NUM_TEXTURES",
    "NUM_VARIANTS",
    "OBJECT_KINDS",
    "Sensor",
    "Setting",
    "SurfaceFinish",
    "TextureKind",
]

NUM_ROOMS = 36
NUM_TABLES = 12
NUM_ENVIRONMENTS = 24
NUM_VARIANTS = 16
"""Textures of each kind."""


class TextureKind(StrEnum):
    """What a texture shows; a kind has `NUM_VARIANTS` textures."""

    PLANKS = "planks"
    VENEER = "veneer"
    PARQUET = "parquet"
    MARBLE = "marble"
    GRANITE = "granite"
    TERRAZZO = "terrazzo"
    TILES = "tiles"
    BRICK = "brick"
    CONCRETE = "concrete"
    PLASTER = "plaster"
    CARPET = "carpet"
    WEAVE = "weave"
    WALLPAPER = "wallpaper"
    LINOLEUM = "linoleum"
    BRUSHED = "brushed"
    SPECKLED = "speckled"
    KNITTED = "knitted"
    HAMMERED = "hammered"
    LEATHER = "leather"
    RIBBED = "ribbed"

    def numbers(self, variants: tuple[int, int] = (0, NUM_VARIANTS)) -> range:
        """The numbers of its textures among all, those of the variants from the first up to but without the second."""
        first = list(TextureKind).index(self) * NUM_VARIANTS
        return range(first + variants[0], first + variants[1])


NUM_TEXTURES = len(TextureKind) * NUM_VARIANTS
OBJECT_KINDS = (
    TextureKind.BRUSHED,
    TextureKind.SPECKLED,
    TextureKind.KNITTED,
    TextureKind.HAMMERED,
    TextureKind.LEATHER,
    TextureKind.RIBBED,
)
"""Kinds without a colour of their own, for objects that a sentence names by their colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceFinish:
    """How a surface reflects: strength of highlights (0..1), `roughness` (0..1, GGX's), and `metal`, the share (0..1) of metallic
    reflection, which takes the surface's colour in place of diffuse light.
    """

    specular: float = 0.5
    roughness: float = 0.5
    metal: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a scene takes place. Roles are those of objects, and "table", "legs", "floor", "walls", "ceiling" and "robot"."""

    room: int
    """Number of the room, below `NUM_ROOMS`; -1 for none: then the environment map is seen beyond the floor."""
    table: int
    """Number of the table's underframe, below `NUM_TABLES`."""
    height: float
    """Height of the table top above the floor [m]."""
    environment: int
    """Number of the environment map, below `NUM_ENVIRONMENTS`."""
    turn: float
    """Rotation of the map about the vertical [rad]: its brightest part then lies where the light comes from."""
    strength: float
    """Factor of the map's radiance."""
    softness: float
    """Tangent of the angular radius of the lights, which decides how soft their shadows are."""
    textures: Mapping[str, int] = field(default_factory=dict)
    """Number of the texture of a role, below `NUM_TEXTURES`; a role without one is plain."""
    colors: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Colour of parts of the room and of the robot."""
    finishes: Mapping[str, SurfaceFinish] = field(default_factory=dict)
    glass: Mapping[str, float] = field(default_factory=dict)
    """Opacity (0..1) of objects that can be seen through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """What real cameras add to a picture, beyond exposure and noise.

    `blur` is the standard deviation of the optics' blur [pixels]. `readout_s` [s] is how much later the last row is read than the
    first, while the camera turns. Depth errs by noise of standard deviation `depth_noise` [m] at 1 m, growing with the square of
    the distance, is rounded to `depth_step` [m] at 1 m, likewise growing, is missing (0) for a share `depth_holes` of the pixels at
    edges, and drifts by a factor with standard deviation `depth_drift`. `smooth` is how often the path of a shaking camera can be
    differentiated: 0 for a jagged path, 2 for one without jumps in acceleration.
    """

    blur: float = 0.0
    readout_s: float = 0.0
    depth_noise: float = 0.0
    depth_step: float = 0.0
    depth_holes: float = 0.0
    depth_drift: float = 0.0
    smooth: int = 0
