"""Sweeps: many runs of one recipe that differ only in their replay bound, static set or expansion, and in their seed.

Each trial is a run with a folder and a plain command line. Finished trials are never run again; interrupted ones are resumed.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embodichain.errors import ConfigError, RunError
from embodichain.types import ReplayMode
from learner.records.files import held, write_whole
from learner.records.run_folder import RunFolder, versions
from learner.runs.config import RunConfig
from learner.runs.options import RunWords, resolve

MANIFEST = "sweep.json"
_STOP_S = 60.0
"""How long a run that was interrupted may take to stop [s]."""
_MOST_READS = 16_383
"""The largest bound that a ring can count; it serves as no bound for static sets."""

_PROGRAM = "import sys; from embodichain.cli import main; sys.exit(main())"
"""Runs the command line of this very version, not of another one that may be installed."""

STAGES = {
    "spatial": ("--world.visual.enabled", "False", "--world.physical.enabled", "False", "--world.diversity.enabled", "False"),
    "visual": ("--world.visual.enabled", "True", "--world.physical.enabled", "False", "--world.diversity.enabled", "False"),
    "physics": ("--world.visual.enabled", "True", "--world.physical.enabled", "True", "--world.diversity.enabled", "False"),
    "reachability": ("--world.visual.enabled", "True", "--world.physical.enabled", "True", "--world.diversity.enabled", "True"),
}
"""Stages of the expansion of experience for an ablation; each adds to the one before."""


@dataclass(frozen=True, kw_only=True)
class SweepWords:
    """The settings of a sweep."""

    recipe: str
    replay: tuple[int, ...] = ()
    """Replay bounds K; each gives one variant."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of scenes, weights and draws. Variants with the same seed see the same scenes in the same order."""
    static: tuple[int, ...] = ()
    """Sizes of static sets: this many scenes are simulated once and then read without a bound."""
    aggregate: tuple[int, ...] = ()
    """Bounds on the reads of the whole ring (`ring.mode aggregate`); each gives one variant."""
    ablation: str = ""
    """"expansion": the four stages of `STAGES`, each at the recipe's own bound."""
    dotted: tuple[str, ...] = ()
    """Dotted overrides for all trials."""
    out: Path

    def __post_init__(self) -> None:
        if not (self.replay or self.static or self.aggregate or self.ablation):
            raise ConfigError("a sweep needs something that differs: --replay, --static, --aggregate or --ablation expansion")
        if self.ablation not in ("", "expansion"):
            raise ConfigError(f"unknown ablation {self.ablation!r}; available: expansion")
        for name, values in (
            ("replay", self.replay),
            ("static", self.static),
            ("aggregate", self.aggregate),
            ("seeds", self.seeds),
        ):
            if len(set(values)) < len(values):
                raise ConfigError(f"--{name} names a value twice: {', '.join(map(str, values))}")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a sweep."""

    name: str
    variant: str
    """Name of the variant, shared with the trials of other seeds."""
    seed: int
    folder: Path
    words: tuple[str, ...]
    """Arguments of `embodichain run`."""
    config: RunConfig

    @property
    def run(self) -> RunFolder:
        """Its run folder, which may not exist yet."""
        return RunFolder(path=self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether it has ended without an interruption."""
        return self.run.summary.exists() and not self.run.read_summary().get("interrupted")

    @property
    def command(self) -> tuple[str, ...]:
        """The command line that makes this run."""
        return ("embodichain", "run", *self.words, "--out", str(self.folder))

    def next_command(self) -> tuple[str, ...]:
        """The command to run now: from the beginning, or with --resume. A folder without a checkpoint is removed first.

        It is renamed for that, so that whoever ends this process meanwhile leaves no half of it for the next attempt to go on with.
        """
        program = (sys.executable, "-c", _PROGRAM, *self.command[1:])
        if self.run.checkpoint.exists() and self.run.config.exists():
            return (*program, "--resume")
        removed = self.folder.with_name(f".{self.name}.removed")
        shutil.rmtree(removed, ignore_errors=True)
        if self.run.config.exists():
            with _held_once_free(self.folder):
                self.folder.rename(removed)
            shutil.rmtree(removed)
        return program


