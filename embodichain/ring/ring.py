"""The ring: many processes write trajectories in place, and each is read in place at most K times, even if processes are killed.

One process creates and owns it; others attach by path, up to 32 that may read and 128 that only write. All methods may be called
from any thread of the attaching process. A forked child must attach again.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from sys import getrefcount
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import host, layout, snapshot
from embodichain.ring.budget import MAX_READS_LIMIT
from embodichain.ring.contract import RingStats
from embodichain.ring.host import RingFile
from embodichain.ring.layout import RingLayout
from embodichain.ring.lease import Lease, Slot
from embodichain.ring.lent import HeldReads
from embodichain.ring.locks import Hold
from embodichain.ring.participants import domain, myself
from embodichain.ring.stats import read_spec
from embodichain.types import FullPolicy, ReplayMode, RingSpec, TrajectorySpec


class Ring:
    """One attachment to a ring; made by `Ring.create` (the owner) or `Ring.attach`."""

    reads_notes = False
    """Whether this class supports a payload on a device, which a note in the header describes."""

    def __init__(self, file: RingFile, spec: RingSpec, path: Path, owner: Hold | None = None, *, reads: bool = True) -> None:
        from embodichain.ring.member import Member  # imports numba, which observers do not need

        memory, self._readable, self._witness = file
        self._file = file
        self.reads = reads
        """Whether this attachment may draw trajectories; otherwise it only writes."""
        self.spec = spec
        self.path = path
        self._owner = owner is not None
        self._memory = memory
        self._header = memory[: layout.HEADER_BYTES].view(np.uint64)
        self._layout = RingLayout.of(spec)
        self._member = Member(file, spec, path, owner, reads=reads)
        self._rng = np.random.default_rng()
        self._debug = bool(self._member.observer.header(layout.AT_DEBUG))
        self._named = any((f.name, f.shape, f.dtype) == ("trajectory_id", (), "uint64") for f in spec.trajectory.fields)
        self._touched: set[bool] = set()
        self._control = threading.RLock()
        self._under_way = ""
        self._write_views: dict[int, Mapping[str, NDArray]] = {}
        self._sample_views: dict[int, Mapping[str, NDArray]] = {}

    @classmethod
    def create(cls, spec: RingSpec, path: Path | str | None = None, *, debug: bool = False, note: bytes = b"") -> Self:
        """Creates and owns a ring. Reserves and touches all its memory now; removes the file when closed.

        Args:
            spec: The trajectory schema, number of slots, K, and policy when full.
            path: Where the file goes; a fresh name in /dev/shm by default.
            debug: Fill retired slots with poison (0xFF bytes: NaN), and warn of views that outlive their lease.
            note: Describes a payload on a device; see `placement.ArenaNote`.

        Raises:
            RingError: There is too little memory, the folder cannot be written, or the name is taken.
        """
        return cls._create(spec, path, debug, note, lambda _: None)

    @classmethod
    def _create(cls, spec: RingSpec, path: Path | str | None, debug: bool, note: bytes, fill: Callable[[Self], None]) -> Self:
        """As `create`; `fill` is called while no other process can attach yet."""
        target = Path(path) if path is not None else host.default_path()
        host.remove_stale(target.parent)
        host.remove_stale(target.parent, target.name)
        host.remove_stale_journals()
        lay = RingLayout.of(spec)
        here = domain()
        with host.create(target, lay.total_bytes) as (file, unfinished, owner):
            _fill(file.memory, spec, lay, here, debug, note)
            # No variable refers to the ring: a frame that a debugger keeps after an exception would keep it as well.
            return cls(file, spec, target, owner)._published(fill, unfinished)

    def _published(self, fill: Callable[[Self], None], unfinished: Path) -> Self:
        """Itself, filled and under its final name."""
        try:
            fill(self)
            host.publish(self._file, unfinished, self.path)
        except BaseException:
            self.close()
            raise
        return self

    @classmethod
    def attach(cls, path: Path | str, trajectory: TrajectorySpec | None = None, *, reads: bool = True) -> Self:
        """Attaches to the ring at `path`.

        Args:
            path: The path of the ring's file. Processes in other containers may attach if they share the folder.
            trajectory: The schema that the caller expects; None accepts any.
            reads: False for a participant that only writes; a ring has room for 32 that may read and 128 that only write.

        Raises:
            RingClosed: The owner closed it or is dead.
            RingError: The file is missing, no ring, truncated, of another build, user, machine, time namespace or schema; or the
                ring has no room for another participant.
        """
        path = Path(path)
        file = host.attach(path)
        memory = file.memory
        header = memory[: layout.HEADER_BYTES].view(np.uint64)
        spec = read_spec(memory, path)
        if header[layout.AT_NOTE_BYTES // 8] and not cls.reads_notes:
            raise RingError(f"the payload of the ring at {path} lies on a device: attach with DeviceRing.attach(path, device)")
        if trajectory is not None and int(header[layout.AT_SCHEMA // 8]) != trajectory.schema_hash:
            raise RingError(
                f"the ring at {path} {layout.differ(spec.trajectory, trajectory)}: attach with the schema it was created with"
            )
        if int(header[layout.AT_TOTAL_BYTES // 8]) != RingLayout.of(spec).total_bytes:
            raise RingError(f"the ring at {path} is damaged: its size does not agree with its specification; create it again")
        if int(header[layout.AT_NAMESPACE // 8]) != domain():
            raise RingError(
                f"the ring at {path} was created on another machine, or in another time namespace, whose clock differs: another "
                "pid namespace would do, but without one kernel's locks and one clock no death can be proven; run all participants "
                "on one machine and in one time namespace"
            )
        if header[layout.AT_CLOSED // 8] or not file.witness.owner_alive():
            raise RingClosed(f"the owner of the ring at {path} is gone: create a new one")
        return cls(file, spec, path, reads=reads)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as its path; unpickling attaches in the other process."""
        return _attach_again, (type(self), self.path, self.reads)

    def close(self) -> None:
        """Leaves the ring and releases every slot and lease of this attachment. If called by the owner, ends the ring for all.

        Safe to call twice. Memory of views that are still referenced stays mapped until they are dropped.
        """
        self._member.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether this attachment or the whole ring has ended: by `close`, or because the owner is dead."""
        return not self._member.open

    # ------------------------------------------------------------------------------------------------------ writing

    def reserve(self, timeout_s: float = 5.0) -> Slot:
        """Takes a slot for writing one trajectory; see `Slot`. Blocks while none is free, at most `timeout_s` [s] (0: never).

        When the ring is full, policy `block` waits for readers; `evict_oldest` replaces the oldest trajectory without readers.

        Raises:
            RingTimeout: No slot in time; the message says which side is slow.
            RingClosed: The owner closed the ring or died.
        """
        claim = self._member.claim(timeout_s)
        index = claim.slot
        if self._debug:
            self._poison(index)
        views = self._write_views.get(index)
        if views is None:
            self._touch(self._memory)
            views = self._write_views[index] = self._layout.views(self._memory, index, writable=True)
        return Slot(self._member, index, claim.version, views, views["trajectory_id"] if self._named else None, claim)

    # ------------------------------------------------------------------------------------------------------ reading

    def acquire(
        self, batch_size: int, timeout_s: float = 5.0, rng: np.random.Generator | None = None, *, partial: bool = False
    ) -> Lease:
        """Draws one read each of `batch_size` different trajectories, uniformly over those that have reads left.

        Blocks until `min_ready` trajectories have once been ready, and `batch_size` can be drawn at once, at most `timeout_s` [s]
        (0: never sleeps). It takes all or nothing. Trajectories that this participant already holds in another lease may be drawn
        again; each draw costs a read, and the slot is held until the last lease on it ends.

        Args:
            batch_size: Number of different trajectories; cannot exceed the number of slots unless `partial`.
            timeout_s: Longest wait [s].
            rng: Decides the draw; one 64-bit number is taken for each call. By default a generator of this attachment.
            partial: Accept fewer trajectories, at least one.

        Raises:
            RingTimeout: Not enough in time; the message says which side is slow.
            RingClosed: The owner closed the ring or died.
        """
        if batch_size < 1 or (batch_size > self.spec.num_slots and not partial):
            raise RingError(
                f"a batch of {batch_size} different trajectories cannot come from {self.spec.num_slots} slots; "
                "ask for 1 up to that many, or pass partial=True"
            )
        bits = (self._rng if rng is None else rng).bit_generator
        want = min(batch_size, self.spec.num_slots)
        draws, now_ns = self._member.acquire(want, 1 if partial else batch_size, timeout_s, bits)
        return Lease(self, draws, now_ns)

    def sample(
        self, batch_size: int, timeout_s: float = 5.0, rng: np.random.Generator | None = None, *, partial: bool = False
    ) -> Lease:
        """`acquire`, for use in a `with` block: the batch is valid until the block ends."""
        return self.acquire(batch_size, timeout_s, rng, partial=partial)

    def field(self, name: str) -> NDArray:
        """One field of all slots, read-only, shape [num_slots, *shape]: index it with `lease.slots` to gather a batch.

        Only slots of a held lease may be accessed.
        """
        entry = self.spec.trajectory.field(name)
        start = self._layout.payload_at + self._layout.field_offsets[self.spec.trajectory.fields.index(entry)]
        inner = np.empty(entry.shape, entry.dtype).strides
        everything = (self.spec.num_slots, *entry.shape)
        self._touch(self._readable)
        return np.ndarray(everything, entry.dtype, self._readable.data, start, (self._layout.slot_bytes, *inner))

    @property
    def readable(self) -> NDArray[np.uint8]:
        """The ring's file as mapped for reading, for example to page-lock it for a GPU."""
        self._touch(self._readable)
        return self._readable

    def views(self, slot: int) -> Mapping[str, NDArray]:
        """Read-only views of every field of a slot. Only slots of a held lease may be accessed."""
        views = self._sample_views.get(slot)
        if views is None:
            self._touch(self._readable)
            views = self._sample_views[slot] = MappingProxyType(self._layout.views(self._readable, slot, writable=False))
        return views

    def release(self, draws: HeldReads) -> None:
        """Ends the lease with these draws; called by `Lease.release`."""
        if self._debug:
            self._look_for_kept_views(draws.table[:, : draws.count])
        self._member.release(draws, self._poison if self._debug else None)

    def _look_for_kept_views(self, table: NDArray[np.int64]) -> None:
        """Debug mode: warns about views, and tensors and slices made from them, that outlive the last lease on their slot."""
        for slot in table[0].tolist():
            views = self._sample_views.get(slot, {})
            # Normal reference counts are 2: a view by the mapping, its base by the view, and both by the argument of getrefcount.
            kept = [name for name in views if getrefcount(views[name]) > 2 or getrefcount(views[name].base) > 2]
            if kept and not self._member.holds_again(slot):
                warnings.warn(
                    f"a lease ends while views of {', '.join(kept)} of slot {slot} are still referred to: they will show whatever "
                    "is written there next; copy what must outlive the lease",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def _touch(self, part: NDArray[np.uint8]) -> None:
        """Fills page tables at the first write and the first read, so that the cost of attaching does not grow with the ring."""
        if part.flags.writeable not in self._touched:
            self._touched.add(part.flags.writeable)
            self._file.touch(part, self._layout.payload_at)

    def _poison(self, slot: int) -> None:
        self._layout.payload(self._memory, slot)[:] = layout.POISON

    # ------------------------------------------------------------------------------------------------------ control

    def stats(self) -> RingStats:
        """Statistics of slots, counters and participants. Reads memory only, so that it disturbs no participant."""
        self._member.collect()
        return self._member.observer.stats()

    def set_max_reads(self, max_reads: int) -> None:
        """Changes K for future trajectories and those in the ring: each is read `max_reads` times in all.

        Trajectories that were read as often already retire at once. Only for the owner. Waits for running publishes (nanoseconds).

        Raises:
            RingError: K is out of range, the caller is not the owner, or a signal handler calls this during this or `snapshot`.
            RingTimeout: A participant is stopped while publishing; its trajectory may keep the old K.
        """
        if not self._owner:
            raise RingError(f"only the owner of the ring at {self.path} may change max_reads")
        if not 1 <= max_reads <= MAX_READS_LIMIT:
            raise RingError(f"max_reads (K) must be 1..{MAX_READS_LIMIT}, got {max_reads}")
        late = self._alone("set_max_reads", lambda: self._member.set_max_reads(max_reads))
        if late:
            raise RingTimeout(f"max_reads is {max_reads} now, but process {late} is stopped while publishing: resume or kill it")

    def snapshot(self, path: Path | str) -> int:
        """Writes every trajectory that has reads left to a file, with its count of reads; returns how many. Only for the owner.

        The ring stays usable meanwhile. For exact resumption, no lease may be held, and no reader may draw between this call and
        the learner's checkpoint.

        Raises:
            RingError: The file cannot be written, the caller is not the owner, or a signal handler calls this during this or
                `set_max_reads`.
        """
        if not self._owner:
            raise RingError(f"only the owner of the ring at {self.path} may take a snapshot")

        def read(slot: int) -> memoryview:
            return self._layout.buffer(self._memory, slot)

        return self._alone("snapshot", lambda: snapshot.save(self._member, self.spec, Path(path), read))

    def _alone(self, name: str, deed: Callable[[], int]) -> int:
        """Does one of the owner's deeds at a time: other threads wait, a signal handler during another deed is refused."""
        # Not a context manager written in Python: an exception of a signal handler could come before its end runs.
        with self._control:
            if self._under_way:
                raise RingError(
                    f"{name} was called by a signal handler during {self._under_way} of the ring at {self.path}, which must end "
                    f"first: set a flag in the handler, and call {name} when {self._under_way} has returned"
                )
            try:
                self._under_way = name
                result = deed()
            finally:
                self._under_way = ""
            return result

    @classmethod
    def restore(
        cls,
        snapshot_path: Path | str,
        path: Path | str | None = None,
        *,
        trajectory: TrajectorySpec | None = None,
        debug: bool = False,
    ) -> Self:
        """Creates a ring from a snapshot, with the same schema and K, and each trajectory with the reads it had left.

        Other processes can attach when all of them are there.

        Raises:
            RingError: The snapshot is missing, truncated, damaged or of another schema, or the ring cannot be created.
        """
        index = snapshot.read_index(Path(snapshot_path), trajectory)

        def fill(ring: Self) -> None:
            def write(slot: int, payload: memoryview) -> None:
                ring._layout.buffer(ring._memory, slot)[:] = payload

            snapshot.load(ring._member, ring._header, Path(snapshot_path), index, write)

        return cls._create(index.spec, path, debug, b"", fill)

    def reap(self) -> int:
        """Reclaims from every participant that is proven dead; returns their number. Calls that wait do this automatically."""
        return self._member.reap()


def _fill(memory: NDArray[np.uint8], spec: RingSpec, lay: RingLayout, here: int, debug: bool, note: bytes) -> None:
    """Fills in everything of a new ring that is not zero."""
    header = memory[: layout.HEADER_BYTES].view(np.uint64)
    encoded = layout.encode_spec(spec)
    for at, value in (
        (layout.AT_ABI, layout.ABI),
        (layout.AT_SCHEMA, spec.trajectory.schema_hash),
        (layout.AT_GENERATION, int.from_bytes(os.urandom(8), "little")),
        (layout.AT_NUM_SLOTS, spec.num_slots),
        (layout.AT_SLOT_BYTES, lay.slot_bytes),
        (layout.AT_TOTAL_BYTES, lay.total_bytes),
        (layout.AT_PAYLOAD, lay.payload_at),
        (layout.AT_OWNER, myself().pack()),
        (layout.AT_NAMESPACE, here),
        (layout.AT_FULL_POLICY, spec.full_policy is FullPolicy.EVICT_OLDEST),
        (layout.AT_AGGREGATE, spec.mode is ReplayMode.AGGREGATE),
        (layout.AT_MIN_READY, spec.min_ready),
        (layout.AT_DEBUG, debug),
        (layout.AT_SPEC_BYTES, len(encoded)),
        (layout.AT_CREATED_NS, time.monotonic_ns()),
        (layout.AT_MAX_READS, spec.max_reads),
        (layout.AT_MAGIC, layout.MAGIC),
    ):
        header[at // 8] = value
    memory[layout.HEADER_BYTES : layout.HEADER_BYTES + len(encoded)] = np.frombuffer(encoded, np.uint8)
    header[layout.AT_NOTE_BYTES // 8] = len(note)
    memory[layout.AT_NOTE : layout.AT_NOTE + len(note)] = np.frombuffer(note, np.uint8)
    free_hints = np.packbits(np.ones(spec.num_slots, np.uint8), bitorder="little")
    memory[lay.free_hints_at : lay.free_hints_at + len(free_hints)] = free_hints


def _attach_again(kind: type[Ring], path: Path, reads: bool) -> Ring:
    return kind.attach(path, reads=reads)


def warm_up() -> None:
    """Compiles or loads every kernel: 6 s with a cold cache, 0.3 s with a warm one. To be called when a worker starts."""
    from embodichain.ring import member  # noqa: F401


class ControlRing(Ring):
    """The part of a ring on a device that is in host memory: control words, participants and scalar fields."""

    reads_notes = True
    poison_payload: Callable[[int], None] | None = None

    def _poison(self, slot: int) -> None:
        super()._poison(slot)
        if self.poison_payload is not None:
            self.poison_payload(slot)

    @classmethod
    def create_filled(cls, spec: RingSpec, path: Path | str | None, debug: bool, note: bytes, fill: Callable[[Self], None]) -> Self:
        """As `create`; `fill` is called while no other process can attach yet."""
        return cls._create(spec, path, debug, note, fill)

    @property
    def note(self) -> bytes:
        """The header's note about the payload."""
        return self._member.observer.note

    def owner_alive(self) -> bool:
        """Whether the process that created the ring is alive."""
        return self._witness.owner_alive()

    def header(self, at: int) -> int:
        """The header cell at a byte offset."""
        return self._member.observer.header(at)

    def word(self, slot: int) -> int:
        """The control word of a slot."""
        return self._member.observer.cell(slot, layout.SLOT_WORD)

    def keep_row(self) -> None:
        """Keeps slots held by this attachment out of use until its process is proven dead."""
        self._member.keep_row()

    @property
    def row(self) -> int:
        """The row of this attachment in the participants table."""
        return self._member.row

    def writable(self, slot: int) -> Mapping[str, NDArray]:
        """Writable views of a slot that this attachment has claimed."""
        return self._layout.views(self._memory, slot, writable=True)

    def save(self, path: Path, spec: RingSpec, read: snapshot.Read) -> int:
        """Writes a snapshot with the whole schema `spec`, payloads from `read`; returns the number of trajectories."""
        with self._control:
            return snapshot.save(self._member, spec, path, read)

    def load(self, path: Path, index: snapshot.Index, write: snapshot.Write) -> None:
        """Fills this empty ring from a snapshot; payloads go to `write`."""
        snapshot.load(self._member, self._header, path, index, write)
