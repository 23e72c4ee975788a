"""How a checkpoint comes onto the disk, and what can be told of one before a run is built."""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from embodichain.errors import LearnerError
from learner.records.weight_files import mismatches

__all__ = ["STREAM", "check_resumable", "saved_stream_state", "sync_folder", "write"]

STREAM = "RingDataModule"
"""The name under which a checkpoint keeps the state of the stream: that of the data module."""
_UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, OSError, EOFError, UnpicklingError)
"""What comes of reading something else as a checkpoint: of a missing key to a file that may not be read."""


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


def saved_stream_state(checkpoint: Path) -> dict[str, Any]:
    """The state of `RingDataModule` in a checkpoint, readable before a run is built; raises LearnerError when there is none."""
    if not checkpoint.exists():
        raise LearnerError(f"no checkpoint at {checkpoint}: the run ended before its first; start it again in a new folder")
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)[STREAM]
    except _UNREADABLE as error:
        raise LearnerError(f"{checkpoint} is no training checkpoint that this version reads: {error!r:.300}") from error


def check_resumable(module: nn.Module, checkpoint: Path) -> int:
    """The step of a checkpoint; raises LearnerError, listing mismatches, when this module cannot continue from it."""
    if not checkpoint.exists():
        raise LearnerError(f"no checkpoint at {checkpoint}: the run ended before its first; start it again in a new folder")
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)  # only names and shapes are looked at
        step, weights = int(saved["global_step"]), saved["state_dict"]
        missing = [name for name in ("average", "new_pairs", "optimizer_states") if name not in saved]
    except _UNREADABLE as error:
        raise LearnerError(f"{checkpoint} is no training checkpoint that this version reads: {error!r:.300}") from error
    problems = mismatches(module.state_dict(), weights) + [f"missing {name}" for name in missing]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise LearnerError(
            f"checkpoint {checkpoint} does not fit this configuration: {shown}; resume with the configuration it was made with, "
            "or start a new run"
        )
    return step
