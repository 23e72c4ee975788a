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


WARM_UP: dict[str, str] = {"mujoco": "embodichain.physics.render:warm_up"}
"""What to call once on a machine before workers start, by the name of the physics: compiles what each would compile for itself."""


def warm_up(name: str) -> None:
    """Compiles whatever the physics called `name` compiles, once for all processes on this machine; does nothing for the others."""
    if name in WARM_UP:
        module, _, attribute = WARM_UP[name].partition(":")
        getattr(import_module(module), attribute)()


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
