"""One process's participation in a ring: its row and lock, waiting, and reaping of dead participants. Imports the kernels (numba).

Everything here is private to the process. Kernels run under `_lock` and never block; sleeping happens outside of the lock.
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
from embodichain.ring.leaving import Leaving, give_back
from embodichain.ring.lent import Claim, HeldReads, Lent
from embodichain.ring.locks import Hold, row_at
from embodichain.ring.participants import RowState, myself
from embodichain.ring.stats import Observer
from embodichain.types import RingSpec

SLICE_S = 0.05
"""Longest sleep of a waiter [s]; it bounds the delay if the process that should have woken it was killed."""
LOOK_WAITING_S, LOOK_BUSY_S = 0.02, 1.0
"""Interval at which a participant looks for dead participants and a dead owner [s], while waiting and otherwise. Where n wait, each
looks n times as rarely: together they look as often as one would, or n participants would look at n rows, n squared in all."""
GRACE_S = 1.0
"""How long a change of K waits for running publishes [s], which normally take nanoseconds."""
MANY = 32
"""With more open leases or claims than this, dropped ones are searched before the next one is handed out."""
_NOT_YET = (words.NOTHING, words.NOT_PRIMED)
_members: weakref.WeakSet[Member] = weakref.WeakSet()


class Member:
    """Takes a row of the participants table; raises RingError when living participants have taken all of them.

    Args:
        file: The ring's memory and witness.
        spec: The ring's specification.
        path: The ring's path.
        owner: The owner's lock, if this is the owner.
        reads: Whether it may read: 32 participants have a holder bit in the control word; 128 more can only write.
    """

    def __init__(self, file: RingFile, spec: RingSpec, path: Path, owner: Hold | None, *, reads: bool) -> None:
        memory, _, self._witness = file
        self.path = path
        self.observer = Observer(file, spec, RingLayout.of(spec))
        self._spec = spec
        self._owner = owner is not None
        self._rows = range(layout.MAX_READERS) if reads else range(layout.MAX_READERS, layout.MAX_PARTICIPANTS)
        self._lock = threading.RLock()  # reentrant: a signal handler may close the ring during a call in the same thread
        self._leases: Lent[HeldReads] = Lent()
        self._pins: Lent[HeldReads] = Lent()
        self._claims: Lent[Claim] = Lent()
        self._pid = os.getpid()
        self._base = memory.ctypes.data
        self._looked = time.monotonic()
        self._look_ns = int((self._looked + LOOK_BUSY_S) * 1e9)
        self._in_vain = (-1, 0)
        """The last exact search that found too few trajectories: the event of publications before it, and its time [ns]."""
        self._held = np.zeros(spec.num_slots, np.int32)
        self._marks = np.zeros(spec.num_slots, np.int64)
        self._scratch = np.zeros(spec.num_slots, np.int32)
        self._identity = myself()
        self._reaper = self._identity._replace(state=RowState.REAPING).pack()
        self._context = self._make_context()
        self.row, hold = self._join()
        self._open = True
        identity = self._identity.pack()
        ending = functools.partial(give_back, self._context, memory, identity, self._reaper, owner, self._witness)
        self._leaving = Leaving(ending, hold, owner, self._witness)
        self._finalizer = weakref.finalize(self, self._leaving)
        _watch_forks()
        _members.add(self)

    @property
    def open(self) -> bool:
        """Whether neither this attachment nor the ring has ended."""
        return self._open and not self.observer.ended

    def close(self) -> None:
        """Releases everything and leaves; the owner ends the ring and removes its file. Safe to call twice."""
        with self._lock:
            self._open = False
            self._context[words.LEFT] = 1
            if self._finalizer.alive:
                self._leaving()
                self._finalizer.detach()  # only now: if an exception comes before, the next call or the finalizer completes it

    def keep_row(self) -> None:
        """From now on, neither `close` nor the interpreter's exit releases held slots; the process's death does."""
        self._leaving.keep()
        self._finalizer.detach()

    def disown(self) -> None:
        """Called in a forked child: disables its copy of the attachment, and replaces the lock, which may be held forever."""
        self._context[words.LEFT] = 1  # private memory: the parent's context is not affected
        self._lock = threading.RLock()
        self._finalizer.detach()
        self._witness.close()  # its file description, and so its locks, would be shared with the parent

    def collect(self) -> None:
        """Ends leases, pins and claims that were dropped without being ended."""
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
            for key, draws in self._leases.dropped():
                woken |= kernels.release(self._context, self._held, draws.table, draws.table.shape[1])
                self._leases.out.pop(key, None)
            for key, pinned in self._pins.dropped():
                woken |= custody.unpin(self._context, self._held, pinned.table)
                self._pins.out.pop(key, None)
        self._wake(layout.AT_FREE_EVENT, woken)

    # ------------------------------------------------------------------------------------------------------ writing

    def claim(self, timeout_s: float) -> Claim:
        """Claims a slot for writing. If the claim object is dropped before the slot is published, the ring takes the slot back."""
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
        """Makes a claimed slot readable; without an id, the trajectory gets its publication number as id."""
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
        """Returns a claimed slot empty; does nothing after `close`, which has returned it."""
        with self._lock:
            code = kernels.abandon(self._context, slot, version)
            self._claims.out.pop(slot, None)
        self._wake(layout.AT_FREE_EVENT, code)

    def check(self) -> None:
        """Raises RingClosed when this attachment was closed, RingError in a forked child."""
        if not self._usable:
            self._refuse()

    def _try_claim(self, exact: bool, claim: Claim | None = None) -> int:
        with self._lock:
            claimed = kernels.claim(self._context, time.monotonic_ns(), exact)
            if claimed >= 0:
                if claim is not None:
                    claim.slot, claim.version = claimed & 0xFF_FFFF_FFFF, claimed >> 40
                    self._claims.out[claim.slot] = claim
                # A signal handler may have used the ring since the claim; the ring then took the slot back as lost.
                if not custody.take_note(self._context):
                    claimed = words.NOTHING
        if claimed == words.GONE:
            self._refuse()
        return claimed

    # ------------------------------------------------------------------------------------------------------ reading

    def acquire(self, want: int, minimum: int, timeout_s: float, bits: np.random.BitGenerator) -> tuple[HeldReads, int]:
        """Draws `minimum` to `want` different trajectories; returns the draws and the time [ns].

        If the draws are dropped without `release`, the ring releases the trajectories.
        """
        if self._rows.start:
            raise RingError(f"this attachment to the ring at {self.path} only writes: attach with reads=True to draw trajectories")
        draws = HeldReads(table := np.zeros((5, want), np.int64))
        seed = bits.random_raw()  # one number for each call, not for each try, so that draws do not depend on waiting
        now_ns = time.monotonic_ns()
        if now_ns > self._look_ns:
            self._look(LOOK_BUSY_S)
            now_ns = time.monotonic_ns()
        if len(self._leases.out) > MANY:
            self.collect()
        with self._lock:
            self._leases.out[id(draws)] = draws  # registered first: an exception (Ctrl-C) may come right after the kernel
            drawn = kernels.acquire(self._context, self._held, self._marks, self._scratch, table, minimum, seed, now_ns, False)
        if drawn < 0:

            def draw(exact: bool) -> int:
                nonlocal now_ns
                with self._lock:
                    now_ns = time.monotonic_ns()
                    return kernels.acquire(
                        self._context, self._held, self._marks, self._scratch, table, minimum, seed, now_ns, exact
                    )

            if drawn != words.GONE and not (timeout_s <= 0 and drawn in _NOT_YET and self._nothing_new(now_ns)):
                event = self.observer.header(layout.AT_READY_EVENT)
                drawn = self._wait(draw, layout.AT_READY_EVENT, layout.WAITING_READER, timeout_s)
                if drawn in _NOT_YET:
                    self._in_vain = (event, now_ns)
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
        draws.count = drawn
        return draws, now_ns

    def _nothing_new(self, now_ns: int) -> bool:
        """Whether an exact search just found too little, and nothing was published since: then the hints are believed.

        A publish changes the event after its hint, and reaping repairs hints and changes it too. What changes without it is a read
        that another reader gives back, whose hint a third one may be checking: so that nobody starves, an exact search is made at
        least every `LOOK_WAITING_S`.
        """
        event, at_ns = self._in_vain
        return now_ns < at_ns + LOOK_WAITING_S * 1e9 and event == self.observer.header(layout.AT_READY_EVENT)

    def release(self, draws: HeldReads, before_retiring: Callable[[int], None] | None = None) -> None:
        """Ends a lease. `before_retiring` is called with each slot that this will free, while it is still exclusively held."""
        table = draws.table
        with self._lock:
            if before_retiring is not None and self._usable:
                for slot, version in zip(table[words.DRAWN_SLOT], table[words.DRAWN_VERSION], strict=True):
                    if version >= words.HELD and custody.is_last(self._context, self._held, slot):
                        before_retiring(int(slot))
            code = kernels.release(self._context, self._held, table, draws.count)
            self._leases.out.pop(id(draws), None)
        self._wake(layout.AT_FREE_EVENT, code)

    def holds_again(self, slot: int) -> bool:
        """Whether this attachment has several leases on a slot."""
        return bool(self._held[slot] > 1)

    # ------------------------------------------------------------------------------------------------------ control

    def pin(self, slot: int) -> HeldReads | None:
        """Keeps a READY slot from being rewritten without using a read, until `unpin`, or until nobody refers to the result.

        None when the slot is not READY.
        """
        if self._rows.start:
            raise RingError(f"this attachment to the ring at {self.path} only writes: attach with reads=True to hold trajectories")
        pinned = HeldReads(np.zeros((5, 1), np.int64), 1)
        with self._lock:
            if not self._usable:
                self._refuse()
            self._pins.out[id(pinned)] = pinned  # registered first: an exception (Ctrl-C) may come right after the kernel
            if custody.pin(self._context, self._held, pinned.table, slot):
                return pinned
            self._pins.out.pop(id(pinned), None)
        return None

    def unpin(self, pinned: HeldReads) -> None:
        """Ends a pin; safe to call twice."""
        with self._lock:
            code = custody.unpin(self._context, self._held, pinned.table)
            self._pins.out.pop(id(pinned), None)
        self._wake(layout.AT_FREE_EVENT, code)

    def republish(self, slot: int, version: int, *, trajectory_id: int, reads: int, remaining: int, published_ns: int) -> None:
        """Publishes a restored trajectory that was read `reads` times before, with `remaining` reads left."""
        with self._lock:
            if not self._usable:
                self._refuse()
            custody.republish(self._context, slot, version, trajectory_id, reads, remaining, published_ns)

    def set_max_reads(self, max_reads: int) -> int:
        """Changes K for present and future trajectories; returns the pid of a participant stopped while publishing, or 0."""
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
        """Reclaims from all participants that are proven dead; returns their number. Raises RingClosed when the ring has ended."""
        if self.observer.header(layout.AT_CLOSED):
            raise RingClosed(f"the owner closed the ring at {self.path}")
        reaped = 0
        for row in self.observer.dead():
            with self._lock:
                if not self._usable:
                    self._refuse()
                slots = self._reap(row)
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
        """Tries until it succeeds or time is up, sleeping between tries; returns the last result. Called when the fast path failed.

        Every try scans all slots without relying on hints, and dead participants are reaped, which repairs the effects of crashes.
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
                    # This try finds all changes before `arm`; changes after it alter the event, so that the sleep ends.
                    code = attempt(True)
                    if code in _NOT_YET:
                        futex.wait(self._base + event, seen, min(left, SLICE_S))
                        self._look(min(LOOK_BUSY_S, LOOK_WAITING_S * self.observer.waiting()))
                        code = attempt(True)
            finally:
                with self._lock:
                    if self._usable:
                        custody.set_waiting(self._context, kind, max(1, int((time.monotonic() - start) * 1e9)))
        if code == words.CLOSED:
            raise RingClosed(f"the owner closed the ring at {self.path}")
        return code

    def _look(self, every_s: float) -> None:
        """At most every `every_s` [s]: reaps dead participants; raises RingClosed if the owner is dead, as it cannot close it."""
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
        """Takes a row of the table and its lock; if no row is free, reaps dead participants first."""
        reaped: list[int] = []
        joined = self._take_row()
        if joined is None:
            reaped = [self._reap(row) for row in self.observer.dead()]
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
        """Takes the lock before the row, because a taken row without a lock means a dead participant."""
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

    def _reap(self, row: int) -> int:
        """Reaps one dead participant, proven by its free lock; returns the number of its slots, or NOTHING if others were first."""
        at = row_at(row)
        if not self._witness.take(at):
            return words.NOTHING
        try:
            word = self.observer.row_word(row)  # read again: any identity in the row now has no lock, and so is dead
            return custody.reap(self._context, row, word, self._reaper) if word else words.NOTHING
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
        # Holders are sorted by inactivity: the first ones are the likeliest to hang.
        held = "".join(f"; {holder}" for holder in s.holders[:3])
        return f"{slots}{stopped}; {s.participants} participants, {s.reads_left} reads left{held}"


@functools.cache
def _watch_forks() -> None:
    """Registers a hook, once: in a forked child, copies of the parent's attachments are disabled (`Member.disown`)."""

    def in_child() -> None:
        for member in _members:
            member.disown()

    os.register_at_fork(after_in_child=in_child)
