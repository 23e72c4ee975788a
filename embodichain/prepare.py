"""From a configuration to a world: builds or loads everything that workers share."""

from __future__ import annotations

from embodichain import physics as physics_room
from embodichain import tasks
from embodichain.assets.chain.catalog import build_catalog
from embodichain.cache import cache_dir
from embodichain.config import WorldConfig
from embodichain.physics import painters
from embodichain.scenes.reach import ReachTable
from embodichain.world import Progress, World, check_names

__all__ = ["prepare"]


def _silent(what: str, done: int, total: int) -> None:
    """Shows no progress."""


def prepare(config: WorldConfig, progress: Progress = _silent) -> World:
    """Builds or loads everything that workers share: robot, assets and reachability table, the last two kept in `cache_dir()`.

    Of the catalogue only what the tasks ask for is built, unless there are distractors.

    Raises ConfigError or RobotError before anything long has begun, AssetError when an asset cannot be built.
    """
    robot, chosen = check_names(config)
    needed = tasks.categories(chosen)
    if not needed:
        physics_room.warm_up(config.physics)  # a benchmark that is not installed is missed before anything long has begun
        return World(config=config, robot=robot, assets=(), reach=None)
    everything = config.scenes.distractors > 0  # which may be of any category
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
    return World(config=config, robot=robot, assets=assets, reach=reach)
