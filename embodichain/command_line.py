"""The command-line parser of every command: arguments are checked before anything heavy is imported, and an error is one line.

A command's function builds a `Parser`, parses, and only then imports the code that does the work.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from embodichain.errors import ConfigError, UsageError, nearest

__all__ = [
    "Parser",
    "Subcommands",
    "check_writable",
    "ending",
    "existing",
    "finite",
    "natural",
    "place",
    "positive",
    "unknown_option",
    "whole",
]

_MOST = 2**63 - 1
"""The largest whole number that NumPy, torch and files of a run take."""
_EMPTY = "an empty path: is a variable of your shell not set? Write . for the working folder"


class Parser(argparse.ArgumentParser):
    """An argparse parser that accepts no abbreviations. It raises UsageError, in one line that suggests the intended option.

    Options of type int, float and Path take what `whole`, `finite` and `place` take.
    """

    def __init__(self, prog: str, description: str = "", epilog: str = "") -> None:
        """`prog` is the command without "embodichain ", or the full name, as for subcommands."""
        full = prog if prog.startswith("embodichain ") else f"embodichain {prog}"
        super().__init__(prog=full, description=description, epilog=epilog, allow_abbrev=False)
        for kind, check in ((int, whole), (float, finite), (Path, place)):
            self.register("type", kind, check)
        self._words: list[str] = []
        self._commands: dict[str, Parser] = {}

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The parsed options; raises UsageError, and exits with 0 after help."""
        known, rest = self.parse_known_args(list(arguments))
        if rest:
            raise UsageError(unknown_option(self.prog, rest[0], self.names()))
        return known

    def names(self) -> Iterator[str]:
        """Every option of this command and its subcommands."""
        for action in self._actions:
            yield from action.option_strings
        for command in self._commands.values():
            yield from command.names()

    def subcommands(self) -> Subcommands:
        """The place to add subcommands; one of them is then required."""
        return Subcommands(self, self._commands)

    def parse_known_args(self, args=None, namespace=None):  # noqa: ANN001, ANN201 (argparse's signature has three overloads)
        """As in argparse; keeps the words for `error`."""
        self._words = list(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError instead of printing the usage and ending the program."""
        if "are required" in message:  # a misspelt option is more likely than a missing one
            known = set(self.names())
            for word in self._words:
                if word.startswith("--") and word.partition("=")[0] not in known:
                    raise UsageError(unknown_option(self.prog, word, known))
            if self._commands:
                available = ", ".join(f"`{self.prog} {name}`" for name in self._commands)
                raise UsageError(f"{self.prog} needs to be told what to do: {available}")
        word, choices = _choices(message)
        meant = nearest(word, choices)
        raise UsageError(f"{self.prog}: {message}" + (f"; did you mean {meant!r}?" if meant else ""))


class Subcommands:
    """The subcommands of a parser."""

    def __init__(self, parser: Parser, found: dict[str, Parser]) -> None:
        self._action: Any = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
        self._found = found

    @property
    def parsers(self) -> tuple[Parser, ...]:
        """The parsers of all subcommands so far."""
        return tuple(self._found.values())

    def add_parser(self, name: str, *, help: str, description: str = "") -> Parser:
        """The parser of the subcommand `name`; `help` is its line in the list of subcommands."""
        self._found[name] = self._action.add_parser(name, help=help, description=description or help)
        return self._found[name]


def unknown_option(prog: str, option: str, names: Iterable[str]) -> str:
    """The message for an option, or an extra word, that a command does not have."""
    if not option.startswith("-"):
        return f"{prog}: unexpected {option!r}; `{prog} --help` says what it takes"
    meant = nearest(option.partition("=")[0], names)
    return f"{prog}: unknown option {option!r}; " + (f"did you mean {meant!r}?" if meant else f"`{prog} --help` lists them")


def _choices(message: str) -> tuple[str, list[str]]:
    """The word and its alternatives in argparse's message about an invalid choice."""
    _, found, rest = message.partition("invalid choice: ")
    word, chosen, listed = rest.partition(" (choose from ")
    return (word.strip("'\""), [name.strip(" '\")") for name in listed.split(",")]) if found and chosen else ("", [])


# ------------------------------------------------------------------------------------- kinds of values, checked at once


def existing(text: str) -> Path:
    """The path of an existing file or folder; raises ConfigError, which names what lies beside it, when there is none."""
    if not text:
        raise ConfigError(_EMPTY)
    path = Path(text)
    if not path.exists():
        raise ConfigError(f"there is nothing at {text}; {_beside(path)}")
    return path


def place(text: str) -> Path:
    """A path; raises ArgumentTypeError for an empty text, which would mean the working folder."""
    if not text:
        raise argparse.ArgumentTypeError(_EMPTY)
    return Path(text)


def ending(*suffixes: str) -> Callable[[str], Path]:
    """A kind of value: the path of a file to write, with one of these endings, which say what its content is to be."""

    def checked(text: str) -> Path:
        path = place(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"takes a file that ends with {' or '.join(suffixes)}, got {text!r}")
        return path

    return checked


def check_writable(folder: Path) -> None:
    """Makes a folder for results; raises ConfigError, before any long work begins, when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror}; choose another --out") from error


def finite(text: str) -> float:
    """A number; raises ArgumentTypeError for infinity and for what is no number, which pass every comparison with a bound."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


def whole(text: str) -> int:
    """A whole number of at most 63 bits; raises ArgumentTypeError for anything else."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number") from None
    if abs(number) > _MOST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is beyond 2^63")
    return number


def natural(text: str) -> int:
    """A whole number that is not negative, such as a seed; raises ArgumentTypeError for anything else."""
    if (number := whole(text)) < 0:
        raise argparse.ArgumentTypeError(f"takes a whole number from 0 up, got {text!r}")
    return number


def positive(text: str) -> int:
    """A whole number above 0; raises ArgumentTypeError for anything else."""
    if (number := whole(text)) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number above 0, got {text!r}")
    return number


def _beside(path: Path) -> str:
    """The contents of the nearest existing folder above, and the most similar name."""
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    meant = nearest(path.relative_to(folder).parts[0] if path.is_relative_to(folder) else path.name, names)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return (f"did you mean {folder / meant}? " if meant else "") + f"in {folder}: {listed or 'nothing'}"
