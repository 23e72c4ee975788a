"""Names of robots, and how a name or a path becomes a Robot."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from embodichain.errors import unknown
from embodichain.robots.assemble import load_description
from embodichain.robots.mjcf import load_mjcf
from embodichain.types import Robot

ROBOTS: dict[str, str] = {"dual_piper": "embodichain.robots.piper:dual_piper"}
"""Name of a robot → "module:function" that returns it."""


def get(name_or_path: str | Path) -> Robot:
    """The robot of that name in ROBOTS, or the one described by an MJCF file (anything with a slash or ending in .xml / .mjcf).

    A file that ends in .yaml or .yml describes a dual-arm from two such files (see `robots.assemble`).

    Raises ConfigError naming the robots that exist; RobotError when the file cannot be used.
    """
    text = str(name_or_path)
    if text in ROBOTS:
        module, function = ROBOTS[text].split(":")
        return getattr(import_module(module), function)()
    if text.endswith((".yaml", ".yml")):
        return load_description(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".xml", ".mjcf")):
        return load_mjcf(name_or_path)
    raise unknown("robot", text, ROBOTS, "or the path of an MJCF file, or of a YAML description of a dual-arm")
