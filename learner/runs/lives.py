"""Resuming a run: each process that works on a run (a life) hands its ring, scene numbers and counts to the next one.

A checkpoint names a snapshot of the ring, the scene numbers that were begun, and the counts. The resuming process restores the
ring, simulates lost scenes again, and records in the ledger from which iteration it continues and which trajectories are lost.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embodichain.engine import AnyEngine, EngineReport, Start
from embodichain.errors import RingError
from embodichain.ring.contract import AnyLease, AnyRing
from embodichain.ring.layout import RingLayout
from embodichain.ring.ledger import RECORD, Event, Ledger, lives, load
from embodichain.ring.open import create_ring, restore_ring
from embodichain.ring.proof import numbers_of_lives
from embodichain.ring.snapshot import read_index
from embodichain.ring.stats import Observer
from embodichain.stages import Fate
from embodichain.types import ReplayMode, RingSpec, TrajectoryId
from learner.data.batch import LeasedBatch
from learner.records.run_folder import RunFolder

_LOG = logging.getLogger(__name__)
_NAMES = ("ring-a.snapshot", "ring-b.snapshot")
"""Snapshots alternate between these files: the one that the last checkpoint names must survive until the next checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """The part of a run that one process makes, from its start or from a checkpoint."""

    ring: AnyRing
    start: Start
    step: int
    """The first iteration of this life."""
    number: int
    """Counts the lives of a run from 0, also those that left no checkpoint."""
    parent: int | None
    """The number of the life whose checkpoint it continues; None for the first life."""
    snapshot: str
    """Name of the ring snapshot that it was restored from; empty without one."""
    given_up: Mapping[int, int]
    """Trajectories of the previous life's ring that could not be restored: packed id → reads left."""

    def book(self, ledger: Ledger) -> None:
        """Records in the ledger what is needed to check the reads of all lives together."""
        ledger.life(self.number, step=self.step, parent=self.parent, epoch=self.start.epoch)
        ledger.give_up(self.given_up, step=self.step)
        ledger.flush()


def begin(spec: RingSpec, placement: str, folder: RunFolder, state: Mapping[str, Any]) -> Life:
    """Begins the next life of a run from the `state` in its last checkpoint (empty for the first life). The caller closes its ring.

    If the ring cannot be restored, that is logged and recorded, and the run continues with an empty one.
    """
    # A life without a state may have had forerunners that died before their first checkpoint.
    records = load(folder.ledger)[0] if state or folder.ledger.exists() else np.zeros(0, RECORD)
    number = 1 + int(numbers_of_lives(records).max(initial=-1))
    if not state:
        ring = create_ring(spec, placement)
        return Life(ring=ring, start=Start(), step=0, number=number, parent=None, snapshot="", given_up={})
    saved: Mapping[str, Any] = state.get("ring", {})
    left = {int(packed): int(reads) for packed, reads in saved.get("ready", ())}
    snapshot = str(saved.get("snapshot", ""))
    ring, restored = _restored(spec, placement, folder.checkpoint.parent / snapshot if snapshot else None)
    given_up = {packed: reads for packed, reads in left.items() if packed not in restored}
    there = {TrajectoryId.unpack(packed).sequence for packed in (*restored, *given_up)}
    begun, unfinished = int(state.get("next_number", 0)), state.get("unfinished", ())
    report = EngineReport.of(state.get("report", {}))
    report.fates[Fate.PUBLISHED] += sum(number in there for number in unfinished) + sum(number >= begun for number in there)
    start = Start(
        next_number=begun,
        again=tuple(number for number in unfinished if number not in there),
        skip=frozenset(number for number in there if number >= begun),
        epoch=_next_epoch(records, restored),
        report=report,
    )
    return Life(
        ring=ring,
        start=start,
        step=int(state.get("leases", 0)),
        number=number,
        parent=_parent(records, state),
        snapshot=snapshot,
        given_up=given_up,
    )


