"""Argument types of the learner's command lines; they are checked before torch or MuJoCo is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from embodichain.command_line import existing
from learner.records.shipped import BUILTIN, shipped


def trained(text: str) -> Path:
    """The path of a run folder, a checkpoint, a policy file or builtin:NAME; raises ConfigError or RunError if there is none."""
    if text.startswith(BUILTIN):
        shipped(text.removeprefix(BUILTIN))
        return Path(text)
    return existing(text)


def run_folder(text: str) -> Path:
    """The folder of a run; if there is none, raises RunError, which lists the runs next to the given path."""
    from learner.records.run_folder import RunFolder

    return RunFolder.open(Path(text)).path


def flag(parser: argparse.ArgumentParser, name: str, help_text: str) -> None:
    """Adds a switch to the parser that may also be given as `--name True` or `--name False`."""
    choices = ("True", "False")
    parser.add_argument(name, nargs="?", const="True", default="False", choices=choices, metavar="True|False", help=help_text)
