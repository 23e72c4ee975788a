"""EmbodiChain: a streaming engine that turns compute into fresh, bounded, physically valid robot experience.

Every room below is imported when it is first used: `import embodichain` alone costs nothing and needs no optional package. A public
name has one path, the room whose `__all__` lists it: `embodichain.prepare.prepare`, `embodichain.types.Scene`.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = [
    "assets",
    "cache",
    "command_line",
    "config",
    "engine",
    "episode",
    "errors",
    "expand",
    "export",
    "extras",
    "metrics",
    "motion",
    "physics",
    "prepare",
    "processes",
    "progress",
    "protocols",
    "ray_engine",
    "recovery",
    "registry",
    "ring",
    "robots",
    "rollout",
    "scenes",
    "stages",
    "tasks",
    "types",
    "world",
]


def __getattr__(name: str) -> object:
    """The room called `name`; raises MissingExtra when it needs a package that is not installed."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no room {name!r}; it has {', '.join(__all__)}")
    import importlib

    from embodichain.extras import explained

    with explained():
        return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
