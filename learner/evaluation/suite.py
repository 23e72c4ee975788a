"""`embodichain eval`: evaluates a trained policy in closed loop in held-out scenes, in and out of distribution, with evidence.

The folder of an evaluation holds its configuration, command and versions, one line for each episode (`episodes.jsonl`, from which
`--resume` goes on), `summary.json`, films, strips of frames, and imagined beside real latents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from embodichain import tasks
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, RunError
from embodichain.motion.action import ActionCodec
from embodichain.progress import Board
from embodichain.tasks.benchmarks import common
from embodichain.types.plain import as_plain
from learner.evaluation.config import EvaluateConfig, Shift
from learner.evaluation.episodes import Graded, PilotFactory, Played, PolicyPilot, as_rows, baselines, episodes, expert, scores
from learner.evaluation.held_out import HeldOut, held_out
from learner.inference.background import make_policy, thinking_thread
from learner.inference.config import SaiConfig
from learner.models.agent import Agent
from learner.records.files import append_line
from learner.records.run_folder import EPISODES, RunFolder, command_line, versions
from learner.reporting.pictures import save_film, save_latents, save_strip


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Which policy is evaluated, in which world, and how often."""

    checkpoint: Path
    world: WorldConfig
    episodes: int
    shifts: tuple[Shift, ...]
    pilots: tuple[str, ...]
    sai: SaiConfig | None
    films: bool
    evaluate: EvaluateConfig
    late: int = 0
    """Simulated latency: the commands for which the previous chunk goes on after a frame, before the one decided from it starts."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"episodes must be at least 1, got {self.episodes}")
        if self.world.physics == "counting":
            raise ConfigError("counting physics is no world to succeed in: evaluate a run with real physics")
        for name in self.world.tasks:
            tasks.make(name)
        if (others := [shift.value for shift in self.shifts if shift is not Shift.NONE]) and common(self.world.tasks):
            raise ConfigError(
                f"scenes of {self.world.physics} are its own affair, and nothing in them can be shifted: leave --ood out, "
                f"got {', '.join(others)}"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that must be equal for episodes to be counted together."""
        digest = hashlib.sha256(self.checkpoint.read_bytes()).hexdigest()
        world = as_plain(replace(self.world, tasks=("any",)))
        return {"checkpoint_sha256": digest, "world": world, "sai": as_plain(self.sai) if self.sai else "off", "late": self.late}


