"""Stages of `gpu.py` that call other scripts: what can be measured on a CPU, and what a card draws."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
Figures = dict[str, Any]


def _script(name: str) -> Any:
    """A script beside this one, as a module."""
    return importlib.import_module(name)


def reels(_device: str, quick: bool) -> Figures:
    """Whether the three ways to render a stream give the same bytes, and the cost of the two deferred ones over the first."""
    return _script("reels").measure(quick)


def darkroom(device: str, quick: bool) -> Figures:
    """Pictures a second that a card draws, and how many of their pixels are not the CPU's. On a CPU, of a small load made here."""
    stage = _script("gpu_darkroom")
    if device == "cuda":
        return stage.measure(ROOT / ".gpu" / "b" / "load", device, quick)
    with tempfile.TemporaryDirectory() as folder:
        stage.write(Path(folder), frames=2, size=64, tasks=("turn_switch",))
        return stage.measure(Path(folder), device, quick)


def sm90(_device: str, quick: bool) -> Figures:
    """How many modules of the ray caster, the renderer on a GPU, compile for compute capability 9.0 here."""
    return _script("gpu_modules").measure(quick)


def pack(_device: str, _quick: bool) -> Figures:
    """Size of the pack for the stages that need a GPU."""
    done = subprocess.run(
        [sys.executable, str(HERE / "gpu_pack.py"), "--json"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert not done.returncode, done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def worlds(_device: str, quick: bool) -> Figures:
    """Whether experts earn the same verdicts in worlds of MuJoCo Warp as in those of MuJoCo C, and what a control step costs."""
    return _script("gpu_worlds").measure(quick)
