"""Predicts from measured rates which side of a run will wait, the size of its ring, and its E.

Workers that never wait publish `cores x worker_rate` trajectories a second. A learner that never waits reads `batch_size / step_s`
trajectories a second, and so uses up `1 / K` as many. The smaller of both is the rate of the run; the faster side waits.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from embodichain.errors import ConfigError
from embodichain.metrics import read_metrics
from embodichain.ring.waiting import Waiting
from embodichain.types import CHUNK

_BATCHES = 4
"""A ring should hold this many batches, so that consecutive batches have little in common."""
_BURST_S = 5.0
"""A ring should have room for the trajectories of this time [s], during which the learner may save a checkpoint."""
_BLOCKED = "waiting for room in the ring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Measured rates of a run."""

    worker_rate: float
    """Trajectories that one worker publishes a second, without waiting [1/s]."""
    step_s: float
    """Duration of a training step of one learner, without waiting [s]."""
    batch_size: int
    """Trajectories in a batch."""
    max_reads: int
    """K, the replay bound."""
    pairs: float
    """State-action pairs of a trajectory that are covered by its K reads."""
    window_pairs: int
    """State-action pairs in one read; 0 if reads are whole episodes."""
    slot_mib: float
    """Size of a trajectory in the ring [MiB]."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not (0.0 < value < math.inf or (entry.name == "window_pairs" and value == 0)):
                raise ConfigError(f"--{entry.name.replace('_', '-')} must be positive, got {value}")

    def replaced(self, given: Mapping[str, Any]) -> Rates:
        """A copy with other values; raises ConfigError for values that are not positive."""
        return replace(self, **given)


DEMO = Rates(worker_rate=4.7, step_s=0.44, batch_size=8, max_reads=50, pairs=250.0, window_pairs=64, slot_mib=2.45)
"""Rates of `tiny_cpu` on two cores: benchmarks/results/pipeline-2026-11-21.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The prediction for a run with given cores and learners."""

    made: float
    """Trajectories that the workers could publish [1/s]."""
    used: float
    """Trajectories that the learners could use up [1/s]."""
    published: float
    """Trajectories that will be published [1/s]: the smaller of both."""
    steps_per_s: float
    waiting: Waiting
    unique_pairs: float
    """E: state-action pairs that an iteration of all learners reads for the first time."""
    slots: int
    ring_mib: float
    cores_in_balance: int
    """Number of cores for workers at which neither side would wait; 0 if one makes too much."""
    reads_in_balance: int
    """K at which neither side would wait; 0 if even K = 1 uses up too little."""

    def told(self, rates: Rates) -> Iterator[str]:
        """The prediction as lines of text."""
        yield f"workers could publish {self.made:.1f} trajectories/s, learners use up {self.used:.1f}: {self.waiting.advice}"
        rate = f"{self.published:.1f} trajectories/s, {self.steps_per_s:.2f} steps/s"
        yield f"{rate}, E about {self.unique_pairs:.0f} new state-action pairs an iteration"
        yield f"ring: {self.slots} slots of {rates.slot_mib:.2f} MiB, {self.ring_mib / 1024:.2f} GiB of shared memory"
        cores, reads = self.cores_in_balance, self.reads_in_balance
        told = f"{cores} core{'s' * (cores > 1)} for workers"
        balanced = [*([told] if cores >= 1 else []), *([f"K = {reads}"] if reads >= 1 else [])]
        if balanced:
            yield f"nobody would wait with {', or with '.join(balanced)}"
        if cores < 1:
            yield "one core for workers makes more than the learners use up at this K: it would wait too"
        if reads < 1:
            yield "even K = 1 would not use up what so many workers make: add learners, or give cores back"


def expect(rates: Rates, *, cores: int, learners: int) -> Expectation:
    """Predicts a run; raises ConfigError for fewer than one core or learner, and for rates of which nothing can be computed."""
    if cores < 1 or learners < 1:
        raise ConfigError(f"a run has at least one core for a worker and one learner, got {cores} and {learners}")
    try:
        return _expected(rates, cores, learners)
    except (OverflowError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{cores} cores and {learners} learners at {rates} come to no number ({error}): look at the rates"
        ) from error


def _expected(rates: Rates, cores: int, learners: int) -> Expectation:
    made = cores * rates.worker_rate
    reads = learners * rates.batch_size / rates.step_s
    used = reads / rates.max_reads
    published = min(made, used)
    window = rates.window_pairs * rates.max_reads if rates.window_pairs else rates.pairs
    batch = learners * rates.batch_size
    slots = max(_BATCHES * batch, cores + batch, math.ceil(published * _BURST_S))
    return Expectation(
        made=made,
        used=used,
        published=published,
        steps_per_s=published * rates.max_reads / batch,
        waiting=Waiting(workers=1.0 - published / made, learner=1.0 - published / used),
        unique_pairs=batch / rates.max_reads * min(rates.pairs, window),
        slots=slots,
        ring_mib=slots * rates.slot_mib,
        cores_in_balance=round(used / rates.worker_rate),
        reads_in_balance=round(reads / made),
    )


def rates_of(run: Path) -> Rates:
    """Reads the rates of a finished run; raises ConfigError if its folder lacks them."""
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        data, histogram = config["learner"]["data"], summary["reads_histogram"]
        blocked = summary["worker_shares"][_BLOCKED]
        trajectories = sum(histogram.values())
        steps = [
            (1.0 - record["wait_share"]) * data["batch_size"] / record["samples_per_s"]
            for record in read_metrics(run / "metrics.jsonl", "train")[1:]
        ]
        return Rates(
            worker_rate=summary["trajectories_per_s"] / config["stream"]["workers"] / max(1.0 - blocked, 1e-3),
            step_s=statistics.median(steps),
            batch_size=data["batch_size"],
            max_reads=summary["max_reads"],
            pairs=summary["unique_pairs_per_iteration"] * summary["steps"] / trajectories,
            window_pairs=data["window"] * config["world"].get("chunk", CHUNK),
            slot_mib=summary["slot_bytes"] / 2**20,
        )
    except (ConfigError, OSError, KeyError, ValueError, ZeroDivisionError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"{run} is no finished run with rates in it ({error!r}); give one that has ended, or rates") from error
