"""Several ranks on one machine: further learner processes on the same ring, which step and stop together with this one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed
from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

from embodichain.errors import LearnerError
from embodichain.physics import counting
from embodichain.processes import Child
from embodichain.ring.ledger import Ledger
from embodichain.ring.open import attach_ring
from embodichain.types import Robot
from learner.data.copies import locked_if_pinned
from learner.data.dataset import RingDataset
from learner.data.ranks import Ranks
from learner.records.run_folder import RunFolder
from learner.runs.config import RunConfig
from learner.runs.lives import book
from learner.runs.starts import begin_from
from learner.training.module import AgentModule, RingDataModule, fit

MEET_S = 120.0
"""How long ranks wait for each other at the start, while each imports its libraries [s]."""
LEAVE_S = 60.0
"""How long the first rank waits for the others to end after it [s]."""


@contextmanager
def companions(
    config: RunConfig, ring: Path, folder: RunFolder, robot: Robot, *, resume: bool
) -> Iterator[Callable[[], Ranks] | None]:
    """Starts the ranks 1, 2 ... of a run and ends them. Yields a function that joins this process to them as rank 0; None with one
    rank.

    The ranks draw from the ring at `ring`, write into the run's ledger, and stop when rank 0 does. They ignore Ctrl-C and SIGTERM,
    which a terminal or a scheduler sends to every process of a job, and which rank 0 handles for all.

    Raises LearnerError when one of them failed.
    """
    count = config.train.ranks
    if count == 1:
        yield None
        return
    meeting = folder.path / f".meeting-{os.getpid()}"
    meeting.unlink(missing_ok=True)
    environment = dict(os.environ)
    others = [
        Child(_learn, rank, config, ring, folder, robot, meeting, resume, name=f"learner rank {rank}") for rank in range(1, count)
    ]
    try:

        def join() -> Ranks:
            _await(others, meeting)
            return _join(0, count, meeting)

        try:
            yield join
        except RuntimeError as error:  # a rank that dies shows first as a broken connection
            others[0].join(1.0)
            _raise_for([other for other in others if not other.is_alive()], error)
            raise
        for other in others:
            other.join(LEAVE_S)
        _raise_for([other for other in others if other.exitcode != 0])
    finally:
        for other in others:
            other.kill()  # no effect on one that has ended; one that has not waits for this process in vain
            other.join()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(environment)
        meeting.unlink(missing_ok=True)


def _await(others: Sequence[Child], meeting: Path) -> None:
    """Waits until every other rank has imported its libraries; raises LearnerError when one dies or takes too long."""
    store, deadline = FileStore(str(meeting), len(others) + 1), time.monotonic() + MEET_S
    while not store.check([f"ready {rank}" for rank in range(1, len(others) + 1)]):
        _raise_for([other for other in others if not other.is_alive()])
        if time.monotonic() > deadline:
            raise LearnerError(f"the other {len(others)} ranks were not ready within {MEET_S:g} s: train with fewer")
        time.sleep(0.05)


def _raise_for(failed: Sequence[Child], cause: BaseException | None = None) -> None:
    if failed:
        names = ", ".join(f"{other.name} (exit {other.exitcode})" for other in failed)
        raise LearnerError(f"{names} did not end well: see its error above, or train with one rank") from cause


def _join(rank: int, count: int, meeting: Path) -> Ranks:
    """Joins the process group through a rendezvous file, and sets the environment variables from which Lightning takes its rank."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(count), "RANK": str(rank)}
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    store = FileStore(str(meeting), count)
    store.set(f"ready {rank}", "")
    try:
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timedelta(seconds=MEET_S))
    except RuntimeError as error:
        raise LearnerError(f"rank {rank} did not meet the other {count - 1} within {MEET_S:g} s: {error}") from error
    return Ranks()


def _learn(
    pipe: Connection, rank: int, config: RunConfig, path: Path, folder: RunFolder, robot: Robot, meeting: Path, resume: bool
) -> None:
    """The main function of ranks other than the first: they have no engine, write no metrics, and do not decide when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(config.learner.threads)
    learn_beside(_join(rank, config.train.ranks, meeting), rank, config, path, folder, robot, resume=resume)
    torch.distributed.destroy_process_group()


def learn_beside(
    ranks: Ranks,
    place: int,
    config: RunConfig,
    path: Path,
    folder: RunFolder,
    robot: Robot,
    *,
    resume: bool,
    states: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Learns from a ring that another process of this machine owns, in the place `place` among its ranks.

    `states` says how a checkpoint keeps the states of several rings, as `lives.all_rings` does.
    """
    with attach_ring(path) as ring, Ledger.open(folder.ledger) as ledger, locked_if_pinned(ring, config.ring.placement, place):
        dataset = RingDataset(
            ring,
            config.learner.data,
            record=partial(book, ledger),
            inspect=partial(counting.verify, robot=robot) if config.train.verify else None,
            ranks=ranks,
        )
        module = AgentModule(config.learner)
        if config.learner.start and not resume:
            begin_from(module.agent, config.learner.start)
        fit(
            module,
            RingDataModule(dataset, **states),
            steps=config.train.steps,
            clip=config.train.clip,
            checkpoint=folder.checkpoint,
            checkpoint_every=config.train.checkpoint_every,
            resume=resume,
            on_step=lambda step, values: False,
            ranks=ranks,
        )
