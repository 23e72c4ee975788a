"""JSON for programs, and files of JSON objects, one a line, that survive full disks and kills.

Lines are written whole, and readers skip torn ones.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from embodichain.errors import RunError

__all__ = [
    "append_line",
    "json_lines",
    "open_lines",
    "strict_json",
]


def open_lines(path: Path, remedy: str) -> int:
    """A descriptor for `append_line`. Raises RunError, which ends with `remedy`, when the file cannot be written."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; {remedy}") from error


def append_line(descriptor: int, line: str, path: Path, remedy: str) -> None:
    """Appends one whole line or nothing: on a full disk the file is truncated to its old size, and RunError is raised.

    If an earlier process left a half line at the end, it is closed first, so that the new line stands alone.
    """
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = memoryview(f"{chr(10) if is_torn else ''}{line}\n".encode())
        try:
            while data:  # the kernel may write less than requested
                data = data[os.write(descriptor, data) :]
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; {remedy}") from error


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in a file, one a line; empty when there is no file. Lines torn by a crash are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def strict_json(values: Any) -> str:
    """The values as JSON that browsers and other strict parsers take: null for numbers that are not finite, text for other objects.

    Python's own writes NaN and Infinity, which JSON does not have.
    """
    try:
        return json.dumps(values, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(values), default=str, allow_nan=False)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