def _restored(spec: RingSpec, placement: str, path: Path | None) -> tuple[AnyRing, set[int]]:
    """The ring of the last checkpoint and the packed ids in it; an empty ring if no snapshot fits."""
    begun = replace(spec, min_ready=1)  # a resumed stream may be near its end: even a single trajectory must be readable
    if path is None:
        _LOG.warning("the checkpoint came without its ring: what was in it is given up")
        return create_ring(begun, placement), set()
    try:
        index = read_index(path, spec.trajectory)
        most = spec.max_reads if spec.mode is ReplayMode.TRAJECTORY else index.spec.max_reads
        if replace(index.spec, trajectory=spec.trajectory, min_ready=1, max_reads=most) != begun:
            raise RingError(f"the ring was configured otherwise: {_differences(index.spec, spec)}")
        ring = restore_ring(path, placement)
        if index.spec.max_reads != spec.max_reads:
            _LOG.warning("each trajectory may be read %d times from now on, it was %d", spec.max_reads, index.spec.max_reads)
            ring.set_max_reads(spec.max_reads)
        return ring, {int(entry["trajectory_id"]) for entry in index.entries}
    except RingError as error:
        _LOG.warning("the ring of the checkpoint is given up: %s", error)
        return create_ring(begun, placement), set()


def _differences(before: RingSpec, now: RingSpec) -> str:
    names = ("num_slots", "max_reads", "full_policy", "mode")
    pairs = [(name, getattr(before, name), getattr(now, name)) for name in names]
    return ", ".join(f"{name} {old}, now {new}" for name, old, new in pairs if old != new)


def _parent(records: NDArray, state: Mapping[str, Any]) -> int | None:
    """The number of the life that saved `state`. Checkpoints of before hold only its first epoch: it is the last life with that."""
    if "life" in state or "epoch" not in state:
        return state.get("life")
    found = numbers_of_lives(records)[lives(records)[1] == state["epoch"]]
    return int(found[-1]) if len(found) else None


def _next_epoch(records: NDArray, restored: set[int]) -> int:
    """The first epoch of this life: one more than the largest of earlier lives, or after 256 the one that was used longest ago.

    Epochs of trajectories in the restored ring count as used last.
    """
    last_used = np.full(256, -1, np.int64)
    read, begun = np.flatnonzero(records["event"] == Event.READ), np.flatnonzero(records["event"] == Event.LIFE)
    np.maximum.at(last_used, (records["trajectory_id"][read] >> np.uint64(56)).astype(np.int64), read)
    np.maximum.at(last_used, lives(records)[1], begun)
    last_used[[TrajectoryId.unpack(packed).epoch for packed in restored]] = len(records)
    following = 1 + int(np.flatnonzero(last_used >= 0).max(initial=-1))
    return following if following < len(last_used) else int(last_used.argmin())


class Testament:
    """Saves the state for the next life with each checkpoint. Called between two iterations, while nothing is drawn.

    Args:
        most_bytes: a ring with a larger payload is not saved; its trajectories are lost to a later life.
    """

    def __init__(self, life: Life, engine: AnyEngine, ledger: Ledger, folder: RunFolder, *, most_bytes: int) -> None:
        ring = life.ring
        self._ring, self._engine, self._ledger = ring, engine, ledger
        self._observer = Observer.open(ring.path)
        self._folder = folder.checkpoint.parent
        self._saves = RingLayout.of(ring.spec).slot_bytes * ring.spec.num_slots <= most_bytes
        self._life, self._last = life.number, life.snapshot

    def state(self) -> dict[str, Any]:
        """The state for the checkpoint; ledger and ring are on disk when this returns."""
        # Ask the engine first and save the ring second: a trajectory published in between is then in both, and its id tells so. In
        # the other order it would be in neither.
        state = self._engine.state()
        self._ledger.sync()
        return {**state, "life": self._life, "ring": {"snapshot": self._save(), "ready": [*self._observer.ready().items()]}}

    def _save(self) -> str:
        """Saves a snapshot of the ring and returns its name; empty if the ring is too large or the disk is full."""
        if not self._saves:
            return ""
        name = _NAMES[self._last == _NAMES[0]]
        try:
            self._ring.snapshot(self._folder / name)
        except RingError as error:
            _LOG.warning("the checkpoint comes without its ring: %s", error)
            return ""
        self._last = name
        return name


def book(ledger: Ledger, batch: LeasedBatch, pairs: Sequence[int], step: int) -> None:
    """Records a read in the ledger before training on it, so that weights never depend on unrecorded reads, even after a crash."""
    ledger.read(cast(AnyLease, batch.lease), step=step, pairs=pairs)
    ledger.flush()
