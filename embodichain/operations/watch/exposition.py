"""Metrics of runs in the Prometheus text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_GAUGE, _COUNTER = "gauge", "counter"
_RING = {
    "ready": (_GAUGE, "trajectories that are ready to be read"),
    "writing": (_GAUGE, "slots that are being written"),
    "free": (_GAUGE, "slots that are free"),
    "quarantined": (_GAUGE, "slots that a stopped process holds"),
    "oldest_s": (_GAUGE, "age of the oldest trajectory that is ready [s]"),
    "published": (_COUNTER, "trajectories published"),
    "acquired": (_COUNTER, "reads of trajectories"),
    "retired": (_COUNTER, "trajectories whose reads are used up"),
    "over_reads": (_COUNTER, "reads beyond the bound; anything but 0 is a fault"),
    "blocked_writer_s": (_COUNTER, "time that all writers together were blocked by a full ring [s]"),
    "blocked_reader_s": (_COUNTER, "time that all readers together were blocked by an empty ring [s]"),
}


def exposition(runs: Sequence[Mapping[str, Any]]) -> str:
    """The metrics of snapshots, one sample a line."""
    return "\n".join(_lines(runs)) + "\n"


def _lines(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from _metric("up", _GAUGE, "whether the run streams", ((run, {}, float(run["state"] == "streaming")) for run in runs))
    stopped = ((run, {}, float(run["state"] in ("interrupted", "killed"))) for run in runs)
    yield from _metric("stopped", _GAUGE, "whether the run is over before its work is: interrupted or killed", stopped)
    yield from _metric("step", _GAUGE, "training steps made", ((run, {}, run["step"]) for run in runs))
    yield from _metric("steps_planned", _GAUGE, "training steps in all", ((run, {}, run["steps"]) for run in runs))
    yield from _metric(
        "unique_pairs",
        _GAUGE,
        "E: state-action pairs that an iteration reads for the first time",
        _picked(runs, "experience", "now"),
    )
    yield from _metric("unique_pairs_target", _GAUGE, "the E that was asked for", _picked(runs, "experience", "target"))
    yield from _metric("age_seconds", _GAUGE, "mean age of what the learner reads [s]", _picked(runs, "age", "now"))
    yield from _metric(
        "samples_per_second", _GAUGE, "trajectories read a second", ((run, {}, run["samples_per_s"]) for run in runs)
    )
    shares = ((run, {"side": side}, run["waiting"][side]) for run in runs for side in ("workers", "learner"))
    yield from _metric("waiting_share", _GAUGE, "share of its time that a process of this side is blocked by the other", shares)
    deaths = ((run, {"cause": cause}, count) for run in runs for cause, count in run["deaths"].items())
    yield from _metric("worker_deaths_total", _COUNTER, "workers that were lost", deaths)
    losses = ((run, {"part": name}, curve[-1][1]) for run in runs for name, curve in run["losses"].items() if curve)
    yield from _metric("loss", _GAUGE, "the training loss", losses)
    for name, (kind, told) in _RING.items():
        samples = ((run, {}, run["ring"][name]) for run in runs if run["ring"] is not None)
        full = name.replace("_s", "_seconds") if name.endswith("_s") else name
        yield from _metric(f"ring_{full}" + ("_total" if kind == _COUNTER else ""), kind, told, samples)


Samples = Iterator[tuple[Mapping[str, Any], Mapping[str, str], float | None]]


def _picked(runs: Sequence[Mapping[str, Any]], group: str, name: str) -> Samples:
    return ((run, {}, run[group][name]) for run in runs)


def _metric(name: str, kind: str, told: str, samples: Samples) -> Iterator[str]:
    rows = [(run, labels, value) for run, labels, value in samples if value is not None]
    if not rows:
        return
    yield f"# HELP embodichain_{name} {told}"
    yield f"# TYPE embodichain_{name} {kind}"
    for run, labels, value in rows:
        told_labels = {"run": run["name"], "recipe": run["recipe"], **labels}
        inside = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in told_labels.items())
        yield f"embodichain_{name}{{{inside}}} {float(value):.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
