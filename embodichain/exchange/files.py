"""Files that are written whole or not at all: whoever reads, or dies, at any moment finds the old file or the new one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embodichain.errors import ConfigError

__all__ = ["PARTIAL", "read_json", "replacing", "write_json", "write_text"]

PARTIAL = ".partial"
"""What the name of a file ends in while it is being written: no reader of data sets looks for such names."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields where to write; the file gets its name when the block ends well, and is gone when it does not."""
    partial = path.with_name(path.name + PARTIAL)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Writes plain values as a JSON file, whole."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises ConfigError when it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
