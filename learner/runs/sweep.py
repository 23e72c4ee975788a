"""Many runs of one recipe that differ in what bounds their reads, and in nothing else: a plan of trials, each a run folder.

A trial is the command that a person would type. What has ended is never run again; what was begun goes on from its checkpoint.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embodichain.errors import ConfigError, RunError
from embodichain.types import ReplayMode
from learner.records.files import write_whole
from learner.records.run_folder import RunFolder, versions
from learner.runs.config import RunConfig
from learner.runs.options import RunWords, resolve

MANIFEST = "sweep.json"
_MOST_READS = 16_383
"""More than any trajectory of a static set is read: the most that a ring can count."""

_PROGRAM = "import sys; from embodichain.cli import main; sys.exit(main())"
"""The command line of the version that runs the sweep, whatever is installed."""

STAGES = {
    "spatial": ("--world.visual.enabled", "False", "--world.physical.enabled", "False", "--world.diversity.enabled", "False"),
    "visual": ("--world.visual.enabled", "True", "--world.physical.enabled", "False", "--world.diversity.enabled", "False"),
    "physics": ("--world.visual.enabled", "True", "--world.physical.enabled", "True", "--world.diversity.enabled", "False"),
    "reachability": ("--world.visual.enabled", "True", "--world.physical.enabled", "True", "--world.diversity.enabled", "True"),
}
"""The expansion of experience, a stage at a time: each adds to the one before."""


@dataclass(frozen=True, kw_only=True)
class SweepWords:
    """What a sweep is of."""

    recipe: str
    replay: tuple[int, ...] = ()
    """Bounds K, one variant each."""
    seeds: tuple[int, ...] = (0,)
    """Of scenes, weights and draws alike: variants of one seed see the same scenes in the same order."""
    static: tuple[int, ...] = ()
    """Sizes of static sets: so many scenes are simulated once, and then read without a bound."""
    aggregate: tuple[int, ...] = ()
    """Bounds of the ring as a whole (`ring.mode aggregate`), one variant each."""
    ablation: str = ""
    """"expansion": the four stages of `STAGES`, each at the recipe's own bound."""
    dotted: tuple[str, ...] = ()
    """Overrides that all trials share."""
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
    """What it shares with the trials of other seeds."""
    seed: int
    folder: Path
    words: tuple[str, ...]
    """Of the command line, after `embodichain run`."""
    config: RunConfig

    @property
    def run(self) -> RunFolder:
        """Its folder; there may be nothing in it yet."""
        return RunFolder(path=self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, and not by an interruption."""
        return self.run.summary.exists() and not json.loads(self.run.summary.read_text(encoding="utf-8"))["interrupted"]

    @property
    def command(self) -> tuple[str, ...]:
        """What a person would type to make it."""
        return ("embodichain", "run", *self.words, "--out", str(self.folder))

    def next_command(self) -> tuple[str, ...]:
        """What makes it now: from the beginning, or from its last checkpoint. What was begun without one is removed."""
        program = (sys.executable, "-c", _PROGRAM, *self.command[1:])
        if self.run.checkpoint.exists() and self.run.config.exists():
            return (*program, "--resume")
        if self.run.config.exists():
            shutil.rmtree(self.folder)
        return program


def plan(words: SweepWords) -> list[Trial]:
    """The trials of a sweep: seeds after each other, so that a sweep that is cut short has all variants of the first ones.

    Raises ConfigError or UsageError for what no run would take, before any has begun.
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
    """The dotted overrides of each variant by its name, which is also part of folder names."""
    found: dict[str, tuple[str, ...]] = {f"k{bound}": ("--ring.max-reads", str(bound)) for bound in words.replay}
    for count in words.static:
        ready = max(1, count // 2)  # not all scenes can be simulated; what comes later is read as soon as it is there
        ring = ("--ring.num-slots", str(count), "--ring.min-ready", str(ready), "--ring.max-reads", str(_MOST_READS))
        found[f"static{count}"] = (*ring, "--stream.limit", str(count))
    for bound in words.aggregate:
        found[f"aggregate{bound}"] = ("--ring.max-reads", str(bound), "--ring.mode", ReplayMode.AGGREGATE.value)
    if words.ablation:
        found |= STAGES
    return found


def write_manifest(words: SweepWords, trials: Sequence[Trial], *, resume: bool) -> None:
    """Says in the sweep's folder what belongs to it, with the exact commands.

    Raises RunError when the folder holds a sweep and none was to go on, or one that differs in more than the trials it has.
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
    """What a sweep's folder says of itself; raises RunError when it is none."""
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
