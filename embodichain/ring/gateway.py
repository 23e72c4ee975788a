"""Receives whole trajectories from workers on other nodes and publishes each in the local ring at most once.

`Gateway` runs on the ring's node and writes into the ring; workers on other nodes write into a `remote.RemoteRing`. The transport
between them belongs to the caller (`ray_engine`); this file uses no network.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError, RingTimeout, TrajectoryForfeited
from embodichain.ring import layout
from embodichain.ring.budget import SlotState, SlotWord
from embodichain.ring.contract import AnyRing, AnySlot
from embodichain.ring.delivered import Delivered
from embodichain.ring.journal import Journal, JournalRecord, RecordKind, settled
from embodichain.ring.stats import Observer
from embodichain.ring.unique import Unique
from embodichain.types import MOST_TOGETHER, TrajectoryId, TrajectorySpec

COPY_S = 60.0
"""How long publishing may take before a trajectory is given up [s]; a slot on a device must be copied."""


class Parcel(NamedTuple):
    """One trajectory to be delivered: every field of the ring's schema, in its shape and dtype, and its identity.

    Sequence numbers of one worker and epoch must increase.
    """

    arrays: Mapping[str, NDArray]
    identity: TrajectoryId


DeliveryResult = bool | RingError
"""What became of one parcel: True if it was published, False if it had been before, or the reason why neither is so."""


class Gateway(Unique):
    """Publishes each (worker, sequence, epoch) at most once, even if the gateway process dies and is replaced.

    Several threads may deliver at once: they copy into different slots in parallel, then record and publish one after another.

    Before a batch is published, the identity, the slot and its state of each trajectory are written into a journal in one piece,
    and afterwards the outcomes. If the journal cannot be written, the batch is refused before it is published. A successor opens
    the same journal and examines the slots of unfinished entries: if one holds the trajectory, it was published; if it is
    unchanged, it was not; if it has been reused since, the outcome is unknown, and the trajectory is forfeited rather than
    published twice. A journal that is another ring's, which once lay at the same path, is begun anew.

    Args:
        ring: An attachment of this process to the local ring; the caller closes it.
        journal: The journal file of this ring's gateway, a few hundred KiB; created when missing. Delete it after the ring has
            ended.
        timeout_s: How long to wait for a previous gateway to release the journal [s].

    Raises:
        RingTimeout: Another living process is the gateway of this journal.
        RingError: The journal cannot be opened, or there is no room for it.
    """

    instead = "a ring has one gateway; another takes over when its process has died"

    def __init__(self, ring: AnyRing, journal: Path, *, timeout_s: float = 10.0) -> None:
        self._ring = ring
        self._observer = Observer.open(ring.path)
        self._lock = threading.RLock()  # protects all fields below, and is held from writing an intent to writing its outcome
        self._named = JournalRecord(self._observer.header(layout.AT_GENERATION), 0, 0, RecordKind.RING)
        self._seen = Delivered()
        self._forfeited: set[int] = set()
        self._under_way: dict[int, object] = {}
        """Identities that are being delivered, each with a token of the call that does it."""
        self._open: list[JournalRecord] = []
        """Intents whose outcomes are not known yet: none, but while the lock is held and after an interrupt."""
        self._late: set[int] = set()
        self._unwritten: list[JournalRecord] = []
        self._journal = Journal(journal, timeout_s=timeout_s)
        try:
            self._recover()
        except BaseException:
            self._journal.close()
            raise

    def deliver(self, arrays: Mapping[str, NDArray], identity: TrajectoryId, *, timeout_s: float = 5.0) -> bool:
        """Copies one whole trajectory into the ring; returns False, and writes nothing, if it was delivered before.

        Args:
            arrays: Every field of the ring's trajectory, in its shape and dtype.
            identity: Its worker, epoch and sequence number. Sequence numbers of one worker and epoch must increase.
            timeout_s: Longest wait for a free slot [s]; 0 never sleeps.

        Raises:
            RingTimeout: The ring is full, or another thread is delivering the same trajectory; call again later.
            RingError: The arrays do not fit the ring's schema or have another identity, or the journal cannot be written. The ring
                is then unchanged.
            TrajectoryForfeited: An earlier gateway died while it published this trajectory, and the outcome is unknown.
            RingClosed: The ring has ended.
        """
        (outcome,) = self.deliver_all([Parcel(arrays, identity)], timeout_s=timeout_s)
        if isinstance(outcome, RingError):
            raise outcome
        return outcome

    def deliver_all(self, parcels: Sequence[Parcel], *, timeout_s: float = 5.0) -> list[DeliveryResult]:
        """Copies a batch of whole trajectories into the ring and publishes them together; the outcome of each, in order.

        The outcome of a trajectory is what `deliver` would have returned or raised for it. Those for which there is no free slot
        now get RingTimeout: send them again later, alone or together with those that were delivered, which are recognised.

        Args:
            parcels: At most `MOST_TOGETHER` trajectories.
            timeout_s: Longest wait for the first free slot [s]; others are taken only if they are free at once, so that no batch
                waits while it holds slots.

        Raises:
            RingError: There are too many, or the journal cannot be written. The ring is then unchanged.
        """
        if len(parcels) > MOST_TOGETHER:
            raise RingError(f"{len(parcels)} trajectories came in one batch: send at most {MOST_TOGETHER}")
        decided: dict[int, DeliveryResult] = {}
        slots: list[AnySlot] = []
        token = object()
        try:
            waiting = []
            for index, parcel in enumerate(parcels):
                if (outcome := self._admit(parcel, token)) is None:
                    waiting.append(index)
                else:
                    decided[index] = outcome
            refusals = self._fill(slots, [parcels[index].arrays for index in waiting], timeout_s)
            written = [parcels[index].identity.pack() for index in waiting[: len(slots)]]
            with self._lock:
                published = self._publish(list(zip(slots, written, strict=True)))
        finally:
            with self._lock:
                self._conclude()  # while the slots are held, as they tell what an interrupt left open
                for slot in slots:
                    slot.abandon()  # does nothing if it is published already
                for packed in [packed for packed, whose in self._under_way.items() if whose is token]:
                    del self._under_way[packed]
        decided |= zip(waiting, [*published, *refusals], strict=True)
        return [decided[index] for index in range(len(parcels))]

    def close(self) -> None:
        """Releases the journal; safe to call twice. What another thread is delivering is then refused."""
        with self._lock:
            self._journal.close()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _admit(self, parcel: Parcel, token: object) -> DeliveryResult | None:
        """The outcome of a parcel that is not to be published now; None notes that it is under way."""
        packed = parcel.identity.pack()
        try:
            check(parcel.arrays, self._ring.spec.trajectory, packed)
        except RingError as error:
            return error
        with self._lock:
            if packed in self._forfeited:
                return TrajectoryForfeited(
                    f"the gateway died while it published {parcel.identity}; it may be in the ring and is not written again"
                )
            if packed in self._seen:
                return False
            if packed in self._under_way:
                return RingTimeout(f"{parcel.identity} is being delivered already: ask again for its outcome")
            self._under_way[packed] = token
        return None

    def _fill(self, slots: list[AnySlot], waiting: Sequence[Mapping[str, NDArray]], timeout_s: float) -> list[RingError]:
        """Adds a slot with a copy of each trajectory to `slots`; for each that there was none for, the error that says why."""
        for arrays in waiting:
            try:
                slots.append(self._ring.reserve(0.0 if slots else timeout_s))
            except RingError as error:
                return [error] * (len(waiting) - len(slots))
            for name, view in slots[-1].items():
                np.copyto(view, arrays[name])
        return []

    def _publish(self, batch: Sequence[tuple[AnySlot, int]]) -> list[DeliveryResult]:
        """Publishes written slots, with a journal entry for the intent of each before, and for their outcomes after."""
        if not batch:
            return []
        self._make_room(2 * len(batch))
        intents = [self._intent(slot, packed) for slot, packed in batch]
        self._open, outcomes = intents, list[DeliveryResult]()
        try:
            self._journal.append(intents)
        except RingError:
            self._open = []
            raise
        for slot, packed in batch:
            try:
                slot.publish(COPY_S)
            except RingError as error:
                if isinstance(error, RingTimeout):
                    self._late.add(packed)
                outcomes.append(error)
            else:
                outcomes.append(True)
        self._conclude()
        return outcomes

    def _conclude(self) -> None:
        """Records the outcomes of open intents, as their slots tell them; again, if an interrupt comes in between."""
        if self._open:
            # After a timeout a running copy may still publish the slot later, so the trajectory must not be sent again.
            self._settle([(RecordKind.FORFEIT if one.packed in self._late else self._judge(one), one.packed) for one in self._open])
            self._open, self._late = [], set()

    def _intent(self, slot: AnySlot, packed: int) -> JournalRecord:
        before = self._observer.cell(slot.index, layout.SLOT_PUBLISHED_NS)
        version = SlotWord.unpack(self._observer.cell(slot.index, layout.SLOT_WORD)).version
        return JournalRecord(packed, slot.index | version << 40, before, RecordKind.INTENT)

    def _make_room(self, records: int) -> None:
        """Ensures room in the journal for this many records; raises RingError before anything is published."""
        if self._unwritten:
            self._journal.append(self._unwritten)
            self._unwritten = []
        if self._journal.room < records:
            forfeited = [JournalRecord(packed, 0, 0, RecordKind.FORFEIT) for packed in self._forfeited]
            self._journal.trim([self._named, *self._seen.records(), *forfeited])

    def _recover(self) -> None:
        """Takes over from a previous gateway: loads its deliveries, and determines the outcomes of an unfinished batch."""
        if (records := self._journal.records)[:1] != [self._named]:
            self._journal.trim([self._named])
            records = []
        self._journal.records = []
        outcomes, pending = settled(records)
        for record in outcomes:
            if record.kind == RecordKind.DONE:
                self._seen.add(record.packed)
            elif record.kind == RecordKind.BEFORE:
                self._seen.add_before(record.packed)
            else:
                self._forfeited.add(record.packed)
        if pending:
            self._ring.reap()  # its lock on the journal is gone, so it is dead: reclaim its slots before examining them
            self._settle([(self._judge(intent), intent.packed) for intent in pending])

    def _judge(self, intent: JournalRecord) -> RecordKind:
        """The outcome of a publish whose intent was recorded without an outcome."""
        slot, version = intent.place & 0xFF_FFFF_FFFF, intent.place >> 40
        word = SlotWord.unpack(self._observer.cell(slot, layout.SLOT_WORD))
        if word.version == version and word.state is SlotState.READY:
            return RecordKind.DONE
        if word.version == version and self._observer.cell(slot, layout.SLOT_PUBLISHED_NS) == intent.before:
            return RecordKind.UNDONE
        return RecordKind.FORFEIT

    def _settle(self, outcomes: Sequence[tuple[RecordKind, int]]) -> None:
        """Records outcomes. If the journal cannot be written now, it is before the next intent; until then the slots show them."""
        for kind, packed in outcomes:
            if kind is RecordKind.DONE:
                self._seen.add(packed)
            elif kind is RecordKind.FORFEIT:
                self._forfeited.add(packed)
        self._unwritten = [JournalRecord(packed, 0, 0, kind) for kind, packed in outcomes]
        with suppress(RingError):
            self._journal.append(self._unwritten)
            self._unwritten = []


def check(arrays: Mapping[str, NDArray], trajectory: TrajectorySpec, packed: int) -> None:
    """Raises RingError unless `arrays` are a trajectory of the schema; if they contain an identity, it must equal `packed`."""
    if missing := sorted({field.name for field in trajectory.fields} ^ set(arrays)):
        raise RingError(f"a trajectory with fields {sorted(arrays)} came for a ring of {names(trajectory)}: {missing} differ")
    for field in trajectory.fields:
        array = arrays[field.name]
        if not isinstance(array, np.ndarray):
            raise RingError(f"field {field.name!r} came as {type(array).__name__}, where an array is wanted")
        if array.shape != field.shape or array.dtype != np.dtype(field.dtype):
            raise RingError(
                f"field {field.name!r} came as {array.dtype}{list(array.shape)}, the ring holds {field.dtype}{list(field.shape)}: "
                "run one version and one configuration on every node"
            )
    if "trajectory_id" in arrays and int(arrays["trajectory_id"]) != packed:
        raise RingError(f"trajectory {TrajectoryId.unpack(int(arrays['trajectory_id']))} came as {TrajectoryId.unpack(packed)}")


def names(trajectory: TrajectorySpec) -> list[str]:
    """The names of a schema's fields, sorted, for messages."""
    return sorted(field.name for field in trajectory.fields)
