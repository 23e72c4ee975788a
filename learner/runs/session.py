"""The streaming part of a run: a ring, an engine that fills it, a learner that reads it, and the figures of both.

With several learner nodes there is one of each on every node, and `Streamed` is made of the parts of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed

from embodichain.engine import WHOLE, EngineReport, Share
from embodichain.metrics import MetricsWriter
from embodichain.physics import counting
from embodichain.progress import Board
from embodichain.ring.layout import RingLayout
from embodichain.ring.ledger import Ledger
from embodichain.ring.proof import LedgerReport, ledgers, verify
from embodichain.ring.stats import Observer
from embodichain.world import World
from learner.data.copies import locked_if_pinned
from learner.data.dataset import RingDataset
from learner.data.ranks import Ranks
from learner.records.files import write_whole
from learner.records.run_folder import RunFolder
from learner.runs.complete import check_complete, reads_by_trajectory
from learner.runs.config import RunConfig
from learner.runs.engines import open_engine
from learner.runs.held_out_loss import HeldOutLoss, MeasuredLoss
from learner.runs.lives import Testament, all_rings, begin, book
from learner.runs.nodes import check_shared, learn_on_nodes
from learner.runs.rank_processes import companions, learn_beside
from learner.runs.starts import begin_from
from learner.runs.static import NoEngine, open_mixture
from learner.runs.watching import StepCallback, WaitCallback, ends_with_stream
from learner.runs.wishes import Wishes
from learner.training.checkpoint_file import check_resumable, saved_stream_state
from learner.training.module import AgentModule, RingDataModule, fit


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """The result of streaming and training."""

    engine: EngineReport
    """Totals since the beginning of the run, including before resumes."""
    new_published: int
    """Trajectories published by this session."""
    ledger: LedgerReport
    steps: int
    """Training steps since the beginning of the run."""
    new_steps: int
    samples: int
    """Reads in this session by all ranks, including those that measured the normalizer."""
    wait_s: float
    stream_s: float
    """Time from the first scene to the last step [s]."""
    learn_s: float
    """Part of `stream_s` spent in the learner's loop [s]."""
    encoder_is_random: bool
    num_parameters: int
    slot_bytes: int
    """Size of a trajectory in the ring [B]."""


