"""A run's static data set: from the folder that its configuration names to a source of batches, alone or beside the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodichain import robots
from embodichain.engine import EngineReport, Start
from embodichain.errors import ConfigError
from embodichain.ring.contract import AnyRing
from embodichain.types import Robot
from embodichain.world import World
from learner.data.static import Mixture, StaticSet
from learner.runs.config import RunConfig

if TYPE_CHECKING:
    from embodichain.exchange.lerobot_reader import LeRobotFolder

__all__ = ["NoEngine", "check_static", "open_mixture"]


class NoEngine:
    """Produces nothing, for a run that learns from a static set alone; implements `engine.AnyEngine`."""

    poll_s = 0.0
    exhausted = True
    workers = 0
    health = "nothing is simulated: the data set is static"

    def __init__(self, start: Start) -> None:
        self.report: EngineReport = start.report

    def state(self) -> dict[str, Any]:
        """What the next life of the run goes on from."""
        return {"next_number": 0, "unfinished": [], "report": self.report.plain()}

    def feed(self) -> None:
        """There is nobody to feed."""

    def check(self) -> None:
        """Nothing can fail."""

    def tell(self, unique_pairs: float) -> None:
        """There is nobody to produce more, or less."""

    def __enter__(self) -> NoEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing to end."""


def check_static(config: RunConfig) -> None:
    """Raises ConfigError for a folder that cannot be read as experience of the run's robot, before anything long has begun."""
    if config.static.folder:
        _folder(config, robots.get(config.world.robot))


def _folder(config: RunConfig, robot: Robot) -> LeRobotFolder:
    from embodichain.exchange.lerobot_reader import LeRobotFolder  # brings pyarrow, which other runs need not have
    from embodichain.exchange.mapping import Correspondence, load

    static = config.static
    mapping = load(Path(static.mapping)) if static.mapping else Correspondence()
    return LeRobotFolder(Path(static.folder), robot, config.world.trajectory_spec(robot), mapping)


def open_mixture(
    world: World, config: RunConfig, ring: AnyRing, state: Mapping[str, Any], say: Callable[[str], None]
) -> Mixture | None:
    """The run's source of batches when it has a static set, as the checkpoint's `state` left it; None for the ring alone.

    Raises ConfigError for a folder that cannot be read as this world's experience, or that holds less than the run will read.
    """
    static = config.static
    if not static.folder:
        return None
    folder = _folder(config, world.robot)
    numbers = range(min(folder.num_episodes, static.episodes or folder.num_episodes))
    ids = [folder.trajectory_id(number) for number in numbers]
    found = StaticSet(ids, _encoded(world, folder), config.ring.max_reads)
    mixture = Mixture(ring, found, static.share)
    mixture.restore(state)
    batch = config.learner.data.batch_size
    ahead = max(config.train.steps - int(state.get("leases", 0)), 0)
    measured = 0 if state else config.learner.measure_batches  # what the normaliser is measured on is read as well
    needed = int(np.ceil((ahead + measured) * batch * static.share))
    if static.share >= 1.0 and (len(ids) < batch or found.reads_left < needed):
        remedy = (
            f"lower learner.data.batch_size to {len(ids)}"
            if len(ids) < batch
            else f"raise --max-reads to {-(-needed // len(ids))}, lower --steps to {found.reads_left // batch}, or add episodes"
        )
        raise ConfigError(
            f"{len(ids)} episodes of {static.folder} may be read {found.reads_left} times under K = {config.ring.max_reads}; "
            f"{ahead} steps of {batch} different ones read {needed}: {remedy}"
        )
    if found.reads_left < needed:
        say(
            f"the {len(ids)} static episodes last for {found.reads_left / (batch * static.share):.0f} of {ahead} steps under "
            f"K = {config.ring.max_reads}; after them the stream goes on alone"
        )
    return mixture


def _encoded(world: World, folder: LeRobotFolder) -> Callable[[int], Mapping[str, NDArray]]:
    """Loads episodes as the stream carries them: encoded once, where workers encode."""
    if not world.config.encode.factory:
        return folder.episode
    encoder = world.config.encode.make()

    def load_encoded(number: int) -> Mapping[str, NDArray]:
        arrays = folder.episode(number)
        latents = encoder.encode(arrays.pop("rgb"))
        return arrays | {"latents": latents}

    return load_encoded
