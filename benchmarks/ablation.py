"""The ablation of experience in and out of distribution: the held-out loss of every trial of a sweep on the same three sets.

    embodichain sweep law_cpu --ablation expansion --seeds 0-2 --out runs/ablation
    python benchmarks/ablation.py runs/ablation --json

A trial's own held-out loss is measured in its own world, so trials of different stages cannot be compared by it. Here each trial's
averaged weights are measured on expert episodes of the first stage's world (`in_first`), of the last stage's world (`in_last`), and
of the last stage's world with other instances, looks and physics than any trial has met (`out`); episodes, windows and noise are
the same for all trials. `factors` compares a stage with the first one, seed by seed.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch

from embodichain.config import WorldConfig
from embodichain.prepare import prepare
from learner.evaluation.config import Shift
from learner.evaluation.held_out import shifted
from learner.inference.policy_file import load_agent
from learner.records.run_folder import RunFolder
from learner.reporting.sweep import interval
from learner.runs.held_out_loss import expert_episodes, fixed_batches, losses_on
from learner.runs.options import run_config
from learner.runs.sweep import STAGES

EPISODES = 32


def trials(folder: Path) -> dict[str, dict[int, Path]]:
    """Finished trials of the sweep: run folders by stage and seed."""
    found: dict[str, dict[int, Path]] = {}
    for stage in STAGES:
        for path in sorted(folder.glob(f"{stage}_s*")):
            if (path / "summary.json").exists():
                found.setdefault(stage, {})[int(path.name.removeprefix(f"{stage}_s"))] = path
    return found


def worlds(found: dict[str, dict[int, Path]]) -> dict[str, WorldConfig]:
    """The three worlds that everything is measured in; of the smallest seed."""
    stages = list(found)
    first, last = (run_config(RunFolder.open(found[stage][min(found[stage])])).world for stage in (stages[0], stages[-1]))
    return {"in_first": first, "in_last": last, "out": shifted(last, Shift.ALL)}


def measured(found: dict[str, dict[int, Path]], episodes: int) -> dict[str, dict[str, dict[int, float]]]:
    """The action loss by set, stage and seed."""
    losses: dict[str, dict[str, dict[int, float]]] = {}
    for name, config in worlds(found).items():
        # Scene numbers are held out in every world; diversity would choose other scenes for the same numbers.
        world = prepare(replace(config, diversity=replace(config.diversity, enabled=False)), lambda what, done, total: None)
        played = expert_episodes(world, episodes)
        for stage, seeds in found.items():
            for seed, path in seeds.items():
                folder = RunFolder.open(path)
                agent = load_agent(folder.checkpoint).eval()
                batches = fixed_batches(played, run_config(folder).learner.data, agent, torch.device("cpu"))
                losses.setdefault(name, {}).setdefault(stage, {})[seed] = losses_on(agent, batches)["loss_action"]
    return losses


def table(losses: dict[str, dict[str, dict[int, float]]]) -> dict[str, Any]:
    """For each set and stage: the mean over seeds, and the factor over the first stage, each with its 95% interval over seeds."""
    rows: dict[str, Any] = {}
    for name, stages in losses.items():
        first = stages[next(iter(stages))]
        for stage, seeds in stages.items():
            mean, low, high = (round(value, 4) for value in interval(list(seeds.values())))
            logs = [float(np.log(value / first[seed])) for seed, value in seeds.items() if seed in first]
            factor = [round(float(np.exp(value)), 3) for value in interval(logs)]
            rows.setdefault(name, {})[stage] = {"seeds": len(seeds), "loss": mean, "low": low, "high": high, "factor": factor}
    return rows


def main() -> int:
    """0 when there was something to measure."""
    arguments = harness.parser(__doc__, "eight episodes a set")
    arguments.add_argument("folder", type=Path, help="the folder of the sweep")
    options = arguments.parse_args()
    found = trials(options.folder)
    if not found:
        raise SystemExit(
            f"no finished trial of {', '.join(STAGES)} in {options.folder}: run `embodichain sweep --ablation expansion`"
        )
    torch.set_num_threads(1)
    losses = measured(found, 8 if options.quick else EPISODES)
    harness.give({"action_loss": losses, "sets": table(losses)}, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
