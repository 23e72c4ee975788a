"""Kinds of values on the learner's command lines, checked before anything heavy is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from embodichain.command_line import existing
from learner.records.shipped import BUILTIN, shipped


def trained(text: str) -> Path:
    """A run folder, a checkpoint, a policy file, or builtin:NAME; raises ConfigError or RunError when there is none."""
    if text.startswith(BUILTIN):
        shipped(text.removeprefix(BUILTIN))
        return Path(text)
    return existing(text)


def run_folder(text: str) -> Path:
    """The folder of a run; raises RunError when there is none, naming those beside it."""
    from learner.records.run_folder import RunFolder

    return RunFolder.open(Path(text)).path


def flag(parser: argparse.ArgumentParser, name: str, help_text: str) -> None:
    """Adds an option that is either there or not, and that may be said to be `True` or `False`."""
    choices = ("True", "False")
    parser.add_argument(name, nargs="?", const="True", default="False", choices=choices, metavar="True|False", help=help_text)
