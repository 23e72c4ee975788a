"""Statistics of a ring without taking part in it: counts of slots by state, and sums of the participants' counters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring import budget, host, layout
from embodichain.ring.budget import SlotState, SlotWord
from embodichain.ring.contract import Holder, RingStats
from embodichain.ring.host import RingFile
from embodichain.ring.layout import RingLayout
from embodichain.ring.locks import row_at
from embodichain.ring.participants import Health, ParticipantIdentity, RowState
from embodichain.ring.unique import Unique
from embodichain.types import RingSpec


class ParticipantView(NamedTuple):
    """One row of the participants table, decoded."""

    row: int
    identity: ParticipantIdentity
    health: Health
    idle_s: float
    waiting: int
    published: int
    acquired: int


class Observer(Unique):
    """Reads a ring's statistics from its memory, without a participant's row and without numba; `open` maps it read-only."""

    instead = "open the ring's path again, also in another process"

    def __init__(self, file: RingFile, spec: RingSpec, lay: RingLayout) -> None:
        memory, _, self.witness = file
        self.spec = spec
        self.layout = lay
        self._memory = memory
        self._header = memory[: layout.HEADER_BYTES].view(np.uint64)
        rows_end = lay.participants_at + layout.MAX_PARTICIPANTS * layout.ROW_BYTES
        self._rows = memory[lay.participants_at : rows_end].view(np.uint64).reshape(layout.MAX_PARTICIPANTS, -1)
        words_end = lay.words_at + lay.num_slots * layout.SLOT_STRIDE
        self._slots = memory[lay.words_at : words_end].view(np.uint64).reshape(lay.num_slots, -1)

    @classmethod
    def open(cls, path: Path | str) -> Observer:
        """Maps the ring at `path` read-only; raises RingError when there is none."""
        file = host.attach(Path(path), writable=False)
        spec = read_spec(file.memory, Path(path))
        return cls(file, spec, RingLayout.of(spec))

    def header(self, at: int) -> int:
        """The header cell at a byte offset."""
        return int(self._header[at // 8])

    @property
    def note(self) -> bytes:
        """The header's note about a payload on a device; empty without one."""
        size = self.header(layout.AT_NOTE_BYTES)
        return self._header.tobytes()[layout.AT_NOTE : layout.AT_NOTE + size]

    @property
    def ended(self) -> bool:
        """Whether the owner has closed the ring or is dead."""
        return self.header(layout.AT_CLOSED) != 0 or not self.witness.owner_alive()

    def row_word(self, row: int) -> int:
        """The identity word of a row of the participants table; 0 when it is free."""
        return int(self._rows[row, 0])

    def words(self) -> NDArray[np.uint64]:
        """A copy of every slot's control word, [num_slots]; each word is read atomically."""
        return self._slots[:, layout.SLOT_WORD // 8].copy()

    def cells(self, at: int) -> NDArray[np.uint64]:
        """A copy of one cell of every slot, by its byte offset in the slot's row."""
        return self._slots[:, at // 8].copy()

    def ready(self) -> dict[int, int]:
        """Packed id → reads left, for each trajectory that can be drawn. Uses no read."""
        ids = self.cells(layout.SLOT_TRAJECTORY).tolist()
        words = map(SlotWord.unpack, self.words().tolist())
        there = zip(ids, words, strict=True)
        return {packed: word.remaining for packed, word in there if word.state is SlotState.READY and word.remaining}

    def fields(self, slot: int) -> dict[str, NDArray] | None:
        """Views of every field of one slot. They may change at any moment: compare the slot's word before and after copying.

        None if the payload is on a device.
        """
        return None if self.note else self.layout.views(self._memory, slot, writable=False)

    def cell(self, slot: int, at: int) -> int:
        """One cell of one slot."""
        return int(self._slots[slot, at // 8])

    def participants(self) -> list[ParticipantView]:
        """All participants in the table."""
        now, found = time.monotonic_ns(), []
        for row in self._taken():
            cells = self._rows[row]
            word = int(cells[0])
            if word:  # it may have left since
                identity = ParticipantIdentity.unpack(word)
                found.append(
                    ParticipantView(
                        row=row,
                        identity=identity,
                        health=self._health(row, identity),
                        idle_s=max(0, now - int(cells[layout.ROW_ACTIVE_NS // 8])) / 1e9,
                        waiting=int(cells[layout.ROW_WAITING // 8]),
                        published=int(cells[layout.ROW_PUBLISHED // 8]),
                        acquired=int(cells[layout.ROW_ACQUIRED // 8]),
                    )
                )
        return found

    def dead(self) -> list[int]:
        """Rows of dead participants, by the locks of their rows. Cheaper than `participants`: nothing is read from /proc."""
        return [row for row in self._taken() if not self.witness.alive(row_at(row))]

    def waiting(self) -> int:
        """Number of participants that wait for a slot or a trajectory right now."""
        return int(np.count_nonzero(self._rows[:, layout.ROW_WAITING // 8]))

    def _taken(self) -> list[int]:
        return np.flatnonzero(self._rows[:, 0]).tolist()

    def _health(self, row: int, identity: ParticipantIdentity) -> Health:
        """Whether it is alive, by the lock of its row, and whether it is stopped, by /proc if that knows the process."""
        if not self.witness.alive(row_at(row)):
            return Health.DEAD
        return Health.STOPPED if identity.health() is Health.STOPPED else Health.ALIVE

    def publishing(self) -> list[int]:
        """Process ids of participants that are publishing right now."""
        busy = self._rows[:, layout.ROW_PUBLISHING // 8] != 0
        return [ParticipantIdentity.unpack(int(word)).pid for word in self._rows[busy, 0] if word]

    def stats(self) -> RingStats:
        """All statistics. They are not of a single instant, as slots change while they are counted."""
        words = self.words()
        state = words >> np.uint64(budget.STATE_SHIFT)
        remaining = words >> np.uint64(budget.REMAINING_SHIFT) & np.uint64(budget.REMAINING_MASK)
        holders = words & np.uint64(budget.HOLDERS_MASK)
        ready, writing = state == SlotState.READY, state == SlotState.WRITING
        people = self.participants()
        stopped = [view.row for view in people if view.health is Health.STOPPED]
        mask = np.uint64(sum(1 << row for row in stopped))
        quarantined = (ready & (holders & mask != 0)) | (writing & np.isin(holders, np.array(stopped, np.uint64)))
        published_ns = self.cells(layout.SLOT_PUBLISHED_NS)[ready]
        claimed_ns = self.cells(layout.SLOT_CLAIMED_NS)[writing]
        totals = self._rows.sum(axis=0)
        now = time.monotonic_ns()
        max_reads = self.header(layout.AT_MAX_READS)
        reads_left = int(remaining[ready].sum())
        if self.header(layout.AT_AGGREGATE):
            reads_left = max(0, max_reads * self.layout.num_slots - self.header(layout.AT_DRAWN))

        def total(cell: int) -> int:
            return int(totals[cell // 8])

        return RingStats(
            num_slots=self.layout.num_slots,
            free=int(np.count_nonzero(state == SlotState.FREE)),
            writing=int(np.count_nonzero(writing)),
            ready=int(np.count_nonzero(ready)),
            held=int(np.count_nonzero(ready & (holders != 0))),
            holders=_holders(people, holders, ready=ready, writing=writing),
            quarantined=int(np.count_nonzero(quarantined)),
            max_reads=max_reads,
            reads_left=reads_left,
            refill_left=self.header(layout.AT_REFILL),
            published=total(layout.ROW_PUBLISHED),
            acquired=total(layout.ROW_ACQUIRED),
            released=total(layout.ROW_RELEASED),
            abandoned=total(layout.ROW_ABANDONED),
            evicted=total(layout.ROW_EVICTED),
            retired=total(layout.ROW_RETIRED),
            reaped=total(layout.ROW_REAPED),
            reaped_slots=total(layout.ROW_REAPED_SLOTS),
            refused=total(layout.ROW_REFUSED),
            over_reads=total(layout.ROW_OVER_READS),
            blocked_writer_s=total(layout.ROW_BLOCKED_WRITER_NS) / 1e9,
            blocked_reader_s=total(layout.ROW_BLOCKED_READER_NS) / 1e9,
            participants=sum(view.identity.state is RowState.LIVE for view in people),
            waiting_writers=sum(view.waiting == layout.WAITING_WRITER for view in people),
            waiting_readers=sum(view.waiting == layout.WAITING_READER for view in people),
            oldest_s=max(0, now - int(published_ns.min())) / 1e9 if published_ns.size else 0.0,
            longest_write_s=max(0, now - int(claimed_ns.min())) / 1e9 if claimed_ns.size else 0.0,
            closed=self.ended,
        )


def _holders(
    people: list[ParticipantView], holders: NDArray[np.uint64], *, ready: NDArray[np.bool_], writing: NDArray[np.bool_]
) -> tuple[Holder, ...]:
    found: list[Holder] = []
    for view in people:
        held = ready & (holders >> np.uint64(view.row) & np.uint64(1) != 0) if view.row < layout.MAX_READERS else ready[:0]
        reading, mine = int(np.count_nonzero(held)), int(np.count_nonzero(writing & (holders == view.row)))
        if reading or mine:
            found.append(Holder(pid=view.identity.pid, health=view.health, reading=reading, writing=mine, since_s=view.idle_s))
    return tuple(sorted(found, key=lambda holder: -holder.since_s))


def read_spec(memory: NDArray[np.uint8], path: Path) -> RingSpec:
    """The specification stored in a mapped ring; raises RingError when it cannot be read."""
    size = int(memory[: layout.HEADER_BYTES].view(np.uint64)[layout.AT_SPEC_BYTES // 8])
    try:
        return layout.decode_spec(memory[layout.HEADER_BYTES : layout.HEADER_BYTES + size].tobytes())
    except (ValueError, KeyError, TypeError) as error:
        raise RingError(f"the ring at {path} has no readable specification ({error}): create it again") from error
