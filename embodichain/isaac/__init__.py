"""Isaac Sim as a physics: worlds in another interpreter, reached over a socket and shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from embodichain.isaac.worlds import Patience, Worlds, physics

__all__ = ["Patience", "Worlds", "physics"]

__getattr__, __dir__ = public(__name__, dict.fromkeys(["Patience", "Worlds", "physics"], "worlds"))
