"""The figure of a sweep: held-out loss against updates and against wall clock, success, and loss against E; PDF and PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from learner.reporting.sweep import Curve, Result, interval, table

_COLORS = ("#2563a8", "#d9822b", "#4f9d69", "#8e6bbf", "#b3261e", "#9aa5b1", "#1d2733")
_GRID = 60


def _style() -> AbstractContextManager[None]:
    return rc_context({"font.size": 9, "pdf.fonttype": 42, "axes.spines.top": False, "axes.spines.right": False})


def draw_sweep(results: Sequence[Result], stem: Path, title: str) -> list[Path]:
    """Draws `stem`.pdf and `stem`.png; returns their paths."""
    figure, paths = sweep_figure(results, title), [stem.with_suffix(".pdf"), stem.with_suffix(".png")]
    with _style():
        figure.savefig(paths[0], metadata={"CreationDate": None})
        figure.savefig(paths[1], dpi=150)
    return paths


def sweep_figure(results: Sequence[Result], title: str) -> Figure:
    """The four panels; one without data says so."""
    variants = list(dict.fromkeys(row.variant for row in results))
    colors = {variant: _COLORS[index % len(_COLORS)] for index, variant in enumerate(variants)}
    with _style():
        figure = Figure(figsize=(10.5, 6.6), layout="constrained")
        ((updates, clock), (success, law)) = figure.subplots(2, 2)
        figure.suptitle(title)
        _curves(updates, results, colors, lambda curve: curve.steps, "updates")
        _curves(clock, results, colors, lambda curve: curve.elapsed_s, "wall clock of streaming and learning [s]")
        _success(success, results, colors)
        _law(law, results, colors)
    return figure


Values = Callable[[Curve], NDArray[np.float64]]


def _curves(axes: Axes, results: Sequence[Result], colors: dict[str, str], axis: Values, label: str) -> None:
    """Draws the geometric mean over seeds with its 95% band, where all seeds have data, and single seeds as thin lines."""
    for variant, color in colors.items():
        curves = [row.curve for row in results if row.variant == variant and row.curve is not None]
        for curve in curves:
            axes.plot(axis(curve), curve.values, color=color, alpha=0.3, linewidth=0.8)
        if not curves:
            continue
        grid = np.linspace(max(axis(c)[0] for c in curves), min(axis(c)[-1] for c in curves), _GRID)
        logs = np.log([np.interp(grid, axis(c), c.values) for c in curves])  # in logarithms, so that no interval goes below 0
        means = np.exp([interval(values.tolist()) for values in logs.T])
        axes.plot(grid, means[:, 0], color=color, linewidth=2, label=f"{variant} ({len(curves)} seed{'s' * (len(curves) > 1)})")
        if len(curves) > 1:
            axes.fill_between(grid, means[:, 1], means[:, 2], color=color, alpha=0.12, linewidth=0)
    axes.set_xlabel(label)
    axes.set_ylabel("held-out action loss")
    if not axes.lines:
        _empty(axes, "no held-out loss was measured:\n--train.measure-every N asks for it every N steps")
        return
    _logarithmic(axes.yaxis)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def _success(axes: Axes, results: Sequence[Result], colors: dict[str, str]) -> None:
    rows = [row for row in table(results) if "success" in row]
    for y, row in enumerate(rows):
        axes.plot([row["success_low"], row["success_high"]], [y, y], color=colors[row["variant"]], linewidth=3, alpha=0.4)
        axes.plot([row["success"]], [y], "o", color=colors[row["variant"]])
    axes.set_xlabel("success in held-out scenes, 95% Wilson interval over all seeds")
    if not rows:
        _empty(axes, "no policy was judged")
        return
    axes.set_yticks(range(len(rows)), [row["variant"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)


def _law(axes: Axes, results: Sequence[Result], colors: dict[str, str]) -> None:
    for row in results:
        for name, mark in (("held_out_action", "o"), ("train_action", "x")):
            if name in row.figures:
                axes.plot(row.figures["unique_pairs"], row.figures[name], mark, color=colors[row.variant], markersize=5)
    axes.set_xlabel("E: new state-action pairs an iteration")
    axes.set_ylabel("action loss: held out (o), training (x)")
    if not axes.lines:
        _empty(axes, "no run has an action loss")
        return
    for axis in (axes.xaxis, axes.yaxis):
        _logarithmic(axis)


def _empty(axes: Axes, why: str) -> None:
    """Says why a panel shows nothing, in place of numbers that mean nothing."""
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color="#6b7580")
    axes.set_xticks([])
    axes.set_yticks([])


def _logarithmic(axis: Axis) -> None:
    """A logarithmic scale with few plain numbers, also within one decade, where matplotlib's own labels overlap."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if high > 4.0 * low else MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
