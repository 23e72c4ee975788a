"""What goes on at a ring while a learner reads it: patience with an engine that has nothing ready, metrics, requests, the end."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from embodichain.engine import AnyEngine, EngineReport
from embodichain.errors import StreamStopped
from embodichain.metrics import MetricsWriter
from embodichain.progress import Board
from embodichain.ring.contract import AnyRing
from learner.records.files import write_whole
from learner.runs.config import RunConfig
from learner.runs.held_out_loss import MeasuredLoss
from learner.runs.wishes import Wishes

__all__ = ["StepCallback", "WaitCallback", "keep_instances"]

_STREAM_EVERY_S = 2.0
_TELL_EVERY_S = 10.0
_TOLD_STEPS = 50
"""Number of steps over which the E reported to the engine is averaged."""


class WaitCallback:
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


def ends_with_stream(config: RunConfig) -> bool:
    """Whether a run ends when its limited stream is read empty, and not with its last step: progress is counted in what ends it."""
    reads = config.stream.limit * config.ring.max_reads
    return 0 < reads < config.train.steps * config.learner.data.batch_size * config.train.ranks * config.train.nodes


class StepCallback:
    """Called after every training step: writes metrics, updates the progress bar, checks whether to stop."""

    def __init__(
        self,
        config: RunConfig,
        ring: AnyRing,
        engine: AnyEngine,
        metrics: MetricsWriter,
        board: Board,
        stopped: Callable[[], bool],
        patience: WaitCallback,
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
        done, total = (published, self._config.stream.limit) if ends_with_stream(self._config) else (step, self._config.train.steps)
        self._board.update("stream and learn", done, total, f"step {step}, loss {values['loss']:.3f}, {published} trajectories")
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
