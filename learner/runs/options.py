"""From the command line to one complete configuration: recipe, then --config file, then overrides; the last word wins."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from embodichain.errors import ConfigError, EmbodiChainError
from learner.models.families import family_of
from learner.records.plain import flatten, load_yaml
from learner.records.run_folder import RunFolder
from learner.runs import recipes
from learner.runs.recipes import RunConfig

SHORTHANDS = {
    "--seed": "--world.seed",
    "--out": "--out",
    "--robot": "--world.robot",
    "--tasks": "--world.tasks",
    "--engine": "--stream.engine",
    "--workers": "--stream.workers",
    "--ranks": "--train.ranks",
    "--max-reads": "--ring.max-reads",
    "--steps": "--train.steps",
    "--episodes": "--evaluate.episodes",
}
"""Options that most runs change, by the dotted name that each stands for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the command line asked for."""

    config: RunConfig
    resume: bool
    dry_run: bool
    json: bool


def parse(arguments: list[str]) -> RunOptions:
    """Reads the arguments of `embodichain run`; raises ConfigError, and exits with help or usage errors as argparse does."""
    parser = _parser()
    named = arguments[:1] if arguments and not arguments[0].startswith("-") else ["tiny_cpu"]
    known, rest = parser.parse_known_args(arguments[len(named) if arguments[:1] == named else 0 :])
    known.recipe = named[0]
    if known.help:
        parser.print_help()
        print("\nEvery value of the recipe can be set by its dotted name:\n")
    given: list[str] = []
    for option, dotted in SHORTHANDS.items():
        value = getattr(known, option.strip("-").replace("-", "_"))
        if value is not None:
            given += [dotted, *([value] if isinstance(value, str) else value)]
    if known.resume:
        out = Path(known.out or _recipe(known).out)
        saved = load_yaml(RunFolder.open(out).config)
        base = recipes.make(str(saved["recipe"]).partition(" ")[0])
        config = restore(base, saved, ["--out", str(out), *given, *rest])
    else:
        from_file = load_yaml(known.config) if known.config else {}
        base = _recipe(known)
        base = dataclasses.replace(base, out=fresh(base.out))
        config = restore(base, from_file, [*given, *rest], show_help=known.help)
    return RunOptions(config=config, resume=known.resume, dry_run=known.dry_run, json=known.json)


def fresh(path: Path) -> Path:
    """`path`, or the first of path-2, path-3 ... that holds no run yet."""
    number = 1
    while (candidate := path if number == 1 else path.with_name(f"{path.name}-{number}")).joinpath("config.yaml").exists():
        number += 1
    return candidate


def restore(base: RunConfig, saved: Mapping[str, Any], arguments: Sequence[str] = (), *, show_help: bool = False) -> RunConfig:
    """`base` with the values in `saved`, as `as_plain` gives them, then dotted overrides. A saved table replaces the base's."""
    return override(_with_tables(base, saved), [*flatten(saved), *arguments], show_help=show_help)


def _with_tables(config: Any, saved: Mapping[str, Any]) -> Any:
    """Takes over mappings whole: dotted names alone could only add to a table, not take away."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        old, new = getattr(config, field.name), saved.get(field.name)
        if not isinstance(new, Mapping):
            continue
        if isinstance(old, Mapping):
            changes[field.name] = dict(new)
        elif dataclasses.is_dataclass(old):
            changes[field.name] = _with_tables(old, new)
    return dataclasses.replace(config, **changes) if changes else config


def override(config: RunConfig, arguments: list[str], *, show_help: bool = False) -> RunConfig:
    """`config` with dotted overrides ("--world.width", "96"); raises ConfigError for a value that a configuration refuses."""
    try:
        return tyro.cli(
            tyro.conf.configure(tyro.conf.FlagConversionOff, tyro.conf.EnumChoicesFromValues)(RunConfig),
            default=config,
            args=["--help"] if show_help else arguments,
            prog="embodichain run",
            console_outputs=True,
        )
    except EmbodiChainError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _recipe(known: argparse.Namespace) -> RunConfig:
    config = recipes.make(known.recipe)
    if known.size is not None:
        agent = config.learner.agent
        agent = dataclasses.replace(agent, model=family_of(agent.model).size(known.size))
        config = dataclasses.replace(config, learner=dataclasses.replace(config.learner, agent=agent))
    if known.physics is None:
        return config
    if known.physics == "counting":
        return recipes.counting(config)
    return dataclasses.replace(config, world=dataclasses.replace(config.world, physics=known.physics))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="embodichain run",
        usage="embodichain run [RECIPE] [OPTIONS]",
        epilog=f"RECIPE is one of {', '.join(recipes.RECIPES)} (default tiny_cpu).",
        description="Streams experience from simulation into a learner, evaluates the policy and writes a report.",
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-h", "--help", action="store_true", help="this text, then every dotted option")
    add("--config", type=Path, help="a YAML file whose values override the recipe's")
    add("--size", help="a named size of the recipe's world model, such as tiny, small, base; by default the recipe's own")
    add("--physics", help="mujoco, or counting: self-verifying data that must arrive complete, untorn and within the bound")
    add("--resume", action="store_true", help="go on with the run in the folder --out")
    add("--dry-run", action="store_true", help="print the resolved configuration and what it needs, and stop")
    add("--json", action="store_true", help="print the summary as one JSON object on the last line")
    add("--tasks", nargs="+", metavar="TASK", help="what the episodes are about")
    add("--robot", help="a robot's name, or the path of an MJCF file")
    add("--seed", help="decides every scene and every weight")
    add("--out", help="the run folder; by default the recipe's, numbered when it holds a run already")
    add("--engine", help="ray (workers) or serial (this process)")
    add("--workers", help="simulating processes")
    add("--ranks", help="learner processes that share the ring")
    add("--max-reads", help="K: how often each trajectory may be read")
    add("--steps", help="training steps")
    add("--episodes", help="held-out episodes for each task and pilot")
    return parser
