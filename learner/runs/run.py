"""`embodichain run`: composes engine, ring and learner into one run, from configuration to report."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embodichain.errors import RunError
from embodichain.metrics import MetricsWriter, PeakMemory
from embodichain.motion.action import ActionCodec
from embodichain.prepare import prepare
from embodichain.progress import Board
from embodichain.types import WISHES_FILE
from embodichain.types.plain import as_plain
from embodichain.world import World
from learner.evaluation.episodes import PilotFactory, Played, PolicyPilot, Score, as_rows, baselines, evaluate, expert
from learner.inference.background import make_policy
from learner.inference.policy_file import load_agent
from learner.models.agent import Agent
from learner.records.files import held, write_whole
from learner.records.interrupt import Interrupt
from learner.records.run_folder import RunFolder, command_line
from learner.reporting.pictures import save_film, save_strip, save_thumbnails
from learner.reporting.report import write_report
from learner.runs.config import RunConfig
from learner.runs.locate import find
from learner.runs.options import RunOptions
from learner.runs.session import Streamed, stream_and_learn
from learner.runs.starts import begin_from
from learner.runs.static import check_static

_TOTALS = ("wall_s", "steps", "new_steps", "published", "reads", "interrupted")
"""Totals of a session in `sessions.jsonl`; steps, trajectories and reads are counted from the beginning of the run."""


def run(options: RunOptions) -> dict[str, Any]:
    """Makes one whole run; returns its summary, which is also saved in the run folder."""
    check_static(options.config)
    if options.config.learner.start and not options.resume:
        options = replace(options, config=_with_start_found(options.config))
    if options.config.train.nodes > 1:  # other machines have other working directories
        options = replace(options, config=replace(options.config, out=options.config.out.absolute()))
    folder = RunFolder.open(options.config.out) if options.resume else RunFolder.create(options.config.out)
    with held(folder.path):
        if not options.resume:
            folder.check_new()  # another run may have come and gone since
        return _run_in(folder, options)


def _with_start_found(config: RunConfig) -> RunConfig:
    """`config` with the file of the agent that `learner.start` names; raises before anything is made if none is there that fits."""
    start = find(Path(config.learner.start)).checkpoint.absolute()
    begin_from(Agent(config.learner.agent), start)
    return replace(config, learner=replace(config.learner, start=str(start)))


def _run_in(folder: RunFolder, options: RunOptions) -> dict[str, Any]:
    config = options.config
    began = time.monotonic()
    interrupt = Interrupt()
    with PeakMemory() as memory, Board() as board:
        world = prepare(config.world, board.update)
        copy_assets(world, folder.assets)

        command = command_line()

        def keep() -> None:
            folder.write_identity(as_plain(config), command)
            if options.states_bound:
                with suppress(OSError):
                    (folder.path / WISHES_FILE).unlink()

        if not options.resume:
            keep()
        folder.begin_session(command)
        metrics = MetricsWriter(folder.metrics)
        try:
            with interrupt.graceful():
                streamed = stream_and_learn(
                    world,
                    config,
                    folder,
                    metrics,
                    board,
                    resume=options.resume,
                    stopped=interrupt.asked,
                    accepted=keep if options.resume else lambda: None,  # a resume that is refused leaves the run as it was
                )
                scores = [] if interrupt.requested else judge(world, config, folder, board, interrupt.asked)
                for row in as_rows(scores):
                    metrics.write("evaluate", row)
                save_thumbnails(world, folder.thumbnails)
        finally:
            metrics.close()
    summary = summarise(config, streamed, scores, wall_s=time.monotonic() - began, peak_bytes=memory.bytes)
    summary["interrupted"] = interrupt.requested
    folder.end_session({name: summary[name] for name in _TOTALS})
    sessions = folder.earlier_sessions()
    summary["sessions"] = len(sessions)
    summary["wall_s_total"] = round(sum(session["wall_s"] for session in sessions), 1)
    write_whole(folder.summary, json.dumps(summary, indent=1))
    summary["report"] = str(write_report(folder))
    if streamed.ledger.reads:  # a run that was stopped before its first batch has no reads to check
        streamed.ledger.raise_on_violation()
    return summary


def copy_assets(world: World, folder: Path) -> None:
    """Copies the assets of the world into the run: the folder of each asset with its USD file and report.

    Raises RunError when they cannot be written.
    """
    for asset in world.assets:
        try:
            shutil.copytree(asset.path.parent, folder / asset.path.parent.name, dirs_exist_ok=True)
        except shutil.Error as error:  # of all the files that could not be copied, the first says why
            _, to, reason = error.args[0][0]
            raise RunError(f"cannot write {to}: {reason}; free some space, or choose another --out") from error
        except OSError as error:
            raise RunError(f"cannot write {folder}: {error.strerror}; free some space, or choose another --out") from error


def judge(world: World, config: RunConfig, folder: RunFolder, board: Board, stopped: Callable[[], bool]) -> list[Score]:
    """Evaluates the trained policy, expert and baselines, and saves a film of the expert and of the policy for each task."""
    if config.evaluate.episodes == 0:
        return []
    agent = load_agent(folder.checkpoint)
    codec = ActionCodec(world.robot)
    pilots: dict[str, PilotFactory] = {
        "policy": lambda task, scene, physics: PolicyPilot(
            make_policy(agent, None, seed=scene.seed & 0xFFFF, limits=codec.limits), codec
        ),
        **baselines(config.evaluate),
        "expert": expert,
    }

    def keep(episode: Played) -> None:
        if episode.pilot in ("policy", "expert"):
            verdict = episode.outcome.verdict
            ending = "success" if verdict.success else f"failed: {verdict.reason}"
            name = f"{episode.pilot}_{episode.scene.task}"
            caption = f'{episode.pilot}: "{episode.scene.instruction}" ({ending})'
            save_film(folder.videos / f"{name}.mp4", world, episode.scene, episode.trajectory, caption)
            save_strip(folder.frames / f"{name}.png", episode.trajectory, caption)

    return evaluate(world, pilots, config.evaluate, progress=board.update, on_first=keep, stop=stopped)


def summarise(config: RunConfig, streamed: Streamed, scores: list[Score], *, wall_s: float, peak_bytes: int) -> dict[str, Any]:
    """The figures of a run as JSON values, for the report and for `--json`."""
    engine, ledger, timings = streamed.engine, streamed.ledger, streamed.engine.timings
    parts = {
        "physics": timings.physics_s,
        "rendering": timings.render_s,
        "inverse kinematics": timings.pilot_s,
        "writing": timings.write_s,
        **({"encoding": timings.encode_s} if timings.encode_s else {}),
        "waiting for room in the ring": timings.blocked_s,
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
        "deaths": dict(engine.deaths),
        "gateway_deaths": engine.gateway_deaths,
        "instances": {name: known["scenes"] for name, known in engine.instances.items()},
        "instances_most_scenes": engine.most_scenes,
        "assets_ahead": engine.assets_ahead,
        "assets_refused": sorted(engine.assets_refused),
        "assets_lost": list(engine.assets_lost),
        "asset_deaths": dict(engine.asset_deaths),
        "trajectories_per_s": streamed.new_published / streamed.stream_s,
        "samples_per_s": streamed.samples / streamed.learn_s,
        "learner_wait_share": streamed.wait_s / streamed.learn_s,
        "unique_pairs_per_iteration": ledger.unique_pairs_per_iteration * config.learner.accumulate,
        "max_reads": config.ring.max_reads,
        "replay_mode": config.ring.mode.value,
        "reads": ledger.reads,
        "reads_histogram": {str(reads): count for reads, count in ledger.reads_histogram.items()},
        "bound_violations": len(ledger.violations),
        "lives": ledger.lives,
        "reads_undone": ledger.undone,
        "reads_given_up": sum(ledger.given_up.values()),
        "age_p50_s": ledger.age_p50_s,
        "worker_shares": {name: seconds / busy_s if busy_s else 0.0 for name, seconds in parts.items()},
        "encoder_is_random": streamed.encoder_is_random,
        "num_parameters": streamed.num_parameters,
        "slot_bytes": streamed.slot_bytes,
        "peak_memory_gib": peak_bytes / 2**30,
        "evaluation": as_rows(scores),
    }
