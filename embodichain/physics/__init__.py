"""Physics: worlds that hold one scene at a time and are stepped by commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from embodichain.errors import ConfigError
from embodichain.physics.painters import DEFAULT
from embodichain.registry import Registry

if TYPE_CHECKING:
    from embodichain.protocols import BatchPhysics, Physics

Thing = TypeVar("Thing")

__all__ = ["BATCHES", "PHYSICS", "check", "check_drawn_later", "make", "make_batch", "warm_up"]

PHYSICS: Registry[Callable[..., Physics]] = Registry(
    "physics",
    "embodichain.physics",
    {
        "mujoco": "embodichain.physics.mujoco:MujocoPhysics",
        "counting": "embodichain.physics.counting:CountingPhysics",
        "metaworld": "embodichain.physics.foreign.physics:MetaWorldPhysics",
        "robosuite": "embodichain.physics.foreign.physics:RobosuitePhysics",
    },
)
"""Every physics by name: its class. A static method `warm_up` of it is called once on a machine before workers start."""


BATCHES: Registry[Callable[..., BatchPhysics]] = Registry(
    "batch of worlds", "embodichain.batches", {"mujoco": "embodichain.physics.many:Many"}
)
"""By the name of a physics, many worlds of it that are stepped together; not every physics has such."""


def warm_up(name: str) -> None:
    """Compiles whatever a physics compiles, once for all processes on this machine: its class's `warm_up`, where it has one."""
    compile_all = getattr(PHYSICS.get(name), "warm_up", None)
    if compile_all is not None:
        compile_all()


def check(name: str) -> None:
    """Raises ConfigError naming what is available when there is no physics called `name`."""
    PHYSICS.check(name)


def make_batch(name: str, *, num_worlds: int, painter: str = DEFAULT, **kwargs: Any) -> BatchPhysics:
    """Many worlds of a physics by name, as `make` makes one.

    Raises ConfigError naming those that there are when it has none, and for a painter that it has no use for.
    """
    return _made(name, BATCHES.get(name), painter, num_worlds=num_worlds, **kwargs)


def check_drawn_later(name: str) -> None:
    """Raises ConfigError for a batch of worlds whose pictures must be taken at once."""
    if getattr(BATCHES.get(name), "drawn_at_once", False):
        raise ConfigError(
            f"pictures of physics {name!r} are taken at once, and a crew has them drawn later: choose engine serial or ray"
        )


def make(name: str, *, painter: str = DEFAULT, **kwargs: Any) -> Physics:
    """A physics by name; `kwargs` go to its class (`robot`, `width`, `height`, ...), and `painter` where it is not the default.

    Raises ConfigError naming what is available when there is none, and for a painter that the physics has no use for.
    """
    return _made(name, PHYSICS.get(name), painter, **kwargs)


def _made(name: str, made: Callable[..., Thing], painter: str, **kwargs: Any) -> Thing:
    if painter == DEFAULT:
        return made(**kwargs)
    if "painter" not in inspect.signature(made).parameters:
        raise ConfigError(
            f"physics {name!r} lets nobody choose who draws its pictures, got painter={painter!r}; "
            f"choose painter={DEFAULT!r}, or physics='mujoco'"
        )
    return made(painter=painter, **kwargs)
