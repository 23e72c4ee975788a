"""The tensors of a local checkpoint by name, each read only when it is asked for.

Folders of safetensors can be read, and single files of Lightning or DeepSpeed (`.ckpt`, `.pt`), from which nothing but tensors and
plain values is unpickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from embodichain.errors import LearnerError

TensorFiles = Mapping[str, Callable[[str], Tensor]]
"""For each tensor of a checkpoint, a function that reads it, given its name."""
_PICKLED = (".ckpt", ".pt")
_STATES = ("state_dict", "module")
"""Under which keys Lightning and DeepSpeed store the weights."""
_ATTRIBUTE = "model."
"""What a training module puts before the names of its model's weights."""


def tensor_files(folder: Path, what: str) -> TensorFiles:
    """The tensors in all `*.safetensors` of `folder`, or of its subfolder `transformer`; it may also be a `.ckpt` or `.pt` file.

    Raises LearnerError, which names the wanted checkpoint as `what`, where there is none, for a file that cannot be read, and for a
    tensor that two files contain.
    """
    if folder.suffix in _PICKLED and folder.is_file():
        return _pickled(folder)
    inner = folder / "transformer"
    paths = sorted((inner if inner.is_dir() else folder).glob("*.safetensors"))
    if not paths:
        raise LearnerError(f"no *.safetensors in {folder} or {inner}: give the folder of a downloaded {what} checkpoint")
    found: dict[str, Callable[[str], Tensor]] = {}
    homes: dict[str, Path] = {}
    for path in paths:
        try:
            file = safe_open(path, framework="pt")
            names = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise LearnerError(f"{path} is no safetensors file: {error}") from error
        for name in names:
            if name in homes:
                raise LearnerError(
                    f"the tensor {name} is in {homes[name].name} and in {path.name}, and only one can count: leave the shards of "
                    f"one checkpoint in {path.parent}"
                )
        homes |= dict.fromkeys(names, path)
        found |= dict.fromkeys(names, file.get_tensor)
    return found


def _pickled(path: Path) -> TensorFiles:
    """The tensors of a training module's attribute `model`, mapped from the file."""
    try:
        saved: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LearnerError(
            f"{path} cannot be read as weights alone: {first}; give a file of Lightning or DeepSpeed that holds tensors and plain "
            "values, or a folder of safetensors"
        ) from error
    states = [saved[key] for key in _STATES if isinstance(saved, dict) and isinstance(saved.get(key), dict)]
    tensors = {name: value for name, value in (states[0] if states else {}).items() if isinstance(value, Tensor)}
    found = {name.removeprefix(_ATTRIBUTE): value for name, value in tensors.items() if name.startswith(_ATTRIBUTE)}
    if not found:
        keys = ", ".join(sorted(map(str, saved))[:5]) if isinstance(saved, dict) else type(saved).__name__
        raise LearnerError(
            f"{path} holds no weights of a training module's attribute model: expected names that begin with {_ATTRIBUTE!r} under "
            f"{' or '.join(_STATES)}, found {keys}"
        )
    return dict.fromkeys(found, found.__getitem__)
