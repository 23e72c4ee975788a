"""Any MJCF file as a robot: its arms, grippers, home and cameras are derived from what the file holds."""

from __future__ import annotations

from pathlib import Path

from embodichain.errors import RobotError
from embodichain.types import Robot


def load_mjcf(path: str | Path) -> Robot:
    """The robot that the MJCF file at `path` describes."""
    path = Path(path)
    if not path.is_file():
        raise RobotError(f"no robot file at {path}")
    raise RobotError(f"{path}: reading a robot from a file arrives with the next change")
