"""Opens the configured engine: in this process, a crew for many worlds, or workers on Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from embodichain.crew_engine import CrewEngine
from embodichain.engine import WHOLE, AnyEngine, Engine, Share, Start
from embodichain.progress import Board
from embodichain.ray_engine.elastic import Elastic
from embodichain.ring.contract import AnyRing
from embodichain.world import World
from learner.runs.config import StreamConfig


def open_engine(
    world: World,
    ring: AnyRing,
    config: StreamConfig,
    board: Board,
    *,
    start: Start | None = None,
    log: Path | None = None,
    share: Share = WHOLE,
) -> AnyEngine:
    """Opens the configured engine, which produces from the first scene or from `start`; lost workers are recorded in `log`.

    With one ring of several, it makes that ring's `share` of the scenes with as large a share of the workers.
    """
    config = replace(config, workers=_part(config.workers, share), most_workers=_part(config.most_workers, share))
    limit = config.limit or None
    if config.engine == "serial":
        return Engine(world, ring, start=start, limit=limit, camera=config.camera)
    if config.engine == "crew":
        groups = 1 if config.workers % 2 else 2
        return CrewEngine(world, ring, num_worlds=config.worlds, members=config.workers, groups=groups, start=start, limit=limit)
    from embodichain.ray_engine.config import RayConfig
    from embodichain.ray_engine.engine import RayEngine  # imported here, so that serial runs need not import Ray

    board.update("start workers", 0, config.workers)
    spread = RayConfig(
        workers=config.workers,
        elastic=_elastic(config),
        address=config.address,
        cpus_per_worker=config.cpus_per_worker,
        budgets=config.budgets,
        hang_s=config.hang_s,
        together=config.deliver_together,
        camera=config.camera,
        darkroom=config.darkroom,
        log=log,
    )
    engine = RayEngine(world, ring, spread, start=start, limit=limit, share=share)
    board.update("start workers", config.workers, config.workers)
    return engine


def _part(workers: int, share: Share) -> int:
    """How many of the `workers` of a run are a ring's own: they differ by one at most."""
    return workers // share.of + (share.index < workers % share.of)


def _elastic(config: StreamConfig) -> Elastic | None:
    if not config.most_workers:
        return None
    return Elastic(least=config.workers, most=config.most_workers, target_pairs=config.target_pairs)
