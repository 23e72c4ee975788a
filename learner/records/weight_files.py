"""Reads and writes `.safetensors` files with weights and metadata about their format. Reading executes no code from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embodichain.errors import LearnerError, RunError
from learner.records.files import replacing


def write_weights(path: Path, weights: Mapping[str, Tensor], *, form: str, **metadata: str) -> None:
    """Writes `weights` with `metadata` atomically; `form` names the format. Raises RunError when the file cannot be written."""
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file(tensors, partial, {"format": form, **metadata})
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write {path}: {error}; free some space, or choose another folder") from error


def read_weights(path: Path, *, form: str, advice: str, only_metadata: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights (none if `only_metadata`) and metadata of a file in the format `form`.

    Raises LearnerError for any other file; the message ends with `advice` when the format differs.
    """
    if not path.exists():
        raise LearnerError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {} if only_metadata else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a mapping
    except (SafetensorError, OSError) as error:
        raise LearnerError(f"{path} is no safetensors file: {error}") from error
    if metadata.get("format") != form:
        raise LearnerError(
            f"{path} has the format {metadata.get('format', 'of other software')!r}, this version reads {form!r}: {advice}"
        )
    return weights, metadata


def mismatches(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Lists how `other` differs from the weights `own`: missing names, unexpected names, other shapes."""
    problems = [f"missing {name}" for name in own.keys() - other.keys()]
    problems += [f"unexpected {name}" for name in other.keys() - own.keys()]
    problems += [
        f"{name}: {list(other[name].shape)} instead of {list(own[name].shape)}"
        for name in own.keys() & other.keys()
        if own[name].shape != other[name].shape
    ]
    return sorted(problems)
