"""Receives whole trajectories from workers on other nodes and publishes each in the local ring at most once.

`Gateway` runs on the ring's node and writes into the ring. `RemoteRing` gives workers on other nodes private arrays in place of
slots. The transport between them belongs to the caller (`ray_engine`); this file uses no network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError, RingTimeout, TrajectoryForfeited
from embodichain.ring import layout
from embodichain.ring.budget import SlotState, SlotWord
from embodichain.ring.contract import AnyRing, AnySlot
from embodichain.ring.journal import Journal, Kind, Record, settled
from embodichain.ring.lease import Slot
from embodichain.ring.stats import Observer
from embodichain.ring.unique import Unique
from embodichain.types import TrajectoryId, TrajectorySpec

REMEMBERED = 1024
"""Number of the latest sequence numbers remembered for each worker and epoch; earlier ones count as delivered."""
PATIENCE_S = 900.0
"""How long a worker waits with a trajectory while the ring is full or the gateway is being replaced [s]; the learner may pause."""
COPY_S = 60.0
"""How long publishing may take before a trajectory is given up [s]; a slot on a device must be copied."""


class Gateway(Unique):
    """Publishes each (worker, sequence, epoch) at most once, even if the gateway process dies and is replaced.

    Several threads may call `deliver` at once: they copy into different slots in parallel, then record and publish one by one.

    Before each publish, the identity, the slot and its state are written into a journal, and afterwards the success. If the journal
    cannot be written, the trajectory is refused before it is published. A successor opens the same journal and examines the slot of
    an unfinished entry: if it holds the trajectory, it was published; if it is unchanged, it was not; if it has been reused since,
    the outcome is unknown, and the trajectory is forfeited rather than published twice.

    Args:
        ring: An attachment of this process to the local ring; the caller closes it.
        journal: The journal file of this ring's gateway, a few hundred KiB; created when missing. Delete it after the ring has
        ended. timeout_s: How long to wait for a previous gateway to release the journal [s].

    Raises:
        RingTimeout: Another living process is the gateway of this journal.
        RingError: The journal cannot be opened, or there is no room for it.
    """

    instead = "a ring has one gateway; another takes over when its process has died"

    def __init__(self, ring: AnyRing, journal: Path, *, timeout_s: float = 10.0) -> None:
        self._ring = ring
        self._observer = Observer.open(ring.path)
        self._lock = threading.Lock()  # protects all fields below, and is held from writing an intent to writing its outcome
        self._seen = _Seen()
        self._forfeited: set[int] = set()
        self._under_way: set[int] = set()
        self._unwritten: tuple[Kind, int] | None = None
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
        packed = identity.pack()
        check(arrays, self._ring.spec.trajectory, packed)
        with self._lock:
            if packed in self._forfeited:
                raise TrajectoryForfeited(
                    f"the gateway died while it published {identity}; it may be in the ring and is not written again"
                )
            if packed in self._seen:
                return False
            if packed in self._under_way:
                raise RingTimeout(f"{identity} is being delivered already: ask again for its outcome")
            self._make_room()
            self._under_way.add(packed)
        try:
            with self._ring.reserve(timeout_s) as slot:
                for name, view in slot.items():
                    np.copyto(view, arrays[name])
                with self._lock:
                    self._publish(slot, packed)
        finally:
            with self._lock:
                self._under_way.discard(packed)
        return True

    def close(self) -> None:
        """Releases the journal; safe to call twice."""
        self._journal.close()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _publish(self, slot: AnySlot, packed: int) -> None:
        """Publishes a written slot, with journal entries for the intent before and the outcome after."""
        self._make_room()
        before = self._observer.cell(slot.index, layout.SLOT_PUBLISHED_NS)
        version = SlotWord.unpack(self._observer.cell(slot.index, layout.SLOT_WORD)).version
        place = slot.index | version << 40
        self._note(Kind.INTENT, packed, place, before)
        try:
            slot.publish(COPY_S)
        except BaseException as error:
            # After a timeout a running copy may still publish the slot later, so the trajectory must not be sent again.
            late = isinstance(error, RingTimeout)
            self._settle(packed, Kind.FORFEIT if late else self._judge(place, before))
            raise
        self._settle(packed, Kind.DONE)

    def _note(self, kind: Kind, packed: int, place: int = 0, before: int = 0) -> None:
        self._journal.append(Record(packed, place, before, kind))

    def _make_room(self) -> None:
        """Ensures room in the journal for an intent and its outcome; raises RingError before anything is published."""
        if self._unwritten is not None:
            self._note(*self._unwritten)
            self._unwritten = None
        if self._journal.room < 2:
            forfeited = [Record(packed, 0, 0, Kind.FORFEIT) for packed in self._forfeited]
            self._journal.trim([*self._seen.records(), *forfeited])

    def _recover(self) -> None:
        """Takes over from a previous gateway: loads its deliveries, and determines the outcome of its unfinished publish."""
        outcomes, pending = settled(self._journal.records)
        self._journal.records = []
        for record in outcomes:
            if record.kind == Kind.DONE:
                self._seen.add(record.packed)
            elif record.kind == Kind.BEFORE:
                self._seen.add_before(record.packed)
            else:
                self._forfeited.add(record.packed)
        if pending is None:
            return
        self._ring.reap()  # its lock on the journal is gone, so it is dead: reclaim its slot before examining it
        self._settle(pending.packed, self._judge(pending.place, pending.before))

    def _judge(self, place: int, before: int) -> Kind:
        """The outcome of a publish whose intent was recorded without an outcome."""
        slot, version = place & 0xFF_FFFF_FFFF, place >> 40
        word = SlotWord.unpack(self._observer.cell(slot, layout.SLOT_WORD))
        if word.version == version and word.state is SlotState.READY:
            return Kind.DONE
        if word.version == version and self._observer.cell(slot, layout.SLOT_PUBLISHED_NS) == before:
            return Kind.UNDONE
        return Kind.FORFEIT

    def _settle(self, packed: int, outcome: Kind) -> None:
        """Records an outcome. If the journal cannot be written now, it is written before the next intent; until then the slot shows
        it.
        """
        if outcome is Kind.DONE:
            self._seen.add(packed)
        elif outcome is Kind.FORFEIT:
            self._forfeited.add(packed)
        self._unwritten = (outcome, packed)
        with suppress(RingError):
            self._note(outcome, packed)
            self._unwritten = None


Deliver = Callable[[Mapping[str, NDArray], TrajectoryId, float], bool]
"""Sends one trajectory to the gateway within a timeout [s]; same results and errors as `Gateway.deliver`."""


class RemoteRing(Unique):
    """A substitute for the ring on a node without one. For one thread, with one slot at a time.

    Args:
        trajectory: The ring's schema, with a scalar `trajectory_id`.
        deliver: Sends a trajectory to the gateway.
        patience_s: How long publishing may wait while the ring is full or the gateway is being replaced [s].
    """

    instead = "make another of the same schema"

    def __init__(self, trajectory: TrajectorySpec, deliver: Deliver, *, patience_s: float = PATIENCE_S) -> None:
        if not any((field.name, field.shape, field.dtype) == ("trajectory_id", (), "uint64") for field in trajectory.fields):
            raise RingError(f"a gateway tells trajectories apart by a uint64 scalar trajectory_id; fields: {_names(trajectory)}")
        self.trajectory = trajectory
        self._deliver = deliver
        self._patience_s = patience_s
        self._arrays = trajectory.allocate()
        self._lent = False

    def reserve(self, timeout_s: float = 5.0) -> Slot:
        """Private arrays for one trajectory, used like a slot of the ring; publishing sends them.

        Never waits, whatever `timeout_s`: waiting for a free slot happens on publishing. Publishing raises the errors of
        `Gateway.deliver`; after RingTimeout the same trajectory may be made and sent again.
        """
        if self._lent:
            raise RingError("the slot reserved before is still open: publish or abandon it first")
        self._lent = True
        return Slot(self, 0, 0, self._arrays, self._arrays["trajectory_id"])

    def close(self) -> None:
        """Does nothing, as it holds nothing of the ring."""

    def publish(self, slot: int, version: int, trajectory_id: int | None) -> None:
        """Called by the slot: sends its arrays to the gateway."""
        self._lent = False
        assert trajectory_id is not None
        self._deliver(self._arrays, TrajectoryId.unpack(trajectory_id), self._patience_s)

    def abandon(self, slot: int, version: int) -> None:
        """Called by the slot: drops its arrays."""
        self._lent = False

    def check(self) -> None:
        """Called by the slot: never raises."""


def check(arrays: Mapping[str, NDArray], trajectory: TrajectorySpec, packed: int) -> None:
    """Raises RingError unless `arrays` are a trajectory of the schema; if they contain an identity, it must equal `packed`."""
    if missing := sorted({field.name for field in trajectory.fields} ^ set(arrays)):
        raise RingError(f"a trajectory with fields {sorted(arrays)} came for a ring of {_names(trajectory)}: {missing} differ")
    for field in trajectory.fields:
        array = arrays[field.name]
        if array.shape != field.shape or array.dtype != np.dtype(field.dtype):
            raise RingError(
                f"field {field.name!r} came as {array.dtype}{list(array.shape)}, the ring holds {field.dtype}{list(field.shape)}: "
                "run one version and one configuration on every node"
            )
    if "trajectory_id" in arrays and int(arrays["trajectory_id"]) != packed:
        raise RingError(f"trajectory {TrajectoryId.unpack(int(arrays['trajectory_id']))} came as {TrajectoryId.unpack(packed)}")


class _Seen:
    """The set of delivered identities: the last `REMEMBERED` of each worker and epoch, and all before them."""

    def __init__(self) -> None:
        self._recent: dict[int, dict[int, None]] = {}
        self._before: dict[int, int] = {}

    def add(self, packed: int) -> None:
        life, sequence = packed >> 40, packed & 0xFF_FFFF_FFFF
        recent = self._recent.setdefault(life, {})
        recent[sequence] = None
        if len(recent) > REMEMBERED:
            oldest = next(iter(recent))
            del recent[oldest]
            self._before[life] = max(oldest, self._before.get(life, -1))

    def add_before(self, packed: int) -> None:
        """Marks all sequence numbers of this worker and epoch up to `packed` as delivered."""
        life, sequence = packed >> 40, packed & 0xFF_FFFF_FFFF
        self._before[life] = max(sequence, self._before.get(life, -1))

    def records(self) -> Iterator[Record]:
        """The set as journal records, for trimming the journal."""
        for life, sequence in self._before.items():
            yield Record(life << 40 | sequence, 0, 0, Kind.BEFORE)
        for life, recent in self._recent.items():
            for sequence in recent:
                yield Record(life << 40 | sequence, 0, 0, Kind.DONE)

    def __contains__(self, packed: int) -> bool:
        life, sequence = packed >> 40, packed & 0xFF_FFFF_FFFF
        return sequence in self._recent.get(life, ()) or sequence <= self._before.get(life, -1)


def _names(trajectory: TrajectorySpec) -> list[str]:
    return sorted(field.name for field in trajectory.fields)
