"""Options of commands that take a whole configuration: a few short options, and every other value by its dotted name."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence

from embodichain import tasks
from embodichain.command_line import Parser, place, unknown_option
from embodichain.errors import UsageError, nearest
from embodichain.physics import PHYSICS

REST = "every value of the configuration can be set by its dotted name, as in --world.width 96; --help-all lists them"

_SHORT = {
    "--seed": ("--world.seed", "decides every scene and every weight"),
    "--out": ("--out", "the folder that is written"),
    "--robot": ("--world.robot", "a robot's name, the path of an MJCF or YAML file, or package.module:function"),
    "--engine": ("--stream.engine", "ray (workers) or serial (this process)"),
    "--workers": ("--stream.workers", "simulating processes, or min:max"),
    "--max-reads": ("--ring.max-reads", "K: how often each trajectory may be read"),
}


def add_settings(parser: Parser, more: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Adds --tasks, the short options above and `more`; returns the dotted name behind each short option."""
    short = {**_SHORT, **more}
    parser.add_argument("--tasks", "--task", nargs="+", metavar="TASK", help="what the episodes are about, see `embodichain list`")
    for name, (_, help_text) in short.items():
        kind = _path if name == "--out" else str
        parser.add_argument(name, type=kind, metavar=name.strip("-").upper().replace("-", "_"), help=help_text)
    parser.add_argument("--help-all", action="store_true", help="this help, and every dotted option")
    return {"--tasks": "--world.tasks"} | {name: dotted for name, (dotted, _) in short.items()}


def _path(text: str) -> str:
    """The text of a path, checked; what it means is for those who parse the dotted options."""
    place(text)
    return text


def check_settings(options: Namespace) -> None:
    """Raises ConfigError or RobotError for a task, robot or physics that does not exist."""
    from embodichain import robots

    for name in options.tasks or ():
        tasks.check(name)
    if options.robot is not None:
        robots.check(options.robot)
    if getattr(options, "physics", None) is not None:
        PHYSICS.check(options.physics)


def check_rest(parser: Parser, rest: Sequence[str]) -> None:
    """Raises UsageError for a stray word or a misspelt short option among the dotted options and their values."""
    if rest and not rest[0].startswith("-"):
        raise UsageError(unknown_option(parser.prog, rest[0], ()))
    for word in rest:
        if word.startswith("--") and "." not in word and (meant := nearest(word.partition("=")[0], parser.names())):
            raise UsageError(f"{parser.prog}: unknown option {word!r}; did you mean {meant!r}?")


def dotted(options: Namespace, short: Mapping[str, str]) -> list[str]:
    """Rewrites the short options that were given as dotted options."""
    words: list[str] = []
    for name, dotted_name in short.items():
        value = getattr(options, name.strip("-").replace("-", "_"))
        if dotted_name == "--stream.workers" and value is not None and ":" in value:
            least, _, most = value.partition(":")
            words += ["--stream.workers", least, "--stream.most-workers", most]
        elif value is not None:
            words += [dotted_name, *([value] if isinstance(value, str) else value)]
    return words
