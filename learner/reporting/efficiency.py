"""The Efficiency Law: how much experience each training iteration takes in for the first time, and which loss that buys.

E is the number of state-action pairs that an iteration reads for the first time. Loss is fitted as
    loss(E) = floor + scale E^-exponent,
the form in which losses fall with data (Hestness et al. 2017, "Deep Learning Scaling is Predictable, Empirically"; with the
irreducible part, Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", section 3.3): it saturates at the floor.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar, nnls

from embodichain.errors import ConfigError
from learner.data.dataset import LeasedBatch
from learner.data.windows import Coverage

_EXPONENTS = (0.02, 4.0)


class Taken(NamedTuple):
    """What one training iteration was fed."""

    new_pairs: int
    """State-action pairs never read before: this iteration's E."""
    pairs: int
    """State-action pairs in all."""
    reads: float
    """Mean over its trajectories of how often each had been read, this time included."""
    age_s: float
    """Mean time since their publication [s]; 0 for sources that do not publish."""


class Experience:
    """Counts what a learner is fed, batch by batch. Remembers the `capacity` trajectories read last: more than any ring holds."""

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._capacity = capacity
        self._coverage = Coverage(capacity)
        self._counted: OrderedDict[int, int] = OrderedDict()
        self.new_pairs = 0
        """E summed over all iterations."""

    def take(self, batch: LeasedBatch) -> Taken:
        """Books one batch."""
        new = 0
        for view, count in zip(batch.windows, self._coverage.take(batch.windows), strict=True):
            new += count - self._counted.pop(view.trajectory_id, 0)
            self._counted[view.trajectory_id] = count
        while len(self._counted) > self._capacity:
            self._counted.popitem(last=False)
        self.new_pairs += new
        ages = getattr(batch.lease, "ages_s", None)
        return Taken(
            new_pairs=new,
            pairs=sum(view.action.shape[0] * view.action.shape[1] for view in batch.windows),
            reads=float(np.mean([view.read_index + 1 for view in batch.windows])),
            age_s=0.0 if ages is None else float(np.mean(ages)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyFit:
    """loss(E) = floor + scale E^-exponent, fitted."""

    floor: float
    """What no amount of experience takes away at this compute and model size."""
    scale: float
    exponent: float
    residual: float
    """Root mean square of what the fit leaves unexplained."""
    floor_interval: tuple[float, float]
    """95% interval of the floor, by resampling residuals."""
    exponent_interval: tuple[float, float]

    def loss(self, experience: ArrayLike) -> NDArray[np.float64]:
        """The fitted loss at some E."""
        return self.floor + self.scale * np.asarray(experience, np.float64) ** -self.exponent

    def threshold(self, excess: float = 0.05) -> float:
        """The E above which loss is within `excess` of its floor: more then helps little, less holds the learner back."""
        if self.scale == 0.0:
            return 0.0
        return float("inf") if self.floor == 0.0 else (self.scale / (excess * self.floor)) ** (1.0 / self.exponent)


def fit_efficiency(experience: ArrayLike, losses: ArrayLike, *, rng: np.random.Generator, resamples: int = 200) -> EfficiencyFit:
    """Fits loss against E by least squares, floor and scale not negative.

    Args:
        experience: E of each point, positive.
        losses: loss of each point.
        rng: draws the residuals for the intervals.
        resamples: how many.

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
    """Floor, scale and exponent: linear in the first two, so that only the third is searched, on a grid and then finely."""
    unit = float(np.exp(np.log(x).mean()))  # E in units of its mean: both columns are then of order one

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
    """Means of `points` stretches of a noisy curve, each of about the same length."""
    parts = np.array_split(np.asarray(values, np.float64), min(points, len(values)))
    return np.array([np.mean(part) for part in parts], np.float64)
