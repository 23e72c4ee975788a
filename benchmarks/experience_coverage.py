"""How much better reachability-aware scenes cover the reachable scenes than the same number of uniform ones."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np

from embodichain.config import WorldConfig
from embodichain.errors import SceneError
from embodichain.expand.diversity import DiversityConfig, gain
from embodichain.prepare import prepare
from embodichain.stages import SceneStage
from embodichain.world import World

REACHABLE = 300
"""Number of uniform scenes, of a separate seed, that represent what can be reached."""


def coverage(name: str, count: int, runs: int) -> dict[str, Any]:
    """Both ratios of `diversity.gain` for `count` scenes of one task, mean and spread over `runs` seeds, and seconds per scene."""
    world = prepare(WorldConfig(tasks=(name,), width=16, height=16), lambda what, done, total: None)
    reachable, _ = _features(world, 1_000_000, REACHABLE, DiversityConfig())
    shares, distances, costs = [], [], []
    for run in range(runs):
        uniform, plain_s = _features(world, 2 * run + 1, count, DiversityConfig())
        diverse, chosen_s = _features(world, 2 * run + 2, count, DiversityConfig(enabled=True))
        share, nearer = gain(diverse, uniform, reachable)
        shares.append(share)
        distances.append(nearer)
        costs.append((plain_s, chosen_s))
    return {
        "task": name,
        "count": count,
        "runs": runs,
        "coverage": round(statistics.mean(shares), 3),
        "coverage_spread": [round(min(shares), 3), round(max(shares), 3)],
        "distance": round(statistics.mean(distances), 3),
        "distance_spread": [round(min(distances), 3), round(max(distances), 3)],
        "scenes_per_s": [round(count / statistics.mean(cost)) for cost in zip(*costs, strict=True)],
    }


def _features(world: World, seed: int, count: int, diversity: DiversityConfig) -> tuple[np.ndarray, float]:
    """Features [N, F] of the first `count` scenes of a run with this seed, and the time to sample them [s]."""
    stage = SceneStage(replace(world, config=replace(world.config, seed=seed, diversity=diversity)))
    found, number, started = [], 0, time.process_time()
    while len(found) < count:
        try:
            found.append(stage.features(number))
        except SceneError:
            assert number < 20 * count, f"hardly any scene of {world.config.tasks} is possible"
        number += 1
    return np.array(found), time.process_time() - started
