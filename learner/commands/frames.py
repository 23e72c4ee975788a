"""Shared by the commands that train on single camera frames: `encoder train`, `segmenter train` and `codec train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from embodichain.command_line import Parser
from embodichain.lines import strict_json
from learner.commands.kinds import flag
from learner.commands.settings import REST, add_settings, check_rest, check_settings, dotted

if TYPE_CHECKING:
    from argparse import Namespace

    from learner.runs.frames_config import FramesConfig

Config = TypeVar("Config", bound="FramesConfig")


def parse(arguments: list[str], name: str, description: str, steps: str) -> tuple[Namespace, list[str]]:
    """Parses `embodichain NAME train`: the named options, and the dotted overrides. `steps` is the dotted name behind --steps."""
    parser = Parser(name, description)
    train = parser.subcommands().add_parser("train", description=description, help=description)
    train.epilog = f"{REST[0].upper()}{REST[1:]}."
    flag(train, "--json", "print the summary as one JSON object on the last line")
    short = add_settings(train, {"--steps": (steps, "training steps")})
    known, rest = parser.parse_known_args(arguments)
    check_settings(known)
    check_rest(train, rest)
    if known.help_all:
        train.print_help()
    return known, [*dotted(known, short), *rest]


def resolved(known: Namespace, words: list[str], config: Config, name: str) -> Config | None:
    """Applies the command line to `config`; returns None if it only asked for help, which is printed."""
    from learner.runs.option_help import all_options
    from learner.runs.options import check_world, override

    prog = f"embodichain {name} train"
    if known.help_all:
        print(all_options(config))
        return None
    settled = override(config, [*words, "--json", known.json], prog)
    check_world(settled.world)
    return settled


def report(record: dict[str, Any], config: FramesConfig) -> int:
    """Prints what was trained; returns the exit code, 130 after Ctrl-C (what was trained so far is saved)."""
    if config.json:
        print(strict_json(record))
    else:
        print(f"{record['images']} images of {record['trajectories']} trajectories, {record['wall_s']:.0f} s: {config.out}")
    return 130 if record["interrupted"] else 0
