"""Resuming a run: each process that works on a run (a life) hands its ring, scene numbers and counts to the next one.

A checkpoint names a snapshot of the ring, the scene numbers that were begun, and the counts. The resuming process restores the
ring, simulates lost scenes again, and records in the ledger from which iteration it continues and which trajectories are lost.

A run on several learner nodes has a ring on each, and its checkpoint the state of each. It may be resumed with another number of
rings: numbers are then shared out anew, further rings begin empty, and what was in a ring that nobody has any more is given up.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from embodichain.engine import WHOLE, AnyEngine, EngineReport, Share, Start
from embodichain.errors import RingError
from embodichain.ring.contract import AnyLease, AnyRing
from embodichain.ring.layout import RingLayout
from embodichain.ring.ledger import Event, Ledger, lives, load
from embodichain.ring.open import create_ring, restore_ring
from embodichain.ring.proof import ledgers, numbers_of_lives
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
    ended: Mapping[Path, Before] = field(default_factory=dict)
    """Lives of rings that nobody has any more, by their ledgers: what they leave is given up."""

    def book(self, ledger: Ledger) -> None:
        """Records in the ledger what is needed to check the reads of all lives together."""
        ledger.life(self.number, step=self.step, parent=self.parent, epoch=self.start.epoch)
        ledger.give_up(self.given_up, step=self.step)
        ledger.flush()
        for path, before in self.ended.items():
            with Ledger.open(path) as other:
                other.life(_next_number(path), step=before.step, parent=before.number(path), epoch=self.start.epoch)
                other.give_up(before.left, step=before.step)


Exchange = Callable[[str], list[str]]
"""Gives every learner process of a run the texts of all (`Ranks.exchange`)."""


def joined(own: dict[str, Any] | None, exchange: Exchange) -> dict[str, Any]:
    """The state of the first ring, with those of the others of the run; `own` is None in a process that has no ring of its own."""
    others = exchange("" if own is None else json.dumps(own))
    states = [json.loads(text) for text in others if text]
    return {**(own or {}), "others": states[1:]}


def of_ring(state: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The state of one ring out of those that `joined` put together; that of the first for a ring that was not there then."""
    others = state.get("others", ())
    first = {name: value for name, value in state.items() if name != "others"}
    return dict(others[number - 1]) if 0 < number <= len(others) else first


def all_rings(exchange: Exchange, number: int, *, owns: bool = True) -> dict[str, Any]:
    """How a `RingDataModule` keeps the states of all rings in one checkpoint, for a process of ring `number`, if it `owns` it."""
    return {"join": lambda own: joined(own if owns else None, exchange), "own": lambda state: of_ring(state, number)}


