"""Summarises the trials of a sweep by variant, with 95% intervals over seeds, from their run folders alone."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from embodichain.metrics import read_metrics, without_undone
from learner.records.run_folder import MEASURED, RunFolder

FIGURES = {
    "unique_pairs": "E: state-action pairs read for the first time, an iteration",
    "trajectories": "different trajectories that were read",
    "reads": "reads of a trajectory, mean",
    "age_s": "age of a trajectory at a read, median [s]",
    "held_out_loss": "loss on held-out episodes at the end",
    "held_out_action": "of this, the action's part",
    "train_action": "the action's part of the training loss, mean of the last fifth of the steps",
    "success": "share of held-out scenes in which the policy succeeds",
    "progress": "graders' mean progress of the policy, 0 to 1",
    "waited": "share of its time that the learner waited for trajectories",
    "wall_s": "from the first scene to the last step [s]",
}
"""Columns of the table, each with its meaning."""
_LAST = 0.2


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A run's held-out loss over training."""

    steps: NDArray[np.float64]
    elapsed_s: NDArray[np.float64]
    """Time of streaming and training [s], without the time of measuring."""
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One finished trial."""

    name: str
    variant: str
    seed: int
    figures: Mapping[str, float]
    """The figures of `FIGURES` that the run has."""
    curve: Curve | None
    successes: int
    episodes: int


def result(folder: RunFolder, *, name: str, variant: str, seed: int) -> Result:
    """Reads the results of a finished run."""
    summary = folder.read_summary()
    histogram = {int(reads): count for reads, count in summary["reads_histogram"].items()}
    policy = [row for row in summary["evaluation"] if row["pilot"] == "policy"]
    episodes, successes = sum(row["episodes"] for row in policy), sum(row["successes"] for row in policy)
    train, measured = (without_undone(read_metrics(folder.metrics, kind)) for kind in ("train", MEASURED))
    last = train[-max(1, round(_LAST * len(train))) :]
    trajectories = sum(histogram.values())
    figures = {
        "unique_pairs": summary["unique_pairs_per_iteration"],
        "trajectories": trajectories,
        "reads": summary["reads"] / max(1, trajectories),
        "age_s": summary["age_p50_s"],
        "waited": summary["learner_wait_share"],
    }
    if last and "loss_action" in last[0]:
        figures["train_action"] = float(np.mean([record["loss_action"] for record in last]))
    if measured:
        figures["held_out_loss"] = measured[-1]["loss"]
        figures["wall_s"] = measured[-1]["elapsed_s"]
        if "loss_action" in measured[-1]:
            figures["held_out_action"] = measured[-1]["loss_action"]
    if policy:
        figures["success"] = successes / episodes
        figures["progress"] = float(np.average([row["progress"] for row in policy], weights=[row["episodes"] for row in policy]))
    return Result(
        name=name,
        variant=variant,
        seed=seed,
        figures={key: float(figures[key]) for key in FIGURES if key in figures},
        curve=_curve(measured),
        successes=successes,
        episodes=episodes,
    )


def _curve(measured: Sequence[Mapping[str, float]]) -> Curve | None:
    """The held-out loss of actions, which decides the policy, or the total loss in models without that part."""
    if not measured:
        return None
    measure = "loss_action" if "loss_action" in measured[0] else "loss"
    columns = ([row[name] for row in measured] for name in ("step", "elapsed_s", measure))
    steps, elapsed_s, values = (np.asarray(column, np.float64) for column in columns)
    return Curve(steps=steps, elapsed_s=elapsed_s, values=values)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, lower and upper bound of the mean's 95% interval (Student's t over seeds); the bounds are nan for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def factors(results: Sequence[Result], measure: str = "held_out_action") -> list[dict[str, Any]]:
    """The ratio of `measure` in each variant to that in the variant with the largest E, at the same seed.

    Variants with the same seed see the same scenes in the same order and are measured on the same episodes, so that their ratio
    varies less than the values. Reported is the geometric mean over seeds with its 95% interval (Student's t on logarithms). The
    Efficiency Law predicts ratios above 1.
    """
    by_variant: dict[str, dict[int, Result]] = {}
    for row in results:
        if row.figures.get(measure, 0.0) > 0.0:
            by_variant.setdefault(row.variant, {})[row.seed] = row
    if not by_variant:
        return []
    best = max(by_variant, key=lambda name: np.mean([row.figures["unique_pairs"] for row in by_variant[name].values()]))
    found = []
    for name, mine in by_variant.items():
        common = sorted(mine.keys() & by_variant[best].keys()) if name != best else []
        if common:
            logs = [float(np.log(mine[seed].figures[measure] / by_variant[best][seed].figures[measure])) for seed in common]
            factor, low, high = (float(np.exp(value)) for value in interval(logs))
            found.append({"variant": name, "than": best, "seeds": len(common), "factor": factor, "low": low, "high": high})
    return found


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row for each variant, in order of first appearance: mean and 95% interval over seeds of each figure.

    The interval of `success` is a Wilson interval over all episodes of all seeds: Student's t would have zero width if all seeds
    fail.
    """
    rows: list[dict[str, Any]] = []
    for variant in dict.fromkeys(row.variant for row in results):
        mine = [row for row in results if row.variant == variant]
        row: dict[str, Any] = {"variant": variant, "seeds": len(mine)}
        for name in FIGURES:
            values = [one.figures[name] for one in mine if name in one.figures]
            if not values:
                continue
            mean, low, high = interval(values)
            if name == "success":
                counted = stats.binomtest(sum(one.successes for one in mine), sum(one.episodes for one in mine))
                wilson = counted.proportion_ci(0.95, "wilson")
                low, high = float(wilson.low), float(wilson.high)
            row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Writes a line for each trial, then one for each variant with its intervals; cells are empty if a run lacks the figure."""
    columns = ["row", "variant", "seed", "seeds", *(f"{n}{end}" for n in FIGURES for end in ("", "_low", "_high"))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for row in results:
            writer.writerow({"row": "trial", "variant": row.variant, "seed": row.seed, **row.figures})
        for line in table(results):
            writer.writerow({"row": "mean", **line})
