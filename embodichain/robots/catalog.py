"""Names of robots, and the conversion of a name or a path into a Robot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from embodichain.errors import RobotError
from embodichain.registry import Registry

if TYPE_CHECKING:
    from embodichain.types import Robot

ROBOTS: Registry[Callable[[], Robot]] = Registry(
    "robot",
    "embodichain.robots",
    {
        "dual_piper": "embodichain.robots.piper:dual_piper",
        "metaworld": "embodichain.robots.benchmarks:metaworld",
        "robosuite": "embodichain.robots.benchmarks:robosuite",
    },
    "or the path of an MJCF file, of a YAML description of a dual-arm, or package.module:function",
)
"""Every robot by name: the function that returns it."""


def check(name_or_path: str | Path) -> None:
    """Raises ConfigError when there is no robot of that name, RobotError when there is no such file. Reads and imports nothing."""
    if is_path(name_or_path):
        if not Path(name_or_path).is_file():
            raise RobotError(
                f"no robot file {str(name_or_path)!r}; give an MJCF file, a YAML description, or one of {', '.join(ROBOTS)}"
            )
    else:
        ROBOTS.check(str(name_or_path))


def is_path(name_or_path: str | Path) -> bool:
    """Whether this is the path of a robot's file: a Path, or text that contains a slash or has the ending of such a file."""
    text = str(name_or_path)
    return isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml", ".xml", ".mjcf", ".urdf"))


def get(name_or_path: str | Path) -> Robot:
    """The robot of that name in ROBOTS, or the one that an MJCF or URDF file describes (any text with a slash or such an ending).

    A file that ends in .yaml or .yml describes a dual-arm made of two such files (see `robots.assemble`); "package.module:function"
    names a function that returns a Robot. Raises ConfigError naming the robots that exist; RobotError when the file cannot be used.
    """
    if not is_path(name_or_path):
        from embodichain.types import Robot  # with NumPy, which a name alone does not need

        return ROBOTS.call(str(name_or_path), Robot)
    if str(name_or_path).endswith((".yaml", ".yml")):
        from embodichain.robots.assemble import load_description

        return load_description(name_or_path)
    from embodichain.robots.mjcf import load_mjcf

    return load_mjcf(name_or_path)
