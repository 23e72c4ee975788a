"""Processor time of Meta-World through our source against Meta-World by itself; a part of `exchange.py`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from embodichain.config import WorldConfig
from embodichain.episode import Episode, NoPictures
from embodichain.motion.action import ActionCodec
from embodichain.physics.foreign.wire import INTERPRETER, interpreter
from embodichain.prepare import prepare
from embodichain.rollout import ExpertPilot, drive
from embodichain.stages import SceneStage

_HERE = Path(__file__).parent
_DONE = 0.9
"""Least share of episodes in which the experts must succeed, on either side."""
_TASKS = ("reach-v3", "drawer-open-v3", "door-open-v3", "pick-place-v3")


def python() -> Path:
    """The interpreter that `make bench-exchange` makes, or else the one that runs use."""
    made = _HERE.parent / ".venv-foreign/bin/python"
    return made if made.exists() else interpreter()


def steps(foreign: Path, *, quick: bool) -> dict[str, Any]:
    """The median ratio over alternating turns, both rates, and the number of turns; None for each without Meta-World."""
    if not foreign.exists():
        return {"metaworld_steps_per_s_over_bare": None}
    os.environ[INTERPRETER] = str(foreign)
    ours = _Ours()
    rates: list[tuple[float, float]] = []
    with _Bare(foreign) as theirs:
        for turn in range(3 if quick else 9):
            for task in _TASKS:
                seeds = range(100 * turn, 100 * turn + (4 if quick else 8))
                if turn == 0:  # a first turn loads models and compiles functions
                    ours.rate(task, seeds[:1])
                    theirs.rate(task, seeds[:1])
                rates.append((ours.rate(task, seeds), theirs.rate(task, seeds)))
    ours.close()
    if ours.done < _DONE * ours.played or theirs.done < _DONE * theirs.played:
        raise SystemExit(
            f"of {ours.played} episodes {ours.done} are done through our source, and {theirs.done} in Meta-World itself"
        )
    return {
        "metaworld_steps_per_s_over_bare": round(statistics.median(a / b for a, b in rates), 3),
        "metaworld_steps_per_s": round(statistics.median(a for a, _ in rates)),
        "metaworld_bare_steps_per_s": round(statistics.median(b for _, b in rates)),
        "metaworld_turns": len(rates),
    }


class _Ours:
    """Our source as in a stream: scenes of a seed, scripted episodes, trajectories written, no images rendered."""

    def __init__(self) -> None:
        self._world = prepare(
            WorldConfig(tasks=tuple(f"metaworld:{name}" for name in _TASKS), width=16, height=16, painter="raster")
        )
        self._physics = self._world.make_physics()
        self._scenes = SceneStage(self._world, physics=self._physics)
        self._codec, self._spec = ActionCodec(self._world.robot), self._world.trajectory_spec
        self._out = self._spec.allocate()
        self.played = self.done = 0
        """Number of episodes, and of successful ones."""

    def rate(self, task: str, numbers: range) -> float:
        """Control steps per second of processor time, of this process and Meta-World's together."""
        count, before = 0, self._seconds()
        for number in numbers:
            chosen, scene = self._scenes.step(number * len(_TASKS) + _TASKS.index(task))
            pilot = ExpertPilot(chosen, scene, self._physics, np.random.default_rng(scene.seed))
            episode = Episode(scene, pilot, chosen.grader(scene), self._codec, NoPictures(), self._out, self._spec)
            count += sum(1 for _ in drive(self._physics, scene, episode)) - 1
            self.played += 1
            self.done += episode.finish().verdict.success
        return count / (self._seconds() - before)

    def close(self) -> None:
        """Ends Meta-World's process."""
        self._physics.close()

    @staticmethod
    def _seconds() -> float:
        """Processor time of this process and of Meta-World's host processes [s]."""
        hosts = [child for child in psutil.Process().children() if any("metaworld_host" in word for word in child.cmdline())]
        return time.process_time() + sum(sum(child.cpu_times()[:2]) for child in hosts)


class _Bare:
    """Meta-World by itself, in a process of its own environment."""

    def __init__(self, foreign: Path) -> None:
        command = [str(foreign), str(_HERE / "peers/metaworld_loop.py")]
        quiet = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet)
        self.played = self.done = 0

    def __enter__(self) -> _Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.communicate()

    def rate(self, task: str, seeds: range) -> float:
        """Control steps per second of that process's processor time."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps({"task": task, "seeds": list(seeds)}) + "\n")
        self._child.stdin.flush()
        said = json.loads(self._child.stdout.readline())
        self.played += len(seeds)
        self.done += said["successes"]
        return said["steps"] / said["seconds"]
