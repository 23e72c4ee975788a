"""Freezes the suites of this folder: for each task a set in and one out of distribution, and the expert's rate in the first scenes.

    python scenes/freeze.py TASK ...        both suites of each task
    python scenes/freeze.py TASK/out ...    one of them; suites that are in use should stay as they are

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
PLAYED = 10
"""First scenes that the expert plays for its rate."""
MORE = {"rank_blocks_by_size": {"block": 6}}
"""Instances by category of the suites out of distribution, where two have no three sizes that differ enough to be ranked."""


def main(names: list[str]) -> None:
    """Freezes the suites with these names, of the form TASK, TASK/in or TASK/out."""
    for name in names:
        task, _, which = name.partition("/")
        for one in (which,) if which else ("in", "out"):
            _freeze(task, one)


def _freeze(name: str, which: str) -> None:
    """Freezes one suite of a task, plays its first scenes and writes both into this folder."""
    trained = WorldConfig(tasks=(name,), visual=VisualConfig(enabled=True), physical=PhysicalConfig(enabled=True))
    split, config = Split.HELD_OUT, trained
    if which == "out":
        assets = replace(trained.assets, counts={**trained.assets.counts, **MORE.get(name, {})})
        split, config = Split.BEYOND, shifted(replace(trained, assets=assets), Shift.ALL)
    elif which != "in":
        raise SystemExit(f"no suite {name}/{which}: a task has {name}/in and {name}/out")
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
    sys.stdout.write(f"{path.relative_to(HERE)}: expert {sum(successes)} of {len(successes)}\n")
    sys.stdout.flush()
    assert Suite.read(path) == replace(suite, expert=rate)


if __name__ == "__main__":
    main(sys.argv[1:])
