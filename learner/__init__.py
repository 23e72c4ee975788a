"""The learner: encodes the streamed frames, trains the world model and judges the policy in closed loop.

A public name has one path, the module that defines it; each room is imported when it is first used.
"""

from __future__ import annotations

__all__ = [
    "backbone",
    "codecs",
    "commands",
    "data",
    "evaluation",
    "inference",
    "memory",
    "models",
    "records",
    "reporting",
    "runs",
    "serving",
    "training",
    "vision",
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
    return list(__all__)
