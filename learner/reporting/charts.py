"""The report's charts as inline SVG: losses, replay histogram, where time went, success with intervals."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, PercentFormatter, StrMethodFormatter

_INK, _BLUE, _ORANGE, _GREY, _RED = "#1d2733", "#2563a8", "#d9822b", "#9aa5b1", "#b3261e"

_WIDTH = 4.6
"""Width of every chart [inch]: two fit side by side on a desktop screen, and one is still legible on a phone."""


def over_time(
    steps: Sequence[float], curves: Mapping[str, Sequence[float]], label: str, *, share: bool = False, even: float | None = None
) -> str:
    """Curves over training steps. With `share`, the axis runs from 0 to 100%; `even` is drawn as a dashed reference line."""
    figure, axes = _canvas(_WIDTH, 2.3)
    for (name, values), color in zip(curves.items(), (_BLUE, _ORANGE, _GREY), strict=False):
        axes.plot(steps, values, color=color, linewidth=1.5, label=name)
    axes.set_xlabel("training step")
    axes.set_ylabel(label)
    axes.set_ylim(0, 1.02 if share else None)
    if even is not None:
        axes.axhline(even, color=_GREY, linestyle="--", linewidth=1.0)
    if share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if len(curves) > 1:
        axes.legend(frameon=False)
    return _svg(figure)


def losses(steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """Loss curves over training steps: raw in the background, an exponential average in front."""
    figure, axes = _canvas(_WIDTH, 2.9)
    for (name, values), color in zip(curves.items(), (_BLUE, _ORANGE, _GREY), strict=False):
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(steps, smooth(values), color=color, linewidth=1.8, label=name)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


def smooth(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start."""
    result, average, weight = [], 0.0, 0.0
    for value in values:
        average = keep * average + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        result.append(average / weight)
    return result


def replay_histogram(trajectories_by_reads: Mapping[int, int], bound: int) -> str:
    """How many trajectories were read how often, with the bound as a line that nothing may cross."""
    figure, axes = _canvas(_WIDTH, 2.6)
    reads = sorted(trajectories_by_reads)
    colors = [_BLUE if r <= bound else _RED for r in reads]
    axes.bar(reads, [trajectories_by_reads[r] for r in reads], color=colors, width=0.9)
    axes.axvline(bound + 0.5, color=_RED, linestyle="--", linewidth=1.2)
    axes.text(bound + 0.5, axes.get_ylim()[1] * 0.95, f" bound K = {bound}", color=_RED, va="top")
    axes.set_xlim(0, max([bound * 1.15 + 1, *[r + 1 for r in reads]]))
    axes.set_xlabel("reads of a trajectory")
    axes.set_ylabel("trajectories")
    return _svg(figure)


def efficiency(
    pairs: Sequence[float], values: Sequence[float], curve: tuple[Sequence[float], Sequence[float]], *, x: str, y: str, note: str
) -> str:
    """Loss, or another measure that should fall, against experience on a logarithmic axis, with the fitted law."""
    figure, axes = _canvas(_WIDTH, 2.9)
    axes.plot(*curve, color=_ORANGE, linewidth=1.8, label=note)
    axes.plot(pairs, values, "o", color=_BLUE, markersize=4)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axes.tick_params(axis="x", which="minor", labelsize=8, colors=_INK)
    for axis_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


def shares(parts: Mapping[str, float]) -> str:
    """One horizontal bar split by share of time."""
    figure, axes = _canvas(_WIDTH, 1.5)
    left = 0.0
    for (name, share), color in zip(parts.items(), (_BLUE, _ORANGE, "#4f9d69", _GREY, "#8e6bbf"), strict=False):
        axes.barh(0, share, left=left, color=color, height=0.6, label=f"{name} {share:.0%}")
        left += share
    axes.set_xlim(0, max(left, 1e-9))
    axes.axis("off")
    axes.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0.05), fontsize=8)
    return _svg(figure)


def success(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Success rates with their intervals: rows of (label, rate, low, high)."""
    figure, axes = _canvas(_WIDTH, 0.45 * len(rows) + 0.8)
    for y, (_label, rate, low, high) in enumerate(rows):
        axes.plot([low, high], [y, y], color=_GREY, linewidth=3, solid_capstyle="round")
        axes.plot([rate], [y], "o", color=_BLUE, markersize=6)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("success rate, 95% Wilson interval")
    return _svg(figure)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)
    return figure, axes


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element without the XML prologue, with fixed ids: equal data gives equal text."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "embodichain", "svg.fonttype": "none", "font.size": 9}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
