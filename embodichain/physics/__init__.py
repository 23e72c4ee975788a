"""Physics engines: each world holds one scene at a time and is stepped by commands."""

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

__all__ = ["BATCHES", "PHYSICS", "beside", "check", "check_drawn_later", "make", "make_batch", "warm_up"]

PHYSICS: Registry[Callable[..., Physics]] = Registry(
    "physics",
    "embodichain.physics",
    {
        "mujoco": "embodichain.physics.mujoco:MujocoPhysics",
        "mujoco_warp": "embodichain.physics.warp.worlds:WarpWorld",
        "counting": "embodichain.physics.counting:CountingPhysics",
        "metaworld": "embodichain.physics.foreign.physics:MetaWorldPhysics",
        "robosuite": "embodichain.physics.foreign.physics:RobosuitePhysics",
    },
)
"""Physics classes by name. If a class has a static method `warm_up`, it is called once on each machine before workers start."""


BATCHES: Registry[Callable[..., BatchPhysics]] = Registry(
    "batch of worlds",
    "embodichain.batches",
    {"mujoco": "embodichain.physics.many:Many", "mujoco_warp": "embodichain.physics.warp.worlds:WarpWorlds"},
)
"""Batch classes, which step many worlds together, by the name of a physics; not every physics has one."""


def warm_up(name: str) -> None:
    """Compiles what a physics needs, once for all processes on this machine, by calling its class's `warm_up` if it has one."""
    compile_all = getattr(PHYSICS.get(name), "warm_up", None)
    if compile_all is not None:
        compile_all()


def check(name: str) -> None:
    """Raises ConfigError, listing those there are, when there is no physics called `name`."""
    PHYSICS.check(name)


def make_batch(name: str, *, num_worlds: int, painter: str = DEFAULT, **kwargs: Any) -> BatchPhysics:
    """Makes a batch of worlds of the named physics; otherwise as `make`.

    Raises ConfigError if that physics has no batch class, or does not support the painter.
    """
    return _made(name, BATCHES.get(name), painter, num_worlds=num_worlds, **kwargs)


def check_drawn_later(name: str) -> None:
    """Raises ConfigError for a batch whose pictures cannot be drawn later from reels."""
    if getattr(BATCHES.get(name), "drawn_at_once", False):
        raise ConfigError(
            f"pictures of physics {name!r} are taken at once, and a crew has them drawn later: choose engine serial or ray"
        )


def beside(name: str) -> str:
    """The physics in which scenes of the named one settle, and in which a crew draws what that has stepped.

    That is the physics itself, unless its class names another one as `beside`: one that is quick for a single world. So a scene is
    the same whether a crew or a single loop plays it.
    """
    return getattr(PHYSICS.get(name), "beside", name)


def make(name: str, *, painter: str = DEFAULT, **kwargs: Any) -> Physics:
    """Makes the physics called `name`; `kwargs` go to its class (`robot`, `width`, `height`, ...), also `painter` unless default.

    Raises ConfigError, listing those there are, for an unknown name, and for a painter that the physics does not support.
    """
    return _made(name, PHYSICS.get(name), painter, **kwargs)


def _made(name: str, made: Callable[..., Thing], painter: str, **kwargs: Any) -> Thing:
    try:
        inspect.signature(made).bind(**kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"physics {name!r} is none: it cannot be made from {', '.join(kwargs)} ({error})") from error
    if painter == DEFAULT:
        return made(**kwargs)
    if "painter" not in inspect.signature(made).parameters:
        raise ConfigError(
            f"physics {name!r} lets nobody choose who draws its pictures, got painter={painter!r}; "
            f"choose painter={DEFAULT!r}, or physics='mujoco'"
        )
    return made(painter=painter, **kwargs)
