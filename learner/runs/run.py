"""`embodichain run`: composes engine, ring and learner into one run, from configuration to report. The composition root."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from embodichain.errors import IntegrityError
from embodichain.metrics import MetricsWriter, PeakMemory
from embodichain.motion.action import ActionCodec
from embodichain.ring.layout import RingLayout
from embodichain.stages import World, check_names, prepare
from embodichain.types import ReplayMode
from learner.evaluation.episodes import Episode, PilotFactory, PolicyPilot, Score, as_rows, baselines, evaluate, expert
from learner.runs.options import RunOptions, as_plain, parse
from learner.reporting.pictures import save_film, save_strip, save_thumbnails
from learner.inference.policy import ClwmPolicy, load_agent
from learner.records.progress import Board
from learner.runs.recipes import RunConfig
from learner.reporting.report import write_report
from learner.records.run_folder import RunFolder, command_line
from learner.runs.session import Streamed, stream_and_learn


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for; 0 when all went well, 130 after Ctrl-C (the run can be resumed)."""
    options = parse(arguments)
    if options.dry_run:
        print(describe(options.config))
        return 0
    summary = run(options)
    print_summary(summary, as_json=options.json)
    return 130 if summary["interrupted"] else 0


def describe(config: RunConfig) -> str:
    """The resolved configuration and the memory its ring will take, as text."""
    robot, _ = check_names(config.world)
    spec = config.ring_spec(config.world.stream_spec(robot))
    needed = RingLayout.of(spec).total_bytes
    text = yaml.safe_dump(as_plain(config), sort_keys=False)
    return f"{text}\n# ring: {needed / 2**20:.0f} MiB of shared memory for {spec.num_slots} trajectories"


class Interrupt:
    """Turns the first Ctrl-C (or SIGTERM) inside `graceful()` into a flag that loops look at; the second one ends the program."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """Catches the signals until the block ends."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("stopping: saving checkpoint and report (again to stop at once)", file=sys.stderr)


def run(options: RunOptions) -> dict[str, Any]:
    """One whole run; returns its summary, which is also in the run folder with everything else."""
    config = options.config
    began = time.monotonic()
    folder = RunFolder.open(config.out) if options.resume else RunFolder.create(config.out)
    interrupt = Interrupt()
    with PeakMemory() as memory, Board() as board:
        world = prepare(config.world, board.update)
        copy_assets(world, folder.assets)
        folder.write_identity(as_plain(config), command_line())
        metrics = MetricsWriter(folder.metrics)
        try:
            with interrupt.graceful():
                streamed = stream_and_learn(world, config, folder, metrics, board, resume=options.resume, stopped=interrupt.asked)
                scores = [] if interrupt.requested else judge(world, config, folder, board, interrupt.asked)
                for row in as_rows(scores):
                    metrics.write("evaluate", row)
                save_thumbnails(world, folder.thumbnails)
        finally:
            metrics.close()
    summary = summarise(config, streamed, scores, wall_s=time.monotonic() - began, peak_bytes=memory.bytes)
    summary["interrupted"] = interrupt.requested
    folder.summary.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    summary["report"] = str(write_report(folder))
    if streamed.ledger.violations:
        raise IntegrityError(
            f"{len(streamed.ledger.violations)} trajectories were read more than {config.ring.max_reads} times; see {folder.ledger}"
        )
    return summary


def copy_assets(world: World, folder: Path) -> None:
    """Keeps what was simulated with the run: the folder of each asset, USD file and report."""
    for asset in world.assets:
        shutil.copytree(asset.path.parent, folder / asset.path.parent.name, dirs_exist_ok=True)


def judge(world: World, config: RunConfig, folder: RunFolder, board: Board, stopped: Callable[[], bool]) -> list[Score]:
    """Evaluates the trained policy beside expert and baselines, with a film of the expert and of the policy for each task."""
    if config.evaluate.episodes == 0:
        return []
    agent = load_agent(folder.checkpoint)
    codec = ActionCodec(world.robot)
    pilots: dict[str, PilotFactory] = {
        "policy": lambda task, scene, physics: PolicyPilot(ClwmPolicy(agent, seed=scene.seed & 0xFFFF), codec),
        **baselines(config.evaluate),
        "expert": expert,
    }

    def keep(episode: Episode) -> None:
        if episode.pilot in ("policy", "expert"):
            verdict = episode.outcome.verdict
            ending = "success" if verdict.success else f"failed: {verdict.reason}"
            name = f"{episode.pilot}_{episode.scene.task}"
            caption = f'{episode.pilot}: "{episode.scene.instruction}" ({ending})'
            save_film(folder.videos / f"{name}.mp4", world, episode.scene, episode.trajectory, caption)
            save_strip(folder.frames / f"{name}.png", episode.trajectory, caption)

    return evaluate(world, pilots, config.evaluate, progress=board.update, on_first=keep, stop=stopped)