def begin(
    spec: RingSpec,
    placement: str,
    folder: RunFolder,
    state: Mapping[str, Any],
    *,
    share: Share = WHOLE,
    exchange: Exchange = lambda text: [text],
) -> Life:
    """Begins the next life of a run from the `state` in its last checkpoint (empty for the first life). The caller closes its ring.

    If the ring cannot be restored, that is logged and recorded, and the run continues with an empty one. With several rings, this
    is a collective of all learner processes: each begins the life of one ring, with its `share` of the numbers.
    """
    if not state:
        number = _next_number(folder.ledger)
        return Life(ring=create_ring(spec, placement), start=Start(), step=0, number=number, parent=None, snapshot="", given_up={})
    before = [Before.of(of_ring(state, place)) for place in range(1 + len(state.get("others", ())))]
    if share.index < len(before):
        own = before[share.index]
        ring, restored = _restored(spec, placement, folder.checkpoint.parent / own.snapshot if own.snapshot else None)
    else:
        own = Before(step=before[0].step)
        ring, restored = create_ring(replace(spec, min_ready=1), placement), set[int]()
    try:
        given_up = {packed: reads for packed, reads in own.left.items() if packed not in restored}
        ended = before[share.of :] if share.index == 0 else []
        there = own.settle((*restored, *given_up)).union(*(life.settle(life.left) for life in ended))
        everywhere = {number for text in exchange(json.dumps(sorted(there))) if text for number in json.loads(text)}
        begun = max(life.begun for life in before)
        unfinished = [
            number for place, life in enumerate(before) for number in life.lost_before(begun, Share(index=place, of=len(before)))
        ]
        start = Start(
            next_number=begun,
            again=tuple(number for number in sorted(unfinished) if number not in everywhere),
            skip=frozenset(number for number in everywhere if number >= begun),
            epoch=_next_epoch(ledgers(folder.path), restored),
            report=EngineReport.together([life.report for life in (own, *ended)]),
        )
        number, parent = _next_number(folder.ledger), own.number(folder.ledger)
    except BaseException:
        ring.close()
        raise
    return Life(
        ring=ring,
        start=start,
        step=own.step,
        number=number,
        parent=parent,
        snapshot=own.snapshot,
        given_up=given_up,
        ended={replace(folder, number=share.of + place).ledger: life for place, life in enumerate(ended)},
    )


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a checkpoint says of the life of one ring."""

    step: int
    life: int | None = None
    epoch: int | None = None
    """The first epoch of that life, which names it in checkpoints of before."""
    snapshot: str = ""
    left: Mapping[int, int] = field(default_factory=dict)
    """Trajectories in the ring: packed id → reads left."""
    begun: int = 0
    unfinished: Sequence[int] = ()
    report: EngineReport = field(default_factory=EngineReport)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Before:
        """The life whose state this is."""
        saved: Mapping[str, Any] = state.get("ring", {})
        return cls(
            step=int(state.get("leases", 0)),
            life=state.get("life"),
            epoch=state.get("epoch"),
            snapshot=str(saved.get("snapshot", "")),
            left={int(packed): int(reads) for packed, reads in saved.get("ready", ())},
            begun=int(state.get("next_number", 0)),
            unfinished=state.get("unfinished", ()),
            report=EngineReport.of(state.get("report", {})),
        )

    def number(self, book: Path) -> int | None:
        """The number of this life in its ledger; in checkpoints of before it is the last one with its epoch."""
        if self.life is not None or self.epoch is None or not book.exists():
            return self.life
        records = load(book)[0]
        found = numbers_of_lives(records)[lives(records)[1] == self.epoch]
        return int(found[-1]) if len(found) else None

    def settle(self, ids: Iterable[int]) -> set[int]:
        """Counts trajectories of these packed ids as published, though their report came after the checkpoint; their numbers."""
        there = {TrajectoryId.unpack(packed).sequence for packed in ids}
        late = sum(number in there for number in self.unfinished) + sum(number >= self.begun for number in there)
        self.report.fates[Fate.PUBLISHED] += late
        return there

    def lost_before(self, begun: int, share: Share) -> Iterator[int]:
        """The numbers before `begun` in its `share` that nobody has accounted for, or begun at all."""
        yield from self.unfinished
        yield from (number for number in range(self.begun, begun) if number in share)


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


def _next_number(book: Path) -> int:
    """The number of the next life in a ledger; a first life may have had forerunners that died before their first checkpoint."""
    return 1 + int(numbers_of_lives(load(book)[0]).max(initial=-1)) if book.exists() else 0


def _next_epoch(books: Sequence[Path], restored: set[int]) -> int:
    """The first epoch of this life: one more than the largest of earlier lives, or after 256 the one that was used longest ago.

    Epochs of trajectories in the restored ring count as used last; `books` are the ledgers of all rings.
    """
    records = np.concatenate([load(book)[0] for book in books])
    if len(books) > 1:
        records = records[np.argsort(records["time_s"], kind="stable")]
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
        self._names = tuple(folder.numbered(folder.checkpoint.parent / name) for name in _NAMES)
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
        path = self._names[self._last == self._names[0].name]
        try:
            self._ring.snapshot(path)
        except RingError as error:
            _LOG.warning("the checkpoint comes without its ring: %s", error)
            return ""
        self._last = path.name
        return path.name


def book(ledger: Ledger, batch: LeasedBatch, pairs: Sequence[int], step: int) -> None:
    """Records a read in the ledger before training on it, so that weights never depend on unrecorded reads, even after a crash."""
    ledger.read(cast(AnyLease, batch.lease), step=step, pairs=pairs)
    ledger.flush()
