"""Atomic file writes: at any moment, also after a crash, readers find the complete old file or the complete new one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embodichain.errors import ConfigError

__all__ = ["PARTIAL", "check_lerobot", "read_json", "remove_partials", "replacing", "write_json", "write_text"]

PARTIAL = ".partial"
"""Suffix of a file that is being written; no reader of data sets opens such files."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to; it is renamed to `path` when the block ends, or removed when the block raises."""
    partial = path.with_name(path.name + PARTIAL)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(paths: Iterable[Path]) -> None:
    """Removes what a writer that died left of these files."""
    for path in paths:
        path.with_name(path.name + PARTIAL).unlink(missing_ok=True)


def check_lerobot(folder: Path) -> None:
    """Raises ConfigError unless a LeRobot data set is in `folder`; what is in it is for `LeRobotFolder` to judge."""
    if not (folder / "meta" / "info.json").exists():
        what = "it has no meta/info.json" if folder.is_dir() else "there is no such folder"
        raise ConfigError(f"{folder} is no LeRobot data set: {what}")


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Writes plain values as a JSON file, atomically."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises ConfigError when it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
