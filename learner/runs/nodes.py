"""A run on several learner nodes: each has a ring of its own with a gateway and workers, and all learn the same weights.

Ray Train places the learners, one process for each rank. The first of a node owns the node's ring. A scene number belongs to one
ring, so that a trajectory is in one ring only, and K reads there are K reads in all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import torch
import torch.distributed

from embodichain.engine import Share
from embodichain.errors import RunError
from embodichain.metrics import MetricsWriter
from embodichain.progress import Board
from embodichain.world import World
from learner.data.ranks import Ranks
from learner.records.run_folder import RunFolder
from learner.runs.config import RunConfig
from learner.runs.lives import all_rings
from learner.runs.rank_processes import learn_beside
from learner.runs.session import Part, Streamed, Team, proven, stream


def stream_and_learn_on_nodes(
    world: World,
    config: RunConfig,
    folder: RunFolder,
    board: Board,
    *,
    resume: bool,
    stopped: Callable[[], bool],
    accepted: Callable[[], None] = lambda: None,
) -> Streamed:
    """As `session.stream_and_learn`, on `config.train.nodes` nodes of a Ray cluster, which all see the run's folder.

    `accepted` is called in the process of the first rank. Raises LearnerError, with the last checkpoint whole, when a node is lost.
    """
    from embodichain.ray_engine.learners import Learners, run_on_nodes  # imported here, so that other runs need not import Ray

    mark = folder.path / ".learners"
    mark.touch()
    try:
        parts = run_on_nodes(
            partial(_learn, config=config, folder=folder, resume=resume, accepted=accepted),
            world,
            Learners(
                nodes=config.train.nodes,
                ranks=config.train.ranks,
                cores=config.learner.threads,
                address=config.stream.address,
                storage=folder.path / "train",
            ),
            board,
            stopped,
        )
    finally:
        mark.unlink(missing_ok=True)
    return proven(config, folder, [part for part in parts if part is not None])


def _learn(
    world: World,
    node: int,
    place: int,
    board: Board,
    stopped: Callable[[], bool],
    *,
    config: RunConfig,
    folder: RunFolder,
    resume: bool,
    accepted: Callable[[], None],
) -> Part | None:
    """The learner at `place` among those of a node; what happened at the node's ring, of the one that owns it."""
    if not (folder.path / ".learners").exists():
        raise RunError(f"this learner node does not see the run folder {folder.path}: give --out on a file system that all share")
    torch.set_num_threads(config.learner.threads)
    try:
        ranks = Ranks(ring=node, rings=config.train.nodes)
        folder = RunFolder(path=folder.path, number=node)
        if place:
            return _beside(world, ranks, place, config, folder, resume=resume)
        team = Team(ranks=ranks, share=Share(index=node, of=config.train.nodes))
        accepted = accepted if node == 0 else lambda: None
        with closing(MetricsWriter(folder.metrics)) as metrics:
            return stream(world, config, folder, metrics, board, resume=resume, stopped=stopped, accepted=accepted, team=team)
    finally:
        torch.distributed.destroy_process_group()  # whoever waits for this one in a collective then learns that it has ended


def _beside(world: World, ranks: Ranks, place: int, config: RunConfig, folder: RunFolder, *, resume: bool) -> None:
    """A learner that reads the ring of the first one of its node."""
    if resume:
        ranks.exchange("")  # while those that own a ring begin its next life
    path = ranks.exchange("")[ranks.rank - place]
    states = all_rings(ranks.exchange, folder.number, owns=False)
    learn_beside(ranks, place, config, Path(path), folder, world.robot, resume=resume, states=states)
