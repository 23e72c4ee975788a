"""Turns a configuration into a world: builds or loads everything that workers share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embodichain import physics as physics_room
from embodichain import tasks
from embodichain.assets.chain.catalog import build_catalog
from embodichain.assets.chain.pool import Demand, Pool
from embodichain.cache import cache_dir
from embodichain.config import WorldConfig
from embodichain.errors import RobotError
from embodichain.physics import painters
from embodichain.protocols import Task
from embodichain.scenes.coverage import beyond_reach, coverage
from embodichain.scenes.reach import ReachTable
from embodichain.types import Asset
from embodichain.world import Progress, World, check_names

__all__ = ["prepare"]

_DRAWS = 64
"""Number of requests drawn per task, as in `tasks.categories`."""


def _silent(what: str, done: int, total: int) -> None:
    """Shows no progress."""


def prepare(config: WorldConfig, progress: Progress = _silent) -> World:
    """Builds or loads everything that workers share: robot, assets and reachability table, the last two cached in `cache_dir()`.

    Only those assets of the catalogue are built that the tasks ask for, unless there are distractors; none where scenes are read
    from a folder. Instances of a pool are not
    built here, but when scenes need them.

    Raises ConfigError or RobotError before anything long has begun, AssetError when an asset cannot be built.
    """
    robot, chosen = check_names(config)
    needed = tasks.categories(chosen)
    if not needed:
        physics_room.warm_up(config.physics)  # reports a benchmark that is not installed before anything long has begun
        return World(config=config, robot=robot, assets=(), reach=None)
    everything = config.scenes.distractors > 0  # distractors may be of any category
    pool = _pool(config, chosen) if config.assets.pool.enabled else None
    assets: tuple[Asset, ...] = ()
    if config.scenes.folder:
        from embodichain.scenes.saved import SavedScenes  # with pxr, which sampled scenes do without

        saved = SavedScenes(Path(config.scenes.folder))
        saved.check((task.name for task in chosen), robot)
        assets = saved.assets()
    elif pool is None or everything:
        assets = build_catalog(
            config.assets.serving(needed, others=everything),
            cache_dir() / "assets",
            progress=lambda done, total, name: progress("assets", done, total),
        )
    progress("compile renderer", 0, 1)
    physics_room.warm_up(config.physics)
    painters.warm_up(config.painter)
    progress("compile renderer", 1, 1)
    reach = ReachTable.load_or_build(robot, cache_dir=cache_dir(), progress=lambda done, total: progress("reach", done, total))
    for task in chosen:
        if far := beyond_reach(coverage(task, robot, assets, reach.arms_reaching), robot):
            raise RobotError(f"robot {robot.name!r} cannot do task {task.name!r}: {'; '.join(far)}")
    return World(config=config, robot=robot, assets=assets, reach=reach, pool=pool)


def _pool(config: WorldConfig, chosen: Sequence[Task]) -> Pool:
    """The pool for the requests of these tasks; raises ConfigError when it could not serve them."""
    places: dict[str, list[int]] = {}
    reach: dict[str, set[str]] = {}
    ranked: dict[str, int] = {}
    for place, task in enumerate(chosen):
        for draw in range(_DRAWS):
            request = task.request(np.random.default_rng(draw))
            for wanted in request.objects:
                if place not in places.setdefault(wanted.category, []):
                    places[wanted.category].append(place)
                reach.setdefault(wanted.category, set()).update(wanted.reach)
                count = sum(other.category == wanted.category and other.role in request.ascending for other in request.objects)
                ranked[wanted.category] = max(ranked.get(wanted.category, 1), count)
    demands = [
        Demand(category=category, tasks=tuple(found), reach=frozenset(reach[category]), ranked=ranked[category])
        for category, found in sorted(places.items())
    ]
    return Pool(config.assets, demands, turns=len(chosen), folder=cache_dir() / "pool")
