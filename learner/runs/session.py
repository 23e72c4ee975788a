"""The streaming part of a run: a ring, an engine that fills it, a learner that reads it, and the figures of both.

On several learner nodes there is one of each on every node (`nodes`), and `Streamed` is made of the parts of all.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from embodichain.engine import WHOLE, AnyEngine, EngineReport, Share
from embodichain.errors import StreamStopped
from embodichain.metrics import MetricsWriter
from embodichain.physics import counting
from embodichain.progress import Board
from embodichain.ring.contract import AnyRing
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
from learner.runs.rank_processes import companions
from learner.runs.static import NoEngine, open_mixture
from learner.runs.wishes import Wishes
from learner.training.module import AgentModule, RingDataModule, check_resumable, fit, saved_stream_state

_STREAM_EVERY_S = 2.0
_TELL_EVERY_S = 10.0
_TOLD_STEPS = 50
"""Number of steps over which the E reported to the engine is averaged."""


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
class Part:
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
    `accepted` is called, once.

    Raises IntegrityError when `train.verify` is on and a trajectory was lost, duplicated, torn or read too often.
    """
    part = stream(world, config, folder, metrics, board, resume=resume, stopped=stopped, accepted=accepted)
    return proven(config, folder, [part])


def proven(config: RunConfig, folder: RunFolder, parts: Sequence[Part]) -> Streamed:
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
) -> Part:
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
        patience = _Patience(engine, ring, board, stopped)
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
        watch = _Watch(config, ring, engine, metrics, board, stopped, patience, measured, wishes)
        board.update("stream and learn", 0, config.stream.limit or config.train.steps, "filling the ring")
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
    return Part(
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


class _Patience:
    """Called repeatedly while the learner waits: lets the engine produce, and shows what the learner waits for."""

    def __init__(self, engine: AnyEngine, ring: AnyRing, board: Board, stopped: Callable[[], bool]) -> None:
        self._engine, self._ring, self._board, self._stopped = engine, ring, board, stopped
        self._since = self._told = time.monotonic()

    def rewarded(self) -> None:
        """Called when a batch has arrived, which ends the wait."""
        self._since = self._told = time.monotonic()

    def __call__(self) -> None:
        """Lets the engine work; raises when no more trajectories will come, and StreamStopped when the run is to stop."""
        if self._stopped():
            raise StreamStopped("stopped while the learner waited for trajectories")
        self._engine.feed()
        now = time.monotonic()
        if now - self._told > _TELL_EVERY_S:
            self._told = now
            ready = self._ring.stats().ready
            self._board.say(f"waiting for trajectories for {now - self._since:.0f} s: {self._engine.health}, {ready} are ready")


def keep_instances(report: EngineReport, folder: Path) -> None:
    """Writes down beside the run's assets whose each instance of the pool is that scenes drew: an export asks there by hash."""
    for known in report.instances.values():
        file = folder / known["name"] / f"{known['name']}.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps({name: value for name, value in known.items() if name != "scenes"}, indent=1))


class _Watch:
    """Called after every training step: writes metrics, updates the progress bar, checks whether to stop."""

    def __init__(
        self,
        config: RunConfig,
        ring: AnyRing,
        engine: AnyEngine,
        metrics: MetricsWriter,
        board: Board,
        stopped: Callable[[], bool],
        patience: _Patience,
        measured: MeasuredLoss | None,
        wishes: Wishes,
    ) -> None:
        self._config = config
        self._patience = patience
        self._ring = ring
        self._engine = engine
        self._metrics = metrics
        self._board = board
        self._stopped = stopped
        self._measured = measured
        self._wishes = wishes
        self._new_pairs: deque[float] = deque(maxlen=_TOLD_STEPS)
        self._next_stream = 0.0
        self._total_pairs = 0.0

    def step(self, step: int, values: Mapping[str, float]) -> bool:
        """Processes the values of one step; returns True to end the training."""
        self._patience.rewarded()
        self._engine.check()
        if "experience/total_pairs" in values:  # a step may be of several batches, and its values are those of the last
            total = values["experience/total_pairs"]
            self._new_pairs.append(total - self._total_pairs)
            self._total_pairs = total
        self._metrics.write("train", {"step": step, **{name.replace("/", "_"): value for name, value in values.items()}})
        if time.monotonic() >= self._next_stream:
            self._next_stream = time.monotonic() + _STREAM_EVERY_S
            self._wishes.look(step)
            if self._new_pairs:
                self._engine.tell(sum(self._new_pairs) / len(self._new_pairs))
            self.stream(step)
        if self._measured is not None:
            self._measured.after(step)
        published = self._engine.report.published
        done, total = (published, self._config.stream.limit) if self._config.stream.limit else (step, self._config.train.steps)
        self._board.update("stream and learn", done, total, f"loss {values['loss']:.3f}, {published} trajectories")
        return self._stopped()

    def stream(self, step: int) -> None:
        """Writes the ring's and the engine's state, and whose the instances are that scenes drew for the first time."""
        stats, report = self._ring.stats(), self._engine.report
        keep_instances(report, self._config.out / "assets")
        self._metrics.write(
            "stream",
            {
                "step": step,
                "ready": stats.ready,
                "writing": stats.writing,
                "published": report.published,
                "fates": dict(report.fates),
                "crashed": list(report.crashed),
                "workers": self._engine.workers,
                "reads": stats.acquired,
                "retired": stats.retired,
                "oldest_s": round(stats.oldest_s, 3),
                "deaths": dict(report.deaths),
                "instances": len(report.instances),
                "instances_most_scenes": report.most_scenes,
                "asset_deaths": dict(report.asset_deaths),
                "blocked_writer_s": stats.blocked_writer_s,
                "blocked_reader_s": stats.blocked_reader_s,
            },
        )
