"""The Efficiency Law: the loss as a function of E, the experience that each training iteration reads for the first time.

E is the number of state-action pairs that an iteration reads for the first time. Loss is fitted as
    loss(E) = floor + scale E^-exponent,
the form in which losses fall with data (Hestness et al. 2017, "Deep Learning Scaling is Predictable, Empirically"; with the
irreducible part, Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", section 3.3): it saturates at the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar, nnls

from embodichain.errors import ConfigError, RunError
from embodichain.metrics import read_metrics, without_undone
from learner.records.run_folder import RunFolder
from learner.reporting import charts

_EXPONENTS = (0.02, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyFit:
    """loss(E) = floor + scale E^-exponent, fitted."""

    floor: float
    """The loss that remains with unlimited experience, at this compute and model size."""
    scale: float
    exponent: float
    residual: float
    """Root mean square of the residuals."""
    floor_interval: tuple[float, float]
    """95% interval of the floor, by bootstrap over residuals."""
    exponent_interval: tuple[float, float]

    def loss(self, experience: ArrayLike) -> NDArray[np.float64]:
        """The fitted loss at given values of E."""
        return self.floor + self.scale * np.asarray(experience, np.float64) ** -self.exponent

    def threshold(self, excess: float = 0.05) -> float:
        """The E above which the loss is within the share `excess` of its floor, so that more experience helps little."""
        if self.scale == 0.0:
            return 0.0
        return float("inf") if self.floor == 0.0 else (self.scale / (excess * self.floor)) ** (1.0 / self.exponent)


def fit_efficiency(experience: ArrayLike, losses: ArrayLike, *, rng: np.random.Generator, resamples: int = 200) -> EfficiencyFit:
    """Fits loss against E by least squares, with non-negative floor and scale.

    Args:
        experience: E of each point, positive.
        losses: loss of each point.
        rng: draws the bootstrap samples for the intervals.
        resamples: number of bootstrap samples.

    Raises:
        ConfigError: fewer than four points or three different E, or values that are not positive and finite.
    """
    x, y = np.asarray(experience, np.float64), np.asarray(losses, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 4 or len(np.unique(x)) < 3:
        raise ConfigError(f"the fit needs at least four points at three different E, got {len(x)} at {len(np.unique(x))}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all()):
        raise ConfigError("the fit needs finite losses and positive E")
    floor, scale, exponent = _least_squares(x, y)
    predicted = floor + scale * x**-exponent
    residuals = y - predicted
    redrawn = np.array([_least_squares(x, predicted + rng.choice(residuals, len(x))) for _ in range(resamples)])
    low, high = np.percentile(redrawn, [2.5, 97.5], axis=0) if resamples else (np.zeros(3), np.zeros(3))
    return EfficiencyFit(
        floor=floor,
        scale=scale,
        exponent=exponent,
        residual=float(np.sqrt(np.mean(residuals**2))),
        floor_interval=(float(low[0]), float(high[0])),
        exponent_interval=(float(low[2]), float(high[2])),
    )


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Floor, scale and exponent. The fit is linear in floor and scale; the exponent is searched on a grid, then refined."""
    unit = float(np.exp(np.log(x).mean()))  # E relative to its geometric mean, so that both columns of the fit are of order one

    def solve(log_exponent: float) -> tuple[NDArray[np.float64], float]:
        columns = np.stack([np.ones_like(x), (x / unit) ** -np.exp(log_exponent)], axis=1)
        return nnls(columns, y)

    grid = np.linspace(np.log(_EXPONENTS[0]), np.log(_EXPONENTS[1]), 40)
    best = int(np.argmin([solve(value)[1] for value in grid]))
    span = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    found = minimize_scalar(lambda value: solve(value)[1], bounds=span, method="bounded", options={"xatol": 1e-6})
    (floor, scale), _ = solve(float(found.x))
    exponent = float(np.exp(found.x))
    return float(floor), float(scale) * unit**exponent, exponent


def windowed(values: Sequence[float], points: int) -> NDArray[np.float64]:
    """Splits a noisy curve into `points` stretches of about equal length and returns their means."""
    parts = np.array_split(np.asarray(values, np.float64), min(points, len(values)))
    return np.array([np.mean(part) for part in parts], np.float64)


_LAST = 0.2
"""The loss of a run is the mean over this last share of its steps."""


def point(folder: RunFolder, measure: str) -> tuple[float, float]:
    """E per iteration of a run, and the value of `measure`: a final loss, or the policy's failure rate in held-out scenes.

    Raises RunError when the run has no such figure.
    """
    summary = folder.read_summary()
    experience = float(summary["unique_pairs_per_iteration"])
    if measure == "failure":
        rows = [row for row in summary["evaluation"] if row["pilot"] == "policy"]
        if not rows:
            raise RunError(f"{folder.path} was not evaluated: run it with --episodes, or fit a loss")
        return experience, 1.0 - sum(row["successes"] for row in rows) / sum(row["episodes"] for row in rows)
    losses = [record[measure] for record in without_undone(read_metrics(folder.metrics, "train")) if measure in record]
    if not losses:
        raise RunError(f"{folder.path} has no {measure!r} in its metrics: it made no step")
    return experience, float(np.mean(losses[-max(1, round(_LAST * len(losses))) :]))


def draw(points: Sequence[tuple[float, float]], law: EfficiencyFit, measure: str) -> str:
    """An SVG chart with runs as points and the fit as a line."""
    pairs, values = (list(column) for column in zip(*sorted(points), strict=True))
    x = np.geomspace(pairs[0], pairs[-1], 100)
    note = f"{law.floor:.2f} + {law.scale:.3g} E^-{law.exponent:.2f}"
    label = "E: new state-action pairs an iteration"
    return charts.efficiency(pairs, values, (x.tolist(), law.loss(x).tolist()), x=label, y=measure, note=note)
