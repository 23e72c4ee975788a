"""Physics: worlds that hold one scene at a time and are stepped by commands."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from embodichain.errors import unknown
from embodichain.protocols import Physics

PHYSICS: dict[str, str] = {
    "mujoco": "embodichain.physics.mujoco:MujocoPhysics",
    "counting": "embodichain.physics.counting:CountingPhysics",
}
"""Name to import path: nothing is imported before it is asked for."""


def check(name: str) -> None:
    """Raises ConfigError naming what is available when there is no physics called `name`."""
    if name not in PHYSICS:
        raise unknown("physics", name, PHYSICS)


def make(name: str, **kwargs: Any) -> Physics:
    """A physics by name; `kwargs` go to its class (`robot`, `width`, `height`, ...).

    Raises ConfigError naming what is available when there is none.
    """
    check(name)
    module, _, attribute = PHYSICS[name].partition(":")
    return getattr(import_module(module), attribute)(**kwargs)
