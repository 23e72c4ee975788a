"""Serves policies over websockets, for robots in other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.serving.budget import RequestError
    from learner.serving.config import ServeConfig
    from learner.serving.server import PolicyServer, embodiment
    from learner.serving.sessions import Embodiment

__all__ = [
    "Embodiment",
    "PolicyServer",
    "RequestError",
    "ServeConfig",
    "embodiment",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["ServeConfig"], "config")
    | dict.fromkeys(["PolicyServer", "embodiment"], "server")
    | dict.fromkeys(["Embodiment"], "sessions")
    | dict.fromkeys(["RequestError"], "budget"),
)