class Judgement:
    """The folder of one evaluation; made by `create` or `resume`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.graded: list[Graded] = []

    @property
    def _log(self) -> Path:
        return self.path / EPISODES

    @classmethod
    def create(cls, path: Path, config: JudgeConfig) -> Judgement:
        """A new folder; raises RunError when one is there already or it cannot be written."""
        if (path / "config.yaml").exists():
            raise RunError(f"{path} holds an evaluation or a run already; go on with --resume, or choose another --out")
        judgement = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            judgement._log.touch()
        except OSError as error:
            raise RunError(f"cannot write the folder {path}: {error.strerror}; choose another --out") from error
        settings = as_plain(config) | {"identity": config.identity}
        RunFolder(path=path).write_identity(settings, command_line())
        return judgement

    @classmethod
    def resume(cls, path: Path, config: JudgeConfig) -> Judgement:
        """The folder of an earlier evaluation; raises RunError when there is none, or when it has other settings."""
        if not (path / EPISODES).exists():
            raise RunError(f"{path} holds no evaluation to resume")
        saved = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))["identity"]
        saved = {"late": 0, **saved}  # folders without this key were judged without simulated latency
        saved["world"] = {"painter": "raycast", **saved["world"]}  # folders without this key were all drawn by the ray caster
        if saved != config.identity:
            different = [name for name, value in config.identity.items() if saved.get(name) != value]
            raise RunError(f"{path} judged another {' and '.join(different)}: its episodes do not count here; choose another --out")
        judgement = cls(path)
        whole: list[str] = []
        for line in judgement._log.read_text(encoding="utf-8").splitlines():
            try:
                judgement.graded.append(Graded(**json.loads(line)))
            except ValueError:
                break  # the last line of an evaluation that was killed while it wrote
            whole.append(line)
        judgement._log.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        return judgement

    def add(self, row: Graded) -> None:
        """Appends one episode to the log; raises RunError on a full disk."""
        self.graded.append(row)
        append_line(self._log, json.dumps(asdict(row)))

    def picture(self, kind: str, held: HeldOut, episode: Played, ending: str, suffix: str) -> Path:
        """The path for a picture of an episode, such as videos/in_distribution_turn_switch_policy_success.mp4."""
        name = f"{held.shift.value}_{episode.scene.task}_{episode.pilot}_{ending}".replace(" ", "_")
        return self.path / kind / f"{name}{suffix}"


def judge(agent: Agent, config: JudgeConfig, judgement: Judgement, board: Board) -> None:
    """Plays every held-out set with every pilot, except episodes that are already in the folder."""
    known = {(row.shift, row.pilot, row.task, row.number) for row in judgement.graded}
    with _worker(config.sai) as worker:
        for shift in config.shifts:
            held = held_out(config.world, shift, board.update)
            pilots = _pilots(agent, held, config, worker)
            total = config.episodes * len(held.tasks) * len(pilots)
            done = sum(key[0] == shift and key[3] < config.episodes for key in known)
            board.update(shift.value, min(done, total), total)
            shown: set[tuple[str, ...]] = set()

            def is_known(pilot: str, task: str, number: int, shift: Shift = shift) -> bool:
                return (shift.value, pilot, task, number) in known

            for episode in episodes(held, pilots, config.episodes, known=is_known):
                judgement.add(Graded.of(episode, shift))
                done += 1
                board.update(shift.value, min(done, total), total, f"{episode.pilot} {episode.scene.task}")
                if config.films:
                    _keep(judgement, held, episode, shown)


def _pilots(agent: Agent, held: HeldOut, config: JudgeConfig, worker: Executor | None) -> dict[str, PilotFactory]:
    codec = ActionCodec(held.world.robot)

    every: dict[str, PilotFactory] = {
        "policy": lambda task, scene, physics: PolicyPilot(
            make_policy(agent, config.sai, seed=scene.seed & 0xFFFF, worker=worker, limits=codec.limits),
            codec,
            delay=config.late,
        ),
        **baselines(config.evaluate),
        "expert": expert,
    }
    return {name: every[name] for name in config.pilots}


@contextmanager
def _worker(sai: SaiConfig | None) -> Iterator[Executor | None]:
    if sai is None:
        yield None
        return
    with thinking_thread("speculate") as worker:
        yield worker


def _keep(judgement: Judgement, held: HeldOut, episode: Played, shown: set[tuple[str, ...]]) -> None:
    """Saves pictures of the policy's first success and first failure on each task, and of the expert's first episode."""
    verdict = episode.outcome.verdict
    ending = "success" if verdict.success else "failure"
    if episode.pilot not in ("policy", "expert") or not episode.outcome.num_chunks:
        return
    key = (episode.pilot, episode.scene.task, ending if episode.pilot == "policy" else "")
    if key in shown:
        return
    shown.add(key)
    said = "success" if verdict.success else f"failed: {verdict.reason}"
    caption = f'{episode.pilot}, {held.shift.value}: "{episode.scene.instruction}" ({said})'
    video = judgement.picture("videos", held, episode, ending, ".mp4")
    video.parent.mkdir(parents=True, exist_ok=True)
    save_film(video, held.world, episode.scene, episode.trajectory, caption)
    save_strip(judgement.picture("frames", held, episode, ending, ".png"), episode.trajectory, caption)
    trace = episode.trace
    if errors := trace.errors():
        told = f"{caption}; imagined latents are off by {errors[0]:.3f} (mean square), an unchanged frame by {errors[1]:.3f}"
        picture = judgement.picture("imagined", held, episode, ending, ".png")
        save_latents(picture, episode.trajectory["rgb"], trace.seen, trace.imagined, told)


def summarise(config: JudgeConfig, judgement: Judgement, *, wall_s: float) -> dict[str, Any]:
    """The figures of an evaluation as JSON values."""
    by_shift = {shift: [row for row in judgement.graded if row.shift == shift] for shift in config.shifts}
    return {
        "checkpoint": str(config.checkpoint),
        "folder": str(judgement.path),
        "episodes": len(judgement.graded),
        "sets": {shift.value: as_rows(scores(rows)) for shift, rows in by_shift.items()},
        "imagined": {shift.value: _imagined(rows) for shift, rows in by_shift.items()},
        "speculation": "off" if config.sai is None else f"{config.sai.variant} to s_mid {config.sai.s_mid:g}",
        "late": config.late,
        "blocking_evaluations": {shift.value: _blocking(rows) for shift, rows in by_shift.items()},
        "placement_ranges": {name: _ranges(name) for name in config.world.tasks},
        "wall_s": round(wall_s, 1),
        "versions": versions(),
    }


def _imagined(rows: Iterable[Graded]) -> dict[str, dict[str, float]]:
    """For each task: mean squared error of the policy's predicted frames, and of predicting no change."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.imagined_error is not None and row.unchanged_error is not None:
            found.setdefault(row.task, []).append((row.imagined_error, row.unchanged_error))
    means = {task: np.mean(errors, axis=0) for task, errors in found.items()}
    return {task: {"imagined": round(float(mean[0]), 4), "unchanged": round(float(mean[1]), 4)} for task, mean in means.items()}


def _blocking(rows: Iterable[Graded]) -> float | None:
    """Evaluations of the model for which the robot waited, a decision; None for pilots that evaluate nothing."""
    found = [row.blocking_evaluations for row in rows if row.blocking_evaluations is not None]
    return round(float(np.mean(found)), 2) if found else None


def _ranges(name: str) -> list[dict[str, Any]]:
    """The ranges in which a task places its objects in distribution; reported with every success rate."""
    request = tasks.make(name).request(np.random.default_rng(0))
    return [
        {"role": wanted.role, "x_m": list(wanted.x), "y_m": list(wanted.y), "yaw_rad": [round(v, 3) for v in wanted.yaw]}
        for wanted in request.objects
    ]
