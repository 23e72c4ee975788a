"""One participant's side of a ring: its row, its lock, its waiting, and its duty to clear away the dead. Loads the kernels.

Everything here is private to the process that joined. Kernels run under `_lock` and never block; sleeping happens outside it.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import custody, futex, kernels, layout, words
from embodichain.ring.budget import SlotState, SlotWord
from embodichain.ring.host import RingFile
from embodichain.ring.late import When
from embodichain.ring.layout import RingLayout
from embodichain.ring.lent import Claim, Lent
from embodichain.ring.locks import Hold, Witness, row_at
from embodichain.ring.participants import Health, RowState, myself
from embodichain.ring.stats import Observer, ParticipantView
from embodichain.types import RingSpec

SLICE_S = 0.05
"""Longest sleep before a waiter looks again by itself: bounds the delay when the one who should wake it was killed."""
LOOK_WAITING_S, LOOK_BUSY_S = 0.02, 1.0
"""How often a participant looks for the dead (and for its owner), while it waits and while it does not."""
GRACE_S = 1.0
"""How long a change of K waits for publishes under way, which take nanoseconds."""
MANY = 32
"""More things handed out than this are looked through for those that were dropped, before the next one is."""
_NOT_YET = (words.NOTHING, words.NOT_PRIMED)
_members: weakref.WeakSet[Member] = weakref.WeakSet()


class Member:
    """Takes a row of the participants table; raises RingError when all of them are taken by the living.

    Args:
        file: The ring's memory, and the witness of who is alive.
        spec: What the ring is made of.
        path: The ring's name.
        owner: The owner's lock, when this is the owner.
        reads: Whether it may ever read: only 32 participants have a holder bit in the control word, 128 more only write.
    """

    def __init__(self, file: RingFile, spec: RingSpec, path: Path, owner: Hold | None, *, reads: bool) -> None:
        memory, _, self._witness = file
        self.path = path
        self.observer = Observer(file, spec, RingLayout.of(spec))
        self._spec = spec
        self._owner = owner is not None
        self._rows = range(layout.MAX_READERS) if reads else range(layout.MAX_READERS, layout.MAX_PARTICIPANTS)
        self._lock = threading.RLock()  # a signal handler may close the ring in the middle of a call of the same thread
        self._leases: Lent[NDArray[np.int64]] = Lent()
        self._claims: Lent[Claim] = Lent()
        self._pid = os.getpid()
        self._base = memory.ctypes.data
        self._looked = time.monotonic()
        self._look_ns = int((self._looked + LOOK_BUSY_S) * 1e9)
        self._held = np.zeros(spec.num_slots, np.int32)
        self._marks = np.zeros(spec.num_slots, np.int64)
        self._scratch = np.zeros(spec.num_slots, np.int32)
        self._identity = myself()
        self._reaper = self._identity._replace(state=RowState.REAPING).pack()
        self._context = self._make_context()
        self.row, hold = self._join()
        self._open = True
        self._finalizer = weakref.finalize(
            self, _finalize, self._pid, self._context, memory, self._identity.pack(), self._reaper, hold, owner, self._witness
        )
        _watch_forks()
        _members.add(self)

    @property
    def open(self) -> bool:
        """Whether this attachment and the ring still stand."""
        return self._open and self.observer.header(layout.AT_CLOSED) == 0

    def close(self) -> None:
        """Gives up everything held and leaves; the owner ends the ring and unlinks it. Safe to call twice."""
        with self._lock:
            self._open = False
            self._context[words.LEFT] = 1
            self._finalizer()

    def keep_row(self) -> None:
        """Leaves everything held to the proof of this process's death: neither `close` nor the interpreter's end gives it up."""
        self._finalizer.detach()

    def disown(self) -> None:
        """Called in a forked child: the attachment is its parent's, and whoever held the lock then is not here."""
        self._context[words.LEFT] = 1  # the child's own copy
        self._lock = threading.RLock()
        self._finalizer.detach()
        self._witness.close()  # its locks would be shared with the parent

    def collect(self) -> None:
        """Ends what was handed out and dropped: leases and claims that nobody refers to any more."""
        woken = 0
        with self._lock:
            claimed = int(self._context[words.CLAIMED]) - 1
            lost = [] if claimed < 0 else [(claimed & 0xFF_FFFF_FFFF, claimed >> 40)]
            claims = self._claims.dropped()
            lost += [(claim.slot, claim.version) for _, claim in claims]
            for slot, version in lost:
                word = SlotWord.unpack(self.observer.cell(slot, layout.SLOT_WORD))
                if (word.state, word.version, word.holders) == (SlotState.WRITING, version, self.row):
                    woken |= kernels.abandon(self._context, slot, version)
            self._context[words.CLAIMED] = 0
            for slot, _ in claims:
                self._claims.out.pop(slot, None)
            for key, table in self._leases.dropped():
                woken |= kernels.release(self._context, self._held, table, table.shape[1])
                self._leases.out.pop(key, None)
        self._wake(layout.AT_FREE_EVENT, woken)

    # ------------------------------------------------------------------------------------------------------ writing

    def claim(self, timeout_s: float) -> Claim:
        """A slot to write; it is given back once nobody refers to the claim any more, unless it was published before."""
        claim = Claim()
        if time.monotonic_ns() > self._look_ns:
            self._look(LOOK_BUSY_S)
        if len(self._claims.out) > MANY:
            self.collect()
        claimed = self._try_claim(False, claim)
        if claimed < 0:
            claimed = self._wait(
                lambda exact: self._try_claim(exact, claim), layout.AT_FREE_EVENT, layout.WAITING_WRITER, timeout_s
            )
        if claimed < 0:
            raise RingTimeout(When(lambda: f"no free slot within {timeout_s:g} s: the readers are behind; {self._situation()}"))
        return claim

    def publish(self, slot: int, version: int, trajectory_id: int | None) -> None:
        """Makes a claimed slot readable; without an id the trajectory is numbered by its publication."""
        named, number = trajectory_id is not None, trajectory_id or 0
        with self._lock:
            code = kernels.publish(self._context, slot, version, named, number, time.monotonic_ns())
            self._claims.out.pop(slot, None)
        if code == 0:
            return
        if code == words.GONE:
            self._refuse()
        if code == words.CLOSED:
            raise RingClosed(f"the owner closed the ring at {self.path}")
        if code == words.REFUSED:
            raise RingError(f"slot {slot} is no longer ours: a stale publish was refused")
        self._wake(layout.AT_READY_EVENT, code)

    def abandon(self, slot: int, version: int) -> None:
        """Gives a claimed slot back; does nothing once this attachment is closed, for closing gave it back."""
        with self._lock:
            code = kernels.abandon(self._context, slot, version)
            self._claims.out.pop(slot, None)
        self._wake(layout.AT_FREE_EVENT, code)

    def check(self) -> None:
        """Raises RingClosed or RingError when this attachment was closed, or is another process's."""
        if not self._usable:
            self._refuse()

    def _try_claim(self, exact: bool, claim: Claim | None = None) -> int:
        with self._lock:
            claimed = kernels.claim(self._context, time.monotonic_ns(), exact)
            if claimed >= 0:
                if claim is not None:
                    claim.slot, claim.version = claimed & 0xFF_FFFF_FFFF, claimed >> 40
                    self._claims.out[claim.slot] = claim
                # False when a signal handler came in between, and what it called gave the slot back as lost.
                if not custody.take_note(self._context):
                    claimed = words.NOTHING
        if claimed == words.GONE:
            self._refuse()
        return claimed

    # ------------------------------------------------------------------------------------------------------ reading

    def acquire(self, want: int, minimum: int, timeout_s: float, bits: np.random.BitGenerator) -> tuple[NDArray[np.int64], int]:
        """Draws `minimum` to `want` different trajectories: the table of draws, shape [5, drawn], and when [ns].

        They are released once nobody refers to the table any more, if `release` was not called before.
        """
        if self._rows.start:
            raise RingError(f"this attachment to the ring at {self.path} only writes: attach with reads=True to draw trajectories")
        table = np.zeros((5, want), np.int64)
        seed = bits.random_raw()  # one number a call, however often it tries
        now_ns = time.monotonic_ns()
        if now_ns > self._look_ns:
            self._look(LOOK_BUSY_S)
            now_ns = time.monotonic_ns()
        if len(self._leases.out) > MANY:
            self.collect()
        with self._lock:
            self._leases.out[id(table)] = table  # before the kernel: an exception may come right after it
            drawn = kernels.acquire(self._context, self._held, self._marks, self._scratch, table, minimum, seed, now_ns, False)
        if drawn < 0:

            def draw(exact: bool) -> int:
                nonlocal now_ns
                with self._lock:
                    now_ns = time.monotonic_ns()
                    return kernels.acquire(
                        self._context, self._held, self._marks, self._scratch, table, minimum, seed, now_ns, exact
                    )

            if drawn != words.GONE:
                drawn = self._wait(draw, layout.AT_READY_EVENT, layout.WAITING_READER, timeout_s)
            if drawn == words.GONE:
                self._refuse()
        if drawn < 0:
            lack = f"min_ready={self._spec.min_ready} trajectories"
            if drawn == words.NOTHING:
                lack = f"{minimum} trajectories with reads left"
            raise RingTimeout(When(lambda: f"no {lack} within {timeout_s:g} s: the writers are behind; {self._situation()}"))
        if self._context[words.WAKE]:
            self._context[words.WAKE] = 0
            self._wake(layout.AT_FREE_EVENT, 1)
        return (table if drawn == want else table[:, :drawn]), now_ns

    def release(self, table: NDArray[np.int64], before_retiring: Callable[[int], None] | None = None) -> None:
        """Ends a lease. `before_retiring` is called with each slot that this frees, while nobody else can hold it."""
        if table.base is not None:
            table = table.base
        with self._lock:
            if before_retiring is not None and self._usable:
                for slot, version in zip(table[words.DRAWN_SLOT], table[words.DRAWN_VERSION], strict=True):
                    if version >= words.HELD and custody.is_last(self._context, self._held, slot):
                        before_retiring(int(slot))
            code = kernels.release(self._context, self._held, table, table.shape[1])
            self._leases.out.pop(id(table), None)
        self._wake(layout.AT_FREE_EVENT, code)

    def holds_again(self, slot: int) -> bool:
        """Whether more than one lease of this attachment is on a slot."""
        return bool(self._held[slot] > 1)

    # ------------------------------------------------------------------------------------------------------ control

    def pin(self, slot: int) -> bool:
        """Keeps a READY slot from being rewritten without spending a read; False when it is not READY."""
        if self._rows.start:
            raise RingError(f"this attachment to the ring at {self.path} only writes: attach with reads=True to hold trajectories")
        with self._lock:
            if not self._usable:
                self._refuse()
            return custody.pin(self._context, self._held, slot)

    def unpin(self, slot: int) -> None:
        """Ends a pin."""
        with self._lock:
            code = custody.unpin(self._context, self._held, slot) if self._usable else 0
        self._wake(layout.AT_FREE_EVENT, code)

    def republish(self, slot: int, version: int, *, trajectory_id: int, reads: int, remaining: int, published_ns: int) -> None:
        """Publishes a trajectory that was read `reads` times in an earlier life, with the reads it has left."""
        with self._lock:
            if not self._usable:
                self._refuse()
            custody.republish(self._context, slot, version, trajectory_id, reads, remaining, published_ns)

    def set_max_reads(self, max_reads: int) -> int:
        """Changes K for what is in the ring and what will come; the pid of a publisher that is stopped half way, or 0."""
        with self._lock:
            if not self._usable:
                self._refuse()
            custody.set_bound(self._context, max_reads)
        late = self._await_publishers()
        for slot in range(self._spec.num_slots):
            with self._lock:
                if not self._usable:
                    self._refuse()
                custody.adjust(self._context, self._held, slot, max_reads)
        with self._lock:
            code = custody.announce(self._context)
        self._wake(layout.AT_READY_EVENT, code)
        self._wake(layout.AT_FREE_EVENT, code)
        return late

    def reap(self) -> int:
        """Clears away everybody who is provably dead; returns how many. Raises RingClosed when there is nothing left to clear."""
        if self.observer.header(layout.AT_CLOSED):
            raise RingClosed(f"the owner closed the ring at {self.path}")
        reaped = 0
        for view in self.observer.participants():
            if view.health is not Health.DEAD:
                continue
            with self._lock:
                if not self._usable:
                    self._refuse()
                slots = self._reap(view)
                code = custody.count_reaped(self._context, slots) if slots >= 0 else 0
            reaped += slots >= 0
            self._wake(layout.AT_READY_EVENT, code & 1)
            self._wake(layout.AT_FREE_EVENT, code & 2)
        return reaped

    def log_to(self, memory: NDArray[np.uint64] | None) -> None:
        """Records every change of a slot's word: (slot << 8 | operation, before, after) each, until `memory` is full."""
        with self._lock:
            self._context[words.LOG] = 0 if memory is None else memory.ctypes.data
            self._context[words.LOG_END] = 0 if memory is None else memory.ctypes.data + memory.nbytes // 24 * 24
            self._log = memory

    # ------------------------------------------------------------------------------------------------------ inside

    @property
    def _usable(self) -> bool:
        return not self._context[words.LEFT]

    def _refuse(self) -> NoReturn:
        if os.getpid() != self._pid:
            raise RingError(f"the ring at {self.path} was attached by process {self._pid} before a fork: attach again in the child")
        raise RingClosed(f"this attachment to the ring at {self.path} was closed")

    def _wait(self, attempt: Callable[[bool], int], event: int, kind: int, timeout_s: float) -> int:
        """Tries until it works or time is up, sleeping between tries; the last result. The fast path has failed before.

        Every try looks at all slots, hints or not, and the dead are reaped: what a crash may have cost is found here.
        """
        start = time.monotonic()
        self.collect()
        self._look(LOOK_WAITING_S)
        code = attempt(True)
        if code in _NOT_YET and timeout_s > 0:
            deadline = start + timeout_s
            try:
                while code in _NOT_YET and (left := deadline - time.monotonic()) > 0:
                    with self._lock:
                        if not self._usable:
                            self._refuse()
                        custody.set_waiting(self._context, kind, 0)
                        seen = custody.arm(self._context, event)
                    # What changed before `arm` is found by this try; what changes after it changes the event or wakes us.
                    code = attempt(True)
                    if code in _NOT_YET:
                        futex.wait(self._base + event, seen, min(left, SLICE_S))
                        self._look(LOOK_WAITING_S)
                        code = attempt(True)
            finally:
                with self._lock:
                    if self._usable:
                        custody.set_waiting(self._context, kind, max(1, int((time.monotonic() - start) * 1e9)))
        if code == words.CLOSED:
            raise RingClosed(f"the owner closed the ring at {self.path}")
        return code

    def _look(self, every_s: float) -> None:
        """Once in `every_s`: reaps the dead; raises RingClosed when the owner is among them, for nobody else would end the ring."""
        now = time.monotonic()
        if now < self._looked + every_s:
            return
        self._looked = now
        self._look_ns = int((now + LOOK_BUSY_S) * 1e9)
        self.collect()
        self.reap()
        if not self._owner and not self._witness.owner_alive():
            self._witness.bury()
            raise RingClosed(f"the owner of the ring at {self.path} died without closing it")

    def _wake(self, event: int, code: int) -> None:
        if code > 0:
            futex.wake(self._base + event)

    def _await_publishers(self) -> int:
        deadline = time.monotonic() + GRACE_S
        while busy := self.observer.publishing():
            if time.monotonic() > deadline:
                return busy[0]
            self.reap()
            time.sleep(0.0005)
        return 0

    def _join(self) -> tuple[int, Hold]:
        """A row of the table and its lock; the dead are reaped when there is no other room."""
        reaped: list[int] = []
        joined = self._take_row()
        if joined is None:
            reaped = [self._reap(view) for view in self.observer.participants() if view.health is Health.DEAD]
            joined = self._take_row()
        if joined is None:
            kind, remedy = ("that may read", "attach those that only write with reads=False,")
            if self._rows.start:
                kind, remedy = ("that only write", "close an attachment,")
            raise RingError(
                f"the ring at {self.path} has all of its {len(self._rows)} participants {kind}: {remedy} or use a second ring"
            )
        self._context[words.ROW] = joined[0]
        for slots in reaped:
            if slots >= 0:
                custody.count_reaped(self._context, slots)
        return joined

    def _take_row(self) -> tuple[int, Hold] | None:
        """The lock comes before the row: a row that is taken and not locked is a dead participant's."""
        for row in self._rows:
            if self.observer.row_word(row):
                continue
            hold = self._witness.hold(row_at(row))
            if hold is None:
                continue
            if custody.join(int(self._context[words.ROWS]), row, self._identity.pack()):
                return row, hold
            hold.release()
        return None

    def _reap(self, view: ParticipantView) -> int:
        """How many slots the dead participant held, or NOTHING when others were first. The lock of its row proves it dead."""
        at = row_at(view.row)
        if not self._witness.take(at):
            return words.NOTHING
        try:
            word = self.observer.row_word(view.row)  # whoever has it now has no lock
            return custody.reap(self._context, view.row, word, self._reaper) if word else words.NOTHING
        finally:
            self._witness.drop(at)

    def _make_context(self) -> NDArray[np.int64]:
        lay = self.observer.layout
        context = np.zeros(words.CONTEXT_CELLS, np.int64)
        context[words.BASE] = self._base
        context[words.NUM_SLOTS] = lay.num_slots
        context[words.WORDS] = self._base + lay.words_at
        context[words.READY_HINTS] = self._base + lay.ready_hints_at
        context[words.FREE_HINTS] = self._base + lay.free_hints_at
        context[words.HINT_WORDS] = -(-lay.num_slots // 64)
        context[words.ROWS] = self._base + lay.participants_at
        context[words.ORDER] = self._base + lay.order_at
        context[words.EVICT] = self.observer.header(layout.AT_FULL_POLICY)
        context[words.AGGREGATE] = self.observer.header(layout.AT_AGGREGATE)
        return context

    def _situation(self) -> str:
        s = self.observer.stats()
        slots = f"of {s.num_slots} slots {s.ready} are ready ({s.held} held), {s.writing} being written, {s.free} free"
        stopped = f", {s.quarantined} quarantined with a stopped process" if s.quarantined else ""
        # Who is silent longest is the likeliest to hang.
        held = "".join(f"; {holder}" for holder in s.holders[:3])
        return f"{slots}{stopped}; {s.participants} participants, {s.reads_left} reads left{held}"


@functools.cache
def _watch_forks() -> None:
    """From the first attachment on: a forked child finds its copies of the parent's attachments unusable, and their locks free."""

    def in_child() -> None:
        for member in _members:
            member.disown()

    os.register_at_fork(after_in_child=in_child)


def _finalize(
    pid: int,
    context: NDArray[np.int64],
    memory: NDArray[np.uint8],
    identity: int,
    reaper: int,
    row: Hold,
    owner: Hold | None,
    witness: Witness,
) -> None:
    """Ends an attachment, at the latest when the interpreter exits; a forked child must not end its parent's."""
    if os.getpid() != pid:
        return
    base = memory.ctypes.data
    if owner is not None:
        witness.unlink()
        custody.close(base)
    custody.reap(context, int(context[words.ROW]), identity, reaper)
    custody.announce(context)
    futex.wake(base + layout.AT_READY_EVENT)
    futex.wake(base + layout.AT_FREE_EVENT)
    row.release()
    if owner is not None:
        owner.release()
    witness.close()
