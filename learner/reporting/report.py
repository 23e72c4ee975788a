"""Writes report.html of a run from the files in its folder alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from embodichain.errors import ConfigError
from embodichain.metrics import read_metrics, without_undone
from embodichain.ring.waiting import Waiting
from embodichain.types import ReplayMode
from learner.records.files import write_whole
from learner.records.run_folder import MEASURED, RunFolder
from learner.reporting import charts
from learner.reporting.efficiency import fit_efficiency, windowed

_LAW_POINTS = 12
_MIME = {".png": "image/png", ".mp4": "video/mp4"}


def write_report(folder: RunFolder) -> Path:
    """Renders `report.html`, a single file without links to other files; returns its path.

    Raises RunError when the run has not ended once, or the report cannot be written.
    """
    summary = folder.read_summary()
    loader = PackageLoader(str(__package__), ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.get_template("report.html.jinja").render(
        title=f"{summary['recipe']} · seed {summary['seed']}",
        subtitle=summary["finished"],
        notes=_notes(summary),
        figures=_figures(summary),
        command=folder.command,
        config=folder.config.read_text(encoding="utf-8"),
        versions=", ".join(f"{k} {v}" for k, v in json.loads((folder.path / "versions.json").read_text()).items()),
        **_success(summary),
        **_learning(folder),
        **_efficiency(folder),
        **_replay(summary),
        **_over_time(folder),
        **_stream(summary),
        videos=_pictures(folder.videos, "*.mp4"),
        frames=_pictures(folder.frames, "*.png"),
        assets=_pictures(folder.thumbnails, "*.png"),
    )
    write_whole(folder.report, html)
    return folder.report


def _notes(summary: dict[str, Any]) -> list[dict[str, Any]]:
    notes = []
    if summary.get("interrupted"):
        notes.append(
            {"text": "The run was interrupted: the figures cover what was done until then; --resume goes on.", "bad": False}
        )
    if summary.get("encoder_is_random"):
        text = "The DINOv3-architecture encoder has random weights in this run: features are projections, not learned semantics."
        notes.append({"text": text, "bad": False})
    if summary["bound_violations"]:
        notes.append(
            {"text": f"{summary['bound_violations']} trajectories were read more often than the bound allows.", "bad": True}
        )
    if summary["crashed"]:
        text = f"{len(summary['crashed'])} workers died and were replaced; their scene numbers: {summary['crashed']}."
        notes.append({"text": text, "bad": False})
    if instances := summary.get("instances"):
        text = (
            f"Assets were made while the run went on: scenes drew {len(instances)} instances, none of them in more than "
            f"{summary['instances_most_scenes']} scenes. {len(summary['assets_refused'])} sources were refused, and "
            f"{sum(summary['asset_deaths'].values())} asset actors lost and replaced."
        )
        notes.append({"text": text, "bad": False})
    return notes


def _figures(summary: dict[str, Any]) -> list[dict[str, str]]:
    def figure(label: str, value: str) -> dict[str, str]:
        return {"label": label, "value": value}

    rates = [
        figure("trajectories / s", f"{summary['trajectories_per_s']:.2f}"),
        figure("samples / s", f"{summary['samples_per_s']:.1f}"),
    ]
    if not summary["new_steps"]:  # without steps since the last resume there are no rates
        rates = []
    return [
        figure("trajectories streamed", f"{summary['published']:,}"),
        *rates,
        figure("E: unique state-action pairs / iteration", f"{summary['unique_pairs_per_iteration']:.1f}"),
        figure("learner waited", f"{summary['learner_wait_share']:.1%}"),
        figure("bound violations", f"{summary['bound_violations']}"),
        figure("training steps", f"{summary['steps']:,}"),
        figure("recovered episodes", f"{summary['recovered']}"),
        figure("peak memory", f"{summary['peak_memory_gib']:.2f} GiB"),
        figure("wall time", f"{summary['wall_s'] / 60:.1f} min"),
    ]


def _success(summary: dict[str, Any]) -> dict[str, Any]:
    rows = summary.get("evaluation", [])
    chart = charts.success([(f"{r['pilot']} · {r['task']}", r["successes"] / r["episodes"], r["low"], r["high"]) for r in rows])
    return {"success_rows": rows, "success_chart": chart if rows else ""}


def _learning(folder: RunFolder) -> dict[str, str]:
    records = without_undone(read_metrics(folder.metrics, "train"))
    if len(records) < 2:
        return {"loss_chart": ""}
    parts = [name for name in records[0] if name.startswith("loss_")]  # every model family has its own parts of the loss
    curves = {name: [r[name] for r in records] for name in parts or ["loss"]}
    return {"loss_chart": charts.losses([r["step"] for r in records], curves)}


def _efficiency(folder: RunFolder) -> dict[str, str]:
    """Charts of the loss against the state-action pairs read at least once, and of what each step was fed."""
    nothing = {"efficiency_chart": "", "efficiency_text": ""}
    records = [r for r in without_undone(read_metrics(folder.metrics, "train")) if r.get("experience_total_pairs")]
    if len(records) < 2 * _LAW_POINTS:
        return nothing
    pairs = windowed([r["experience_total_pairs"] for r in records], _LAW_POINTS)
    losses = windowed([r["loss"] for r in records], _LAW_POINTS)
    try:
        law = fit_efficiency(pairs, losses, rng=np.random.default_rng(0))
    except ConfigError:
        return nothing  # too little new experience for a curve
    x = np.geomspace(pairs[0], pairs[-1], 100)
    note = f"{law.floor:.2f} + {law.scale:.3g} E^-{law.exponent:.2f}"
    chart = charts.efficiency(
        pairs.tolist(),
        losses.tolist(),
        (x.tolist(), law.loss(x).tolist()),
        x="different state-action pairs read so far",
        y="loss",
        note=note,
    )

    def mean(name: str) -> float:
        return float(np.mean([r[name] for r in records]))

    text = (
        f"A step read {mean('experience_new_pairs'):.0f} state-action pairs for the first time "
        f"({mean('experience_new_pairs_per_s'):.0f} a second), from trajectories read {mean('experience_reads'):.1f} times by then "
        f"on average and published {mean('experience_age_s'):.1f} s before; it waited {mean('wait_share'):.1%} of its time. "
        f"The floor of the fit is {law.floor:.2f} (95% interval {law.floor_interval[0]:.2f} to {law.floor_interval[1]:.2f})."
    )
    return {"efficiency_chart": chart, "efficiency_text": text}


_POINTS = 60
"""Number of points of a curve over time."""


def _over_time(folder: RunFolder) -> dict[str, Any]:
    """Charts over the run: E, waiting times, ages, publications, lost workers, and the held-out loss."""
    train, stream, measured = (without_undone(read_metrics(folder.metrics, kind)) for kind in ("train", "stream", MEASURED))
    found: dict[str, Any] = {"time_charts": [], "advice": ""}
    if len(train) >= 2 and "experience_new_pairs" in train[0]:
        steps = windowed([r["step"] for r in train], _POINTS).tolist()
        for name, label in (("experience_new_pairs", "E: new pairs an iteration"), ("experience_age_s", "age at a read [s]")):
            found["time_charts"].append(
                charts.over_time(steps, {label: windowed([r[name] for r in train], _POINTS).tolist()}, label)
            )
    found["time_charts"] += _foresight(train, "foresight_", "") + _foresight(measured, "", ", held-out episodes")
    if len(stream) >= 2:
        waits = [Waiting.between(a, b) for a, b in pairwise(stream)]
        found["advice"] = Waiting.between(stream[0], stream[-1]).advice
        steps = windowed([r["step"] for r in stream[1:]], _POINTS).tolist()
        shares = {"workers blocked": [w.workers for w in waits], "learner waits": [w.learner for w in waits]}
        curves = {name: windowed(values, _POINTS).tolist() for name, values in shares.items()}
        found["time_charts"].append(charts.over_time(steps, curves, "share of time", share=True))
        counts = {"published": [r["published"] for r in stream]}
        if any(sum(r.get("deaths", {}).values()) for r in stream):
            counts["workers lost"] = [sum(r.get("deaths", {}).values()) for r in stream]
        found["time_charts"].append(charts.over_time([r["step"] for r in stream], counts, "trajectories published"))
    if len(measured) >= 2:
        curves = {name: [r[name] for r in measured] for name in measured[0] if name.startswith("loss_")}
        found["time_charts"].append(charts.over_time([r["step"] for r in measured], curves, "loss on held-out episodes"))
    return found


def _foresight(records: Sequence[Mapping[str, Any]], begin: str, where: str) -> list[str]:
    """Charts of the prediction error relative to copying the frame and to a linear map, by chunks ahead, over training."""
    charts_of = []
    for other, label in (("unchanged", "imagined / no change"), ("linear", "imagined / linear map")):
        prefix = f"{begin}imagined_over_{other}_"
        measured = [r for r in records if any(name.startswith(prefix) for name in r)]
        if len(measured) < 2:
            continue
        steps = windowed([r["step"] for r in measured], _POINTS).tolist()
        ahead = sorted({int(name.removeprefix(prefix)) for r in measured for name in r if name.startswith(prefix)})
        curves = {
            f"{chunks} chunk{'s' * (chunks > 1)} ahead": windowed([r[f"{prefix}{chunks}"] for r in measured], _POINTS).tolist()
            for chunks in ahead
            if all(f"{prefix}{chunks}" in r for r in measured)
        }
        charts_of.append(charts.over_time(steps, curves, label + where, even=1.0))
    return charts_of


def _replay(summary: dict[str, Any]) -> dict[str, str]:
    histogram = {int(reads): count for reads, count in summary["reads_histogram"].items()}
    if not histogram:
        return {"replay_chart": "", "replay_text": ""}
    text = (
        f"{sum(histogram.values()):,} trajectories were read {sum(r * n for r, n in histogram.items()):,} times; the bound is "
        f"{summary['max_reads']}, {summary['bound_violations']} exceeded it. "
        "Trajectories below the bound were still in the ring at the end."
    )
    if summary["replay_mode"] == ReplayMode.AGGREGATE:
        text = (
            f"{sum(histogram.values()):,} trajectories were read {sum(r * n for r, n in histogram.items()):,} times. No single one "
            f"was bounded: the ring was refilled whenever it had been read {summary['max_reads']} times its size."
        )
    return {"replay_chart": charts.replay_histogram(histogram, summary["max_reads"]), "replay_text": text}


def _stream(summary: dict[str, Any]) -> dict[str, Any]:
    attempts, published = summary["attempts_by_task"], summary["published_by_task"]
    rows = [{"task": task, "attempts": n, "published": published.get(task, 0)} for task, n in attempts.items()]
    reasons = sorted(summary["reasons"].items(), key=lambda item: -item[1])[:12]
    shares = summary["worker_shares"]
    return {"stream_rows": rows, "reason_rows": reasons, "share_chart": charts.shares(shares) if any(shares.values()) else ""}


def _pictures(folder: Path, pattern: str) -> list[dict[str, str]]:
    """Embeds files, each with the caption in `<name>.txt` beside it or, without one, its file name."""
    entries = []
    for path in sorted(folder.glob(pattern)):
        caption = path.with_suffix(".txt")
        text = caption.read_text(encoding="utf-8").strip() if caption.exists() else path.stem.replace("_", " ")
        entries.append({"source": _embed(path), "caption": text})
    return entries


def _embed(path: Path) -> str:
    return f"data:{_MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
