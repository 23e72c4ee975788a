"""Builds one complete configuration from a command line: recipe, then --config file, then overrides; later values win."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from embodichain import physics, robots, tasks
from embodichain.command_line import unknown_option
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, EmbodiChainError, UsageError
from embodichain.physics.painters import PAINTERS
from learner.codecs.catalog import CODECS
from learner.models.families import family_of
from learner.records.plain import flatten, load_yaml
from learner.records.run_folder import RunFolder, fresh
from learner.runs import catalog, recipes
from learner.runs.config import RunConfig
from learner.runs.old_names import as_then, current

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunWords:
    """Options of a command line besides the recipe and the dotted overrides."""

    config: Path | None = None
    """A YAML file whose values override the recipe's."""
    size: str | None = None
    """A named size of the recipe's world model."""
    physics: str | None = None
    out: Path | None = None
    resume: bool = False
    dry_run: bool = False
    json: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The run that a command line requests."""

    config: RunConfig
    resume: bool
    dry_run: bool
    json: bool
    states_bound: bool = False
    """Whether K was given on the command line: it then stands against what was asked of the run while it ran before."""


def resolve(recipe: str, given: RunWords, dotted: Sequence[str]) -> RunOptions:
    """Resolves a command line. Raises ConfigError for invalid names and values, before any long work begins."""
    if given.resume:
        if named := [f"--{name}" for name in ("size", "physics", "config") if getattr(given, name) is not None]:
            raise UsageError(
                f"{', '.join(named)} cannot be given with --resume, which goes on with the configuration that the run saved; "
                "single values of it can be changed by their dotted names, as in --train.steps 800"
            )
        out = given.out or _recipe(recipe, given).out
        saved = as_then(load_yaml(RunFolder.open(out).config))
        base = catalog.make(str(saved["recipe"]).partition(" ")[0])
        config = restore(base, saved, ["--out", str(out), *dotted])
    else:
        base = _recipe(recipe, given)
        base = dataclasses.replace(base, out=fresh(base.out))
        config = restore(base, load_yaml(given.config) if given.config else {}, dotted)
    check_world(config.world)
    CODECS.check(config.learner.agent.encoder.codec)
    states_bound = any(word.partition("=")[0].replace("_", "-") == "--ring.max-reads" for word in dotted)
    return RunOptions(config=config, resume=given.resume, dry_run=given.dry_run, json=given.json, states_bound=states_bound)


def check_world(world: WorldConfig) -> None:
    """Raises ConfigError or RobotError for a task, robot, physics or painter that does not exist, importing none that does."""
    robots.check(world.robot)
    PAINTERS.check(world.painter)
    physics.check(world.physics)
    for name in world.tasks:
        tasks.check(name)


def restore(base: RunConfig, saved: Mapping[str, Any], arguments: Sequence[str] = ()) -> RunConfig:
    """Applies saved plain values (`as_plain`) to `base`, then dotted overrides. A saved table replaces that of `base` as a whole.

    Old names from earlier versions are understood.
    """
    saved = current(saved)
    _refuse_nothing(base, saved)
    return override(_with_tables(base, saved), [*flatten(saved), *arguments])


def _refuse_nothing(config: Any, saved: Mapping[str, Any], prefix: str = "") -> None:
    """Raises ConfigError for a value that a file leaves empty, by its dotted name: as an option it would be the text "None"."""
    for field in dataclasses.fields(config):
        value, dotted = getattr(config, field.name), f"{prefix}{field.name}"
        if field.name not in saved or value is None:
            continue
        if saved[field.name] is None:
            raise ConfigError(f"the configuration has no value for {dotted}: write '' for an empty text, or leave it out")
        if dataclasses.is_dataclass(value) and isinstance(saved[field.name], Mapping):
            _refuse_nothing(value, saved[field.name], f"{dotted}.")


def run_config(folder: RunFolder) -> RunConfig:
    """The resolved configuration that a run saved."""
    saved = as_then(load_yaml(folder.config))
    return restore(catalog.make(str(saved.get("recipe", "")).partition(" ")[0]), saved)


def _with_tables(config: Any, saved: Mapping[str, Any]) -> Any:
    """Replaces mappings as a whole, because dotted options could only add entries to a mapping, not remove them."""
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


def override(config: Config, arguments: Sequence[str], prog: str = "embodichain run") -> Config:
    """Applies dotted overrides ("--world.width", "96") to `config`; raises ConfigError for a value that the configuration refuses.

    Raises UsageError for an unknown name or a value of the wrong type.
    """
    known = set(names(config))
    for word in arguments:
        if word.startswith("--") and word.partition("=")[0].replace("_", "-") not in known:
            raise UsageError(unknown_option(prog, word, known))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = _parsed(config, arguments, prog)
        check_numbers(parsed)
        return parsed
    except SystemExit as ended:
        if not ended.code:
            raise
        raise UsageError(f"{prog}: {_sentence(said.getvalue())}") from None
    except EmbodiChainError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_numbers(config: Any, prefix: str = "") -> None:
    """Raises ConfigError for a number that nobody could use, by its dotted name: no finite one, since NaN passes every comparison
    with a bound; one beyond 63 bits; a seed below 0.

    Infinity is allowed where it is the default, and in settings that it turns off (`infinity_is_off`).
    """
    turns_off = getattr(config, "infinity_is_off", False)
    for field in dataclasses.fields(config):
        value, dotted = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            check_numbers(value, f"{dotted}.")
            continue
        several = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
        for number in several:
            if type(number) is int and not (0 if field.name == "seed" else -(2**63)) <= number < 2**63:
                raise ConfigError(f"{dotted} must be {'0 or more, and ' if field.name == 'seed' else ''}below 2^63, got {number}")
            if (
                isinstance(number, float)
                and not math.isfinite(number)
                and number != field.default
                and not (turns_off and number > 0)
            ):
                raise ConfigError(f"{dotted} must be a finite number, got {number}")


def names(config: Any, prefix: str = "") -> Iterator[str]:
    """The dotted option of every value in a configuration: "--world.width"."""
    for field in dataclasses.fields(config):
        value, dotted = getattr(config, field.name), f"{prefix}{field.name}".replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from names(value, f"{dotted}.")
        else:
            yield f"--{dotted}"
        if isinstance(value, Mapping):
            yield from (f"--{dotted}.{key}".replace("_", "-") for key in value)


def _parsed(config: Config, arguments: Sequence[str], prog: str) -> Config:
    """Has tyro parse the values that are named, and no others: a parser of a whole run takes half a second to build."""
    import tyro

    tree: dict[str, Any] = {}
    for word in arguments:
        if word.startswith("--"):
            value, branch = config, tree
            for part in word.partition("=")[0].removeprefix("--").replace("-", "_").split("."):
                if not dataclasses.is_dataclass(value):
                    break  # the key of a mapping, which is parsed as a whole
                value, branch = getattr(value, part), branch.setdefault(part, {})
    rules = tyro.conf.configure(tyro.conf.FlagConversionOff, tyro.conf.EnumChoicesFromValues)
    pruned = _pruned(config, tree)
    return _merged(config, tree, tyro.cli(rules(type(pruned)), default=pruned, args=list(arguments), prog=prog))


def _pruned(config: Any, tree: Mapping[str, Any]) -> Any:
    """A configuration of the fields in `tree` alone, under the same names, with the same types and defaults."""
    hints, fields = get_type_hints(type(config), include_extras=True), []
    for name, inner in tree.items():
        value = getattr(config, name)
        part = _pruned(value, inner) if inner and dataclasses.is_dataclass(value) else value
        kind = type(part) if part is not value else hints[name]
        fields.append((name, kind, dataclasses.field(default_factory=lambda part=part: part)))
    return dataclasses.make_dataclass(type(config).__name__, fields, frozen=True, kw_only=True)()


def _merged(config: Any, tree: Mapping[str, Any], parsed: Any) -> Any:
    """`config` with the values of its pruned likeness."""
    changes = {}
    for name, inner in tree.items():
        value, new = getattr(config, name), getattr(parsed, name)
        changes[name] = _merged(value, inner, new) if inner and dataclasses.is_dataclass(value) else new
    return dataclasses.replace(config, **changes)


def _sentence(box: str) -> str:
    """Extracts tyro's error message from its drawn box, as one line."""
    lines = [line.strip("│ ") for line in box.splitlines() if line.startswith("│")]
    return " ".join(itertools.takewhile(lambda line: set(line) - {"─"}, lines)) or box.strip()


def _recipe(name: str, given: RunWords) -> RunConfig:
    config = catalog.make(name)
    if given.size is not None:
        agent = config.learner.agent
        agent = dataclasses.replace(agent, model=family_of(agent.model).size(given.size))
        config = dataclasses.replace(config, learner=dataclasses.replace(config.learner, agent=agent))
    if given.physics is None:
        return config
    if given.physics == "counting":
        return recipes.counting(config)
    return dataclasses.replace(config, world=dataclasses.replace(config.world, physics=given.physics))
