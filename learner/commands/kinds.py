"""Argument types of the learner's command lines; they are checked before torch or MuJoCo is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from embodichain.command_line import existing, positive
from embodichain.errors import ConfigError
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


_MOST_THREADS = 1024


def threads(text: str) -> int:
    """A number of CPU threads; raises ArgumentTypeError for one that no library could start."""
    if (number := positive(text)) > _MOST_THREADS:
        raise argparse.ArgumentTypeError(f"takes at most {_MOST_THREADS} threads, got {number}")
    return number


def device(text: str) -> str:
    """The name of a device as torch has it: cpu, cuda or cuda:N; raises ArgumentTypeError for another."""
    kind, colon, number = text.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise argparse.ArgumentTypeError(f"takes cpu, cuda or cuda:N, got {text!r}")
    return text


def check_device(name: str | None) -> str:
    """A device that torch can use here, by default the GPU when there is one; raises ConfigError when it cannot."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not name:
        return "cuda" if count else "cpu"
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
        raise ConfigError(
            f"there is no device {name!r} here: torch {torch.__version__} sees {count} GPUs; choose cpu, or leave it out"
        )
    return name
