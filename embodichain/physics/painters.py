"""The painters by name, as in the configuration of a world and in policy files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from embodichain.registry import Registry

if TYPE_CHECKING:
    from embodichain.physics.painter import Painter

__all__ = ["DEFAULT", "PAINTERS", "RAYCAST", "warm_up"]

RAYCAST = "raycast"
"""The ray caster. Older files without a painter used it; it also renders thumbnails, portraits and films."""
DEFAULT = "raster"
"""The rasteriser: it draws the pictures of a stream unless the configuration names another painter."""

PAINTERS: Registry[Callable[..., Painter]] = Registry(
    "painter",
    "embodichain.painters",
    {
        RAYCAST: "embodichain.physics.render:Renderer",
        DEFAULT: "embodichain.physics.raster.rasteriser:Rasteriser",
        "raster-2x2": "embodichain.physics.raster.rasteriser:FineRasteriser",
    },
)
"""Painter classes by name; arguments are `model`, `width`, `height`, `cameras`, `shadows` and `samples`. If a class has a static
method `warm_up`, it is called once on each machine before workers start."""


def warm_up(name: str) -> None:
    """Compiles what a painter needs, once for all processes on this machine, by calling its class's `warm_up` if it has one."""
    compile_all = getattr(PAINTERS.get(name), "warm_up", None)
    if compile_all is not None:
        compile_all()
