"""Opens the static data set of a run as a source of batches, alone or mixed with the stream."""

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
    """An `engine.AnyEngine` that produces nothing, for runs that train on a static set alone."""

    poll_s = 0.0
    exhausted = True
    workers = 0
    health = "nothing is simulated: the data set is static"

    def __init__(self, start: Start) -> None:
        self.report: EngineReport = start.report

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"next_number": 0, "unfinished": [], "report": self.report.plain()}

    def feed(self) -> None:
        """Does nothing."""

    def check(self) -> None:
        """Does nothing, as nothing can fail."""

    def tell(self, unique_pairs: float) -> None:
        """Does nothing, as there are no workers to add or remove."""

    def __enter__(self) -> NoEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Does nothing."""


def check_static(config: RunConfig) -> str:
    """What there is to say of the run's static set; empty without one.

    Raises ConfigError for a folder that cannot be read as experience of the run's robot, before any long work begins.
    """
    return _described(_folder(config, robots.get(config.world.robot))) if config.static.folder else ""


def _described(folder: LeRobotFolder) -> str:
    short = f"; {folder.left_out} more are shorter than a chunk and left out" if folder.left_out else ""
    return f"{folder.num_episodes} static episodes in {folder.folder}{short}"


def _folder(config: RunConfig, robot: Robot) -> LeRobotFolder:
    from embodichain.exchange.lerobot_reader import LeRobotFolder  # imports pyarrow, which other runs do not need
    from embodichain.exchange.mapping import Correspondence, load

    static = config.static
    mapping = load(Path(static.mapping)) if static.mapping else Correspondence()
    return LeRobotFolder(Path(static.folder), robot, config.world.trajectory_spec(robot), mapping)


def open_mixture(
    world: World, config: RunConfig, ring: AnyRing, state: Mapping[str, Any], say: Callable[[str], None]
) -> Mixture | None:
    """The source of batches of a run with a static set, restored from the checkpoint's `state`; None for a run without one.

    Raises ConfigError for a folder that cannot be read as experience of this world, or that is too small for the reads of the run.
    """
    static = config.static
    if not static.folder:
        return None
    folder = _folder(config, world.robot)
    if folder.left_out:
        say(_described(folder))
    numbers = range(min(folder.num_episodes, static.episodes or folder.num_episodes))
    ids = [folder.trajectory_id(number) for number in numbers]
    found = StaticSet(ids, _encoded(world, folder), config.ring.max_reads)
    mixture = Mixture(ring, found, static.share)
    mixture.restore(state)
    batch = config.learner.data.batch_size
    learner = config.learner
    # A step is of `accumulate` batches, and the batches that measure the normaliser count as reads too.
    left = max(config.train.steps * learner.accumulate + learner.measure_batches - int(state.get("leases", 0)), 0)
    ahead = min(-(-left // learner.accumulate), config.train.steps)
    needed = int(np.ceil(left * batch * static.share))
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
    """Returns a loader of episodes that encodes them once if the stream's workers encode."""
    if not world.config.encode.factory:
        return folder.episode
    encoder = world.config.encode.make()

    def load_encoded(number: int) -> Mapping[str, NDArray]:
        arrays = folder.episode(number)
        latents = encoder.encode(arrays.pop("rgb"))
        return arrays | {"latents": latents}

    return load_encoded
