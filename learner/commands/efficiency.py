"""`embodichain efficiency RUN RUN ...`: fits what several runs reached against the experience of each of their iterations."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from embodichain.errors import RunError, unknown
from embodichain.metrics import read_metrics
from learner.records.run_folder import RunFolder
from learner.reporting import charts
from learner.reporting.efficiency import EfficiencyFit, fit_efficiency

MEASURES = ("loss", "loss_video", "loss_action", "failure")
_LAST = 0.2
"""A run's loss is the mean over this share of its steps, the last ones."""


def point(folder: RunFolder, measure: str) -> tuple[float, float]:
    """E per iteration of a run, and its loss at the end or the policy's share of failures in held-out scenes.

    Raises RunError when the run has no such figure.
    """
    if not folder.summary.exists():
        raise RunError(f"{folder.path} has no summary: the run has not ended")
    summary: dict[str, Any] = json.loads(folder.summary.read_text(encoding="utf-8"))
    experience = float(summary["unique_pairs_per_iteration"])
    if measure == "failure":
        rows = [row for row in summary["evaluation"] if row["pilot"] == "policy"]
        if not rows:
            raise RunError(f"{folder.path} was not evaluated: run it with --episodes, or fit a loss")
        return experience, 1.0 - sum(row["successes"] for row in rows) / sum(row["episodes"] for row in rows)
    losses = [record[measure] for record in read_metrics(folder.metrics, "train") if measure in record]
    if not losses:
        raise RunError(f"{folder.path} has no {measure!r} in its metrics: it made no step")
    return experience, float(np.mean(losses[-max(1, round(_LAST * len(losses))) :]))


def draw(points: Sequence[tuple[float, float]], law: EfficiencyFit, measure: str) -> str:
    """The picture: runs as points, the fit as a line, SVG."""
    pairs, values = (list(column) for column in zip(*sorted(points), strict=True))
    x = np.geomspace(pairs[0], pairs[-1], 100)
    note = f"{law.floor:.2f} + {law.scale:.3g} E^-{law.exponent:.2f}"
    label = "E: new state-action pairs an iteration"
    return charts.efficiency(pairs, values, (x.tolist(), law.loss(x).tolist()), x=label, y=measure, note=note)


def main(arguments: list[str]) -> int:
    """`embodichain efficiency`."""
    parser = argparse.ArgumentParser(prog="embodichain efficiency", description="Fit the Efficiency Law across runs.")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders: four or more, with at least three different E")
    parser.add_argument("--measure", default="loss", help=f"what should fall with E: {', '.join(MEASURES)}")
    parser.add_argument("--picture", type=Path, help="where to draw it, an SVG file")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(arguments)
    if options.measure not in MEASURES:
        raise unknown("measure", options.measure, MEASURES)
    points = [point(RunFolder.open(path), options.measure) for path in options.runs]
    law = fit_efficiency(*zip(*points, strict=True), rng=np.random.default_rng(0))
    if options.picture is not None:
        options.picture.write_text(draw(points, law, options.measure), encoding="utf-8")
    if options.json:
        rows = [{"run": str(path), "experience": e, options.measure: y} for path, (e, y) in zip(options.runs, points, strict=True)]
        print(json.dumps({**asdict(law), "threshold": law.threshold(), "runs": rows}))
        return 0
    for path, (experience, value) in sorted(zip(options.runs, points, strict=True), key=lambda row: row[1]):
        print(f"{path.name:<32} E {experience:10.1f}   {options.measure} {value:8.4f}   fit {float(law.loss(experience)):8.4f}")
    low, high = law.floor_interval
    print(f"{options.measure} = {law.floor:.3f} + {law.scale:.4g} E^-{law.exponent:.3f}; floor {low:.3f} to {high:.3f} (95%)")
    print(f"within 5% of the floor above E = {law.threshold():,.0f}")
    return 0
