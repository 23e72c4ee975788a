"""Fault injection into a running job on this machine: kills and stops its workers, and fills shared memory.

It does not take part in the run: it observes only the run's ring and folder, as `embodichain watch` does.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from embodichain.errors import RunError
from embodichain.operations.chaos import SLOWED_S, filled, slowed
from embodichain.operations.faults import Fault
from embodichain.operations.watch.view import RunView
from embodichain.processes import send_signal
from embodichain.ring.participants import Health, ParticipantIdentity
from embodichain.ring.proof import LedgerReport, ledgers, verify
from embodichain.ring.stats import Observer

__all__ = ["Siege", "besiege"]
_HEAL_S = 120.0
"""Longest time until all workers are back before the test fails [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Siege:
    """The result of a siege."""

    faults: Counter[str]
    healed_s: dict[str, list[float]]
    calm_rate: float
    """Rate of published trajectories before the first fault [1/s]."""
    storm_rate: float
    """Rate of published trajectories from the first fault to the last [1/s]."""
    over_reads: int
    ledger: LedgerReport
    """The check of the run's ledger up to the end of the siege."""

    @property
    def intact(self) -> bool:
        """Whether no trajectory was read too often, and the ledger has no gap."""
        return not self.over_reads and self.ledger.holds

    @property
    def experience_lost(self) -> float:
        """Share of the undisturbed rate that the siege cost, 0 to 1; small if workers had been waiting for the learner anyway."""
        return max(0.0, 1.0 - self.storm_rate / self.calm_rate) if self.calm_rate else 0.0

    def recovery_s(self) -> dict[str, float]:
        """Median time until as many workers run as before the fault [s], by kind of fault."""
        return {kind: round(statistics.median(times), 2) for kind, times in self.healed_s.items() if times}


def besiege(run: Path, faults: Iterator[Fault], *, calm_s: float = 10.0, pause_s: float = 2.0, seed: int = 0) -> Siege:
    """Injects faults into a running run until there are no more faults, or the run has ended.

    Raises RunError when the run does not stream on this machine, or does not recover.
    """
    view, rng = RunView(run), np.random.default_rng(seed)
    path = view.ring_path
    if path is None:
        raise RunError(f"{run} does not stream on this machine now: start it, and try again while it goes on")
    ring, healed, struck = Observer.open(path), dict[str, list[float]](), Counter[str]()
    there = len(_await_workers(ring, view.pid, 1))
    first, began = ring.stats().published, time.monotonic()
    time.sleep(calm_s)
    calm = (ring.stats().published - first) / (time.monotonic() - began)
    there = max(there, len(_workers(ring, view.pid)))
    before, began = ring.stats().published, time.monotonic()
    for fault in faults:
        if ring.stats().closed:
            break
        at = time.monotonic()
        victim = _strike(fault, _await_workers(ring, view.pid, there), rng)
        while victim in _workers(ring, view.pid) and not ring.stats().closed:
            time.sleep(0.01)  # the death of a worker becomes visible after a moment
        _await_workers(ring, view.pid, there)
        healed.setdefault(fault.value, []).append(time.monotonic() - at)
        struck[fault.value] += 1
        time.sleep(pause_s)
    stats = ring.stats()
    first, *others = ledgers(run)
    return Siege(
        faults=struck,
        healed_s=healed,
        calm_rate=calm,
        storm_rate=(stats.published - before) / max(time.monotonic() - began, 1e-9),
        over_reads=stats.over_reads,
        ledger=verify(first, beside=others),
    )


def _strike(fault: Fault, workers: list[ParticipantIdentity], rng: np.random.Generator) -> ParticipantIdentity | None:
    """Injects one fault; returns the worker that it killed, None for none."""
    victim = workers[int(rng.integers(len(workers)))] if workers else None
    match fault:
        case Fault.MEMORY:
            with filled(Path("/dev/shm")):
                time.sleep(SLOWED_S)
        case Fault.SLOW if victim is not None:
            slowed(partial(_signal, victim))
        case Fault.CRASH if victim is not None:
            _signal(victim, signal.SIGKILL)
            return victim
    return None


def _signal(worker: ParticipantIdentity, number: int) -> None:
    """Sends a worker a signal, unless it has ended by itself: its number may be another's by then."""
    send_signal(worker.pid, number, is_meant=lambda: worker.health() is not Health.DEAD)


def _workers(ring: Observer, owner: int) -> list[ParticipantIdentity]:
    """The living workers: all participants of the ring except its owner and its readers."""
    people = ring.participants()
    return [v.identity for v in people if v.identity.pid != owner and not v.acquired and v.health is Health.ALIVE]


def _await_workers(ring: Observer, owner: int, count: int) -> list[ParticipantIdentity]:
    """Waits until this many workers are there, or the ring is closed."""
    deadline = time.monotonic() + _HEAL_S
    while len(found := _workers(ring, owner)) < count and not ring.stats().closed:
        if time.monotonic() > deadline:
            raise RunError(f"{len(found)} of {count} workers are there after {_HEAL_S:g} s: the run has not healed")
        time.sleep(0.05)
    return found
