"""Starts the learners of a run on several nodes: each node has a ring of its own with a gateway and workers.

Ray Train places the learners, one process for each rank. The first of a node owns the node's ring. A scene number belongs to one
ring, so that a trajectory is in one ring only, and K reads there are K reads in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from embodichain.errors import RunError
from embodichain.progress import Board
from embodichain.world import World
from learner.records.run_folder import RunFolder
from learner.runs.config import RunConfig

__all__ = ["check_shared", "learn_on_nodes"]

Result = TypeVar("Result")

_MARK = ".learners"
"""A file in the run's folder while it has learners: a node that does not see it does not see the folder."""


def learn_on_nodes(
    work: Callable[[World, int, int, Board, Callable[[], bool]], Result],
    world: World,
    config: RunConfig,
    folder: RunFolder,
    board: Board,
    stopped: Callable[[], bool],
) -> list[Result]:
    """Calls `work` in every learner, as `ray_engine.learners` does; returns what each returned, by rank."""
    from embodichain.ray_engine.learners import Learners, run_on_nodes  # imported here, so that other runs need not import Ray

    learners = Learners(
        nodes=config.train.nodes,
        ranks=config.train.ranks,
        cores=config.learner.threads,
        address=config.stream.address,
        storage=folder.path / "train",
    )
    mark = folder.path / _MARK
    mark.touch()
    try:
        return run_on_nodes(work, world, learners, board, stopped)
    finally:
        mark.unlink(missing_ok=True)


def check_shared(folder: RunFolder) -> None:
    """Raises RunError on a node that does not see the run's folder."""
    if not (folder.path / _MARK).exists():
        raise RunError(f"this learner node does not see the run folder {folder.path}: give --out on a file system that all share")