@contextmanager
def _held_once_free(folder: Path) -> Iterator[None]:
    """Locks a trial's folder. The run of a sweep that was killed may still be about to stop in it, for which this waits a while."""
    deadline = time.monotonic() + _STOP_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(folder))
                break
            except RunError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


def plan(words: SweepWords) -> list[Trial]:
    """The trials of a sweep, ordered by seed, so that a sweep that is cut short has all variants of the first seeds.

    Raises ConfigError or UsageError for invalid settings before any trial has begun.
    """
    trials = []
    for seed in words.seeds:
        for variant, extra in variants(words).items():
            name, folder = f"{variant}_s{seed}", words.out / f"{variant}_s{seed}"
            drawn = ("--world.seed", str(seed), "--learner.agent.seed", str(seed), "--learner.data.seed", str(seed))
            dotted = (*words.dotted, *drawn, *extra)
            config = replace(resolve(words.recipe, RunWords(), dotted).config, out=folder)
            told = (words.recipe, *dotted)
            trials.append(Trial(name=name, variant=variant, seed=seed, folder=folder, words=told, config=config))
    return trials


def variants(words: SweepWords) -> dict[str, tuple[str, ...]]:
    """The dotted overrides of each variant, by the name that is also used for folders."""
    found: dict[str, tuple[str, ...]] = {f"k{bound}": ("--ring.max-reads", str(bound)) for bound in words.replay}
    for count in words.static:
        ready = max(1, count // 2)  # some scenes fail, so waiting for all would never end; later trajectories join the set
        ring = ("--ring.num-slots", str(count), "--ring.min-ready", str(ready), "--ring.max-reads", str(_MOST_READS))
        found[f"static{count}"] = (*ring, "--stream.limit", str(count))
    for bound in words.aggregate:
        found[f"aggregate{bound}"] = ("--ring.max-reads", str(bound), "--ring.mode", ReplayMode.AGGREGATE.value)
    if words.ablation:
        found |= STAGES
    return found


def write_manifest(words: SweepWords, trials: Sequence[Trial], *, resume: bool) -> None:
    """Writes the manifest of a sweep into its folder: its trials with their exact commands.

    Raises RunError when the folder holds a sweep and `resume` is False, or a sweep whose trials had other commands.
    """
    path = words.out / MANIFEST
    new = _manifest(words, trials)
    if path.exists():
        old = read_manifest(words.out)
        if not resume:
            raise RunError(f"{words.out} holds a sweep already; go on with it by --resume, or choose another --out")
        commands = {trial["name"]: trial["command"] for trial in old["trials"]}
        for trial in new["trials"]:
            before = commands.get(trial["name"], trial["command"])
            if before != trial["command"]:
                raise RunError(f"{words.out}: trial {trial['name']} was `{before}` and would now be `{trial['command']}`")
        known = {trial["name"] for trial in new["trials"]}
        new["trials"] = [*new["trials"], *(trial for trial in old["trials"] if trial["name"] not in known)]
    elif any(trial.run.config.exists() for trial in trials):
        raise RunError(f"{words.out} holds runs of something else; choose another --out")
    words.out.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(new, indent=1))


def read_manifest(out: Path) -> dict[str, Any]:
    """Reads the manifest of a sweep; raises RunError when the folder has none."""
    path = out / MANIFEST
    if not path.exists():
        raise RunError(f"{out} is no sweep: it has no {MANIFEST}")
    return json.loads(path.read_text(encoding="utf-8"))


def _manifest(words: SweepWords, trials: Sequence[Trial]) -> dict[str, Any]:
    rows = [
        {
            "name": trial.name,
            "variant": trial.variant,
            "seed": trial.seed,
            "folder": trial.name,
            "command": shlex.join(trial.command),
        }
        for trial in trials
    ]
    asked = {**asdict(words), "out": str(words.out)}
    return {"recipe": words.recipe, "asked": asked, "versions": versions(), "trials": rows}
