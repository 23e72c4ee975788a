"""Painters by name. A world's configuration names one, and so does the record of a policy."""

from __future__ import annotations

from collections.abc import Callable

from embodichain.physics.painter import Painter
from embodichain.registry import Registry

__all__ = ["DEFAULT", "PAINTERS", "RAYCAST", "warm_up"]

RAYCAST = "raycast"
"""What drew every world before there was a choice, and draws thumbnails, portraits and films."""
DEFAULT = "raster"
"""What draws the pictures of a stream when nobody chooses."""

PAINTERS: Registry[Callable[..., Painter]] = Registry(
    "painter",
    "embodichain.painters",
    {
        RAYCAST: "embodichain.physics.render:Renderer",
        DEFAULT: "embodichain.physics.raster.rasteriser:Rasteriser",
        "raster-2x2": "embodichain.physics.raster.rasteriser:FineRasteriser",
    },
)
"""Every painter by name: its class, made with `model`, `width`, `height`, `cameras`, `shadows` and `samples`. A static method
`warm_up` of it is called once on a machine before workers start."""


def warm_up(name: str) -> None:
    """Compiles whatever a painter compiles, once for all processes on this machine: its class's `warm_up`, where it has one."""
    compile_all = getattr(PAINTERS.get(name), "warm_up", None)
    if compile_all is not None:
        compile_all()