def summarise(config: RunConfig, streamed: Streamed, scores: list[Score], *, wall_s: float, peak_bytes: int) -> dict[str, Any]:
    """The figures of a run as JSON values: what the report shows and `--json` prints."""
    engine, ledger, timings = streamed.engine, streamed.ledger, streamed.engine.timings
    parts = {
        "physics": timings.physics_s,
        "rendering": timings.render_s,
        "inverse kinematics": timings.pilot_s,
        "writing": timings.write_s,
        **({"encoding": timings.encode_s} if timings.encode_s else {}),
    }
    busy_s = sum(parts.values())
    return {
        "recipe": config.recipe,
        "seed": config.world.seed,
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "interrupted": False,
        "wall_s": round(wall_s, 1),
        "steps": streamed.steps,
        "new_steps": streamed.new_steps,
        "published": engine.published,
        "fates": dict(engine.fates),
        "attempts_by_task": dict(engine.attempts_by_task),
        "published_by_task": dict(engine.published_by_task),
        "reasons": dict(engine.reasons),
        "recovered": engine.recovered,
        "crashed": list(engine.crashed),
        "gateway_deaths": engine.gateway_deaths,
        "trajectories_per_s": engine.published / streamed.stream_s,
        "samples_per_s": streamed.samples / streamed.learn_s,
        "learner_wait_share": streamed.wait_s / streamed.learn_s,
        "unique_pairs_per_iteration": ledger.unique_pairs_per_iteration,
        "max_reads": config.ring.max_reads,
        "replay_mode": config.ring.mode.value,
        "reads": ledger.reads,
        "reads_histogram": {str(reads): count for reads, count in ledger.reads_histogram.items()},
        "bound_violations": len(ledger.violations),
        "age_p50_s": ledger.age_p50_s,
        "worker_shares": {name: seconds / busy_s if busy_s else 0.0 for name, seconds in parts.items()},
        "encoder_is_random": streamed.encoder_is_random,
        "num_parameters": streamed.num_parameters,
        "peak_memory_gib": peak_bytes / 2**30,
        "evaluation": as_rows(scores),
    }


def _bound(summary: dict[str, Any]) -> str:
    if summary["replay_mode"] == ReplayMode.AGGREGATE:
        most = max(map(int, summary["reads_histogram"]), default=0)
        return f"none for a trajectory: refilled after K = {summary['max_reads']} reads a slot on average; most read {most} times"
    return f"K = {summary['max_reads']}, {summary['bound_violations']} violations in {summary['reads']} reads"


def print_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    """The end of a run for people, or one JSON object on the last line for programs."""
    if as_json:
        print(json.dumps(summary))
        return
    console = Console(highlight=False)
    figures = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("trajectories", f"{summary['published']} published, {summary['recovered']} of them with a recovery"),
        ("throughput", f"{summary['trajectories_per_s']:.2f} trajectories/s, {summary['samples_per_s']:.1f} samples/s"),
        ("E", f"{summary['unique_pairs_per_iteration']:.1f} unique state-action pairs per iteration"),
        ("replay bound", _bound(summary)),
        ("learner waited", f"{summary['learner_wait_share']:.1%} of its time"),
        ("peak memory", f"{summary['peak_memory_gib']:.2f} GiB"),
        ("wall time", f"{summary['wall_s']:.0f} s"),
    ):
        figures.add_row(name, value)
    console.print(figures)
    if summary["evaluation"]:
        table = Table("pilot", "task", "success", "95% interval", "progress", title="closed loop, held-out scenes")
        for row in summary["evaluation"]:
            interval = f"{row['low']:.0%} to {row['high']:.0%}"
            table.add_row(row["pilot"], row["task"], f"{row['successes']}/{row['episodes']}", interval, f"{row['progress']:.2f}")
        console.print(table)
    console.print(f"report: {summary['report']}")
