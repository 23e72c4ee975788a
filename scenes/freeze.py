"""Freezes the suites of this folder: for each task a set in and one out of distribution, and the expert's rate in the first scenes.

    python scenes/freeze.py TASK ...

Assets of the training catalogue, with looks and physics varied as in training, make the set in distribution, in held-out scenes.
Out of distribution are other instances, looks and physics beyond those ranges, wider placement, and words that no stream has.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from embodichain.config import WorldConfig
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.resimulation.suites import Rate, Suite, freeze, play
from embodichain.rollout import ExpertPilot
from embodichain.world import Split
from learner.evaluation.config import Shift
from learner.evaluation.held_out import shifted

HERE = Path(__file__).parent
SCENES = 20
"""Scenes of each suite."""
PLAYED = 3
"""First scenes that the expert plays for its rate."""


def main(names: list[str]) -> None:
    """Freezes the suites of these tasks."""
    for name in names:
        trained = WorldConfig(tasks=(name,), visual=VisualConfig(enabled=True), physical=PhysicalConfig(enabled=True))
        for which, split, config in (
            ("in", Split.HELD_OUT, trained),
            ("out", Split.BEYOND, shifted(trained, Shift.ALL)),
        ):
            world = prepare(config)
            suite = freeze(f"{name}/{which}", world, split, SCENES)
            pilot = play(
                suite,
                world,
                lambda task, scene, physics: ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed)),
                pictures=False,
                count=PLAYED,
            )
            successes = [one.outcome.verdict.success for one in pilot]
            rate = Rate(successes=sum(successes), episodes=len(successes)) if successes else None
            path = replace(suite, expert=rate).write(HERE / name / f"{which}.yaml")
            sys.stdout.write(f"{path}: expert {sum(successes)} of {len(successes)}\n")
            assert Suite.read(path) == replace(suite, expert=rate)


if __name__ == "__main__":
    main(sys.argv[1:])
