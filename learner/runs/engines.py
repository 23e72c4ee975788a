"""Who produces: an engine in this process, or workers on Ray."""

from __future__ import annotations

from embodichain.engine import AnyEngine, Engine
from embodichain.progress import Board
from embodichain.ring.contract import AnyRing
from embodichain.world import World
from learner.runs.config import StreamConfig


def open_engine(world: World, ring: AnyRing, config: StreamConfig, board: Board, *, first: int) -> AnyEngine:
    """The configured engine, producing from scene number `first` on."""
    limit = config.limit or None
    if config.engine == "serial":
        return Engine(world, ring, first=first, limit=limit)
    from embodichain.ray_engine import RayConfig, RayEngine  # a serial run does not pay for Ray

    board.update("start workers", 0, config.workers)
    engine = RayEngine(world, ring, RayConfig(workers=config.workers, address=config.address), first=first, limit=limit)
    board.update("start workers", config.workers, config.workers)
    return engine