@dataclass(frozen=True, kw_only=True)
class RingPart:
    """What happened at one ring of a run, of whose numbers and workers it had a share."""

    engine: EngineReport
    """Totals since the beginning of the run, including before resumes."""
    new_published: int
    steps: int
    new_steps: int
    samples: int
    """Reads in this session by the ranks of this ring."""
    wait_s: float
    stream_s: float
    learn_s: float
    encoder_is_random: bool
    num_parameters: int
    slot_bytes: int
    complete: bool
    """Whether the stream has ended by itself."""
    left: Mapping[int, int]
    """Trajectories that were in the ring at its end: packed id → reads left. None with one ring, which is read empty."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """The learner processes of a run on several nodes, as one that owns a ring sees them."""

    ranks: Ranks
    share: Share


def stream_and_learn(
    world: World,
    config: RunConfig,
    folder: RunFolder,
    metrics: MetricsWriter,
    board: Board,
    *,
    resume: bool,
    stopped: Callable[[], bool],
    accepted: Callable[[], None] = lambda: None,
) -> Streamed:
    """Trains until `config.train.steps`, the end of a limited stream, or `stopped()`; saves a checkpoint and frees shared memory.

    Nothing of an earlier life is changed, in the ledger or elsewhere, before checkpoint, ring, engine and ranks are all there. Then
    `accepted` is called, once, in the process of the first rank.

    Raises IntegrityError when `train.verify` is on and a trajectory was lost, duplicated, torn or read too often.
    """
    if config.train.nodes == 1:
        parts = [stream(world, config, folder, metrics, board, resume=resume, stopped=stopped, accepted=accepted)]
    else:
        work = partial(learn_on_node, config=config, folder=folder, resume=resume, accepted=accepted)
        parts = [part for part in learn_on_nodes(work, world, config, folder, board, stopped) if part is not None]
    return proven(config, folder, parts)


def proven(config: RunConfig, folder: RunFolder, parts: Sequence[RingPart]) -> Streamed:
    """The result of a run from what happened at each of its rings; raises IntegrityError as `stream_and_learn` does."""
    first, *_ = parts
    book, *others = ledgers(folder.path)
    report = verify(book, beside=others)
    engine = EngineReport.together([part.engine for part in parts])
    if config.train.verify and any(part.complete for part in parts):  # the first ring that is read empty ends the run for all
        exactly = config.ring.max_reads if report.bounds == (config.trajectory_bound,) else None
        left = dict(report.given_up)
        for part in parts:
            left |= {packed: reads + left.get(packed, 0) for packed, reads in part.left.items()}
        check_complete(engine, reads_by_trajectory(book, *others), exactly, left)
    return Streamed(
        engine=engine,
        new_published=sum(part.new_published for part in parts),
        ledger=report,
        steps=first.steps,
        new_steps=first.new_steps,
        samples=sum(part.samples for part in parts),
        wait_s=first.wait_s,
        stream_s=first.stream_s,
        learn_s=first.learn_s,
        encoder_is_random=first.encoder_is_random,
        num_parameters=first.num_parameters,
        slot_bytes=first.slot_bytes,
    )


def stream(
    world: World,
    config: RunConfig,
    folder: RunFolder,
    metrics: MetricsWriter,
    board: Board,
    *,
    resume: bool,
    stopped: Callable[[], bool],
    accepted: Callable[[], None] = lambda: None,
    team: Team | None = None,
) -> RingPart:
    """Makes a ring, fills it and learns from it, as in `stream_and_learn`. With a `team`, several processes do so at once.

    The files are those of the ring (`folder.number`); only the first ring's process writes the checkpoint, and loggers' curves.
    """
    share = team.share if team is not None else WHOLE
    exchange = team.ranks.exchange if team is not None else lambda text: [text]
    left: dict[int, int] = {}
    state = saved_stream_state(folder.checkpoint) if resume else {}
    module = AgentModule(config.learner)
    if resume:
        check_resumable(module, folder.checkpoint)
    elif config.learner.start:
        begin_from(module.agent, config.learner.start)
    measure = HeldOutLoss(world, config, module) if config.train.measure_every and share.index == 0 else None
    with ExitStack() as stack:
        spec = config.ring_spec(world.stream_spec)
        life = begin(spec, config.ring.placement, folder, state, share=share, exchange=exchange)
        ring = stack.enter_context(life.ring)
        ledger = stack.enter_context(Ledger.open(folder.ledger))
        write_whole(folder.ring, str(ring.path))  # other processes, such as `embodichain top`, find the ring by this file
        stack.callback(folder.ring.unlink, missing_ok=True)
        stack.enter_context(locked_if_pinned(ring, config.ring.placement))
        mixture = open_mixture(world, config, ring, state, board.say)
        if team is not None:
            stack.callback(lambda: left.update(Observer.open(ring.path).ready()))  # once the engine publishes no more
        began, before = time.monotonic(), life.start.report.published
        engine = stack.enter_context(
            NoEngine(life.start)
            if mixture is not None and config.static.share >= 1.0
            else open_engine(world, ring, config.stream, board, start=life.start, log=folder.workers, share=share)
        )
        if team is None:
            join = stack.enter_context(companions(config, ring.path, folder, world.robot, resume=resume))
            ranks = join() if join is not None else None
        else:
            ranks = team.ranks
            ranks.exchange(str(ring.path))  # for the other ranks of this ring, which begin now
        patience = WaitCallback(engine, ring, board, stopped)
        dataset = RingDataset(
            ring if mixture is None else mixture,
            config.learner.data,
            on_starved=patience,
            exhausted=lambda: engine.exhausted,
            poll_s=engine.poll_s,
            record=partial(book, ledger),
            inspect=partial(counting.verify, robot=world.robot) if config.train.verify else None,
            ranks=ranks,
        )
        testament = Testament(life, engine, ledger, folder, most_bytes=config.ring.snapshot_mib << 20)
        data = RingDataModule(
            dataset,
            lambda: testament.state() | ({} if mixture is None else mixture.state()),
            **({} if team is None else all_rings(exchange, share.index)),
        )
        measured = MeasuredLoss(measure, metrics, folder) if measure is not None else None
        wishes = Wishes(folder, ring, ledger, metrics)
        watch = StepCallback(config, ring, engine, metrics, board, stopped, patience, measured, wishes)
        total = config.stream.limit if ends_with_stream(config) else config.train.steps
        board.update("stream and learn", 0, total, "filling the ring")
        accepted()
        ledger.bound(config.trajectory_bound)
        life.book(ledger)
        learning = time.monotonic()
        steps, new_steps = fit(
            module,
            data,
            steps=config.train.steps,
            clip=config.train.clip,
            checkpoint=folder.checkpoint,
            checkpoint_every=config.train.checkpoint_every,
            resume=resume,
            on_step=watch.step,
            ranks=ranks,
            logs=folder.logs if share.index == 0 else None,
        )
        engine.check()
        ended = time.monotonic()
        watch.stream(steps)
        slot_bytes = RingLayout.of(ring.spec).slot_bytes
        complete = engine.exhausted and not stopped()
    return RingPart(
        engine=engine.report,
        new_published=engine.report.published - before,
        steps=steps,
        new_steps=new_steps,
        samples=(dataset.samples - dataset.samples_before) * config.train.ranks,
        wait_s=dataset.wait_s,
        stream_s=ended - began,
        learn_s=ended - learning,
        encoder_is_random=module.agent.encoder.is_random,
        num_parameters=module.agent.num_trained_parameters,
        slot_bytes=slot_bytes,
        complete=complete,
        left=left,
    )


def learn_on_node(
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
) -> RingPart | None:
    """The learner at `place` among those of a node; what happened at the node's ring, of the one that owns it."""
    check_shared(folder)
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
