"""How a checkpoint comes onto the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

__all__ = ["InPlace", "sync_folder"]


class InPlace(TorchCheckpointIO):
    """Writes checkpoints where they are asked for, and waits until they are on the disk.

    Lightning's own writes them into the folder of temporary files first, which may have no room, and to no disk in particular.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes one checkpoint; OSError or RuntimeError when it cannot be written."""
        with Path(path).open("wb") as file:
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
