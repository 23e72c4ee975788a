"""How a checkpoint comes onto the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["sync_folder", "write"]


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes one checkpoint, and waits until it is on the disk; raises OSError or RuntimeError when it cannot be written."""
    with path.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, as after a file was renamed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
