"""What a build process runs. Imports nothing heavy, so that the core limit is set before any library counts the cores."""

from __future__ import annotations

import os
from pathlib import Path


def use_one_core() -> None:
    """Keeps native libraries to one thread: the processes are the parallelism."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def build_file(category: str, seed: int, out_dir: Path) -> Path:
    """`optimize.build`, returning the file alone: the asset travels as its file."""
    from embodichain.assets.optimize import build

    return build(category, seed, out_dir).path
