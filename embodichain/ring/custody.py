"""The rarer transitions in machine code, besides `kernels`: joining, pinning, changing K, reclaiming from dead processes."""
# ruff: noqa: ANN001, ANN201, ANN202  (numba's signatures state the types)

from __future__ import annotations

import numpy as np

from embodichain.ring import layout
from embodichain.ring.atomics import add, cas, exchange, load, store
from embodichain.ring.words import (
    ADJUST,
    AGGREGATE,
    ALL_BITS,
    BASE,
    CLAIMED,
    DRAWN_SLOT,
    DRAWN_VERSION,
    FREE_HINTS,
    HELD,
    IS_FREE,
    IS_READY,
    IS_WRITING,
    LEFT,
    NOTHING,
    NUM_SLOTS,
    ONE,
    PIN,
    PUBLISH,
    READY_HINTS,
    REAP,
    REFUSED,
    RELEASE,
    ROW,
    ROWS,
    STRIDE,
    U64,
    WORDS,
    ZERO,
    drawable,
    drop,
    holders_of,
    keep_oldest,
    kernel,
    line_up,
    offer,
    own_bit,
    own_row,
    pack,
    part,
    remaining_of,
    signal,
    state_of,
    swap,
    tally,
    version_of,
    withdraw_ready,
)


@kernel("uint64(int64[::1], int64)")
def arm(context, event):
    """Prepares for sleeping: sets the flag that requests a wake-up, and returns the event value to sleep on.

    The caller must try its operation once more afterwards: a change before the flag was set caused no wake-up.
    """
    # The value is read before the flag is set: a change in between changes the event, so that the futex wait returns at once.
    # An exchange and not a store: the caller's next load of a slot must not be made before the flag can be seen.
    seen = load(context[BASE] + event)
    exchange(context[BASE] + event + 8, ONE)
    return seen


@kernel("void(int64[::1], int64, int64)")
def set_waiting(context, kind, blocked_ns):
    """Records for observers what this participant waits for, and adds the time that it was blocked [ns]."""
    if context[LEFT] != 0:
        return
    store(own_row(context) + layout.ROW_WAITING, U64(kind))
    if blocked_ns > 0:
        cell = layout.ROW_BLOCKED_READER_NS if kind == layout.WAITING_READER else layout.ROW_BLOCKED_WRITER_NS
        tally(context, cell, blocked_ns)
        store(own_row(context) + layout.ROW_WAITING, ZERO)


# ------------------------------------------------------------------------------------------------- owner and observers


@part
def _pin(context, held, slot):
    """Holds a READY slot without using a read; False if it is not READY."""
    while True:
        word = load(context[WORDS] + slot * STRIDE)
        if state_of(word) != IS_READY:
            return False
        if held[slot] > 0 or swap(context, slot, word, word | own_bit(context), PIN):
            held[slot] += 1
            return True


@part
def _unpin(context, held, slot):
    held[slot] -= 1
    if held[slot] == 0 and drop(context, slot, own_bit(context), RELEASE) == 2:
        tally(context, layout.ROW_RETIRED, 1)
        return signal(context, layout.AT_FREE_EVENT)
    return 0


@kernel("boolean(int64[::1], int32[::1], int64[:, ::1], int64)")
def pin(context, held, table, slot):
    """Holds a READY slot without using a read, so that it cannot be rewritten; False if it is not READY. Ended by `unpin`.

    It enters the slot into `table` (one column) like a draw, so that the table shows what is held even if the
    caller was interrupted right after this call.
    """
    if context[LEFT] != 0 or not _pin(context, held, slot):
        return False
    table[DRAWN_SLOT, 0] = slot
    table[DRAWN_VERSION, 0] = HELD
    return True


@kernel("boolean(int64[::1])")
def take_note(context):
    """Called when a claimed slot has reached its caller: from now on the caller must return it.

    False if the ring took the slot back in the meantime.
    """
    unaccounted = context[CLAIMED] != 0
    context[CLAIMED] = 0
    return unaccounted


@kernel("boolean(int64[::1], int32[::1], int64)")
def is_last(context, held, slot):
    """Whether releasing our only lease on `slot` will retire it. True is final: without reads left no other reader can come."""
    word = load(context[WORDS] + slot * STRIDE)
    return held[slot] == 1 and remaining_of(word) == ZERO and holders_of(word) == own_bit(context)


@kernel("int64(int64[::1], int32[::1], int64[:, ::1])")
def unpin(context, held, table):
    """Ends the pin in `table`, if there is one; returns whether waiters must be woken."""
    if context[LEFT] != 0 or table[DRAWN_VERSION, 0] < HELD:
        return 0
    table[DRAWN_VERSION, 0] = 0
    return _unpin(context, held, table[DRAWN_SLOT, 0])


@kernel("int64(int64[::1], int32[::1], int64, uint64)")
def adjust(context, held, slot, reads):
    """Changes the bound of the trajectory in `slot`: `reads` minus its reads so far are left. Returns whether to wake waiters.

    Only the owner calls this, under its lock, so the bound has a single writer. The trajectory is pinned meanwhile.
    """
    if not _pin(context, held, slot):
        return 0
    at = context[WORDS] + slot * STRIDE
    bound = load(at + layout.SLOT_BOUND)
    if reads > load(at + layout.SLOT_CEILING):
        store(at + layout.SLOT_CEILING, reads)
    while True:
        word = load(at)
        done = bound - remaining_of(word)
        left = reads - done if reads > done else ZERO
        after = pack(IS_READY, left, version_of(word), holders_of(word))
        if swap(context, slot, word, after, ADJUST):
            break
    # If it was read more often than the new K, the bound is its count: another change of K must still know how often that was.
    store(at + layout.SLOT_BOUND, done + left)
    withdraw_ready(context, slot)
    return _unpin(context, held, slot)


@kernel("int64(int64[::1], int64, int64, uint64, uint64, uint64, int64)")
def republish(context, slot, version, trajectory, reads, remaining, published_ns):
    """Like `kernels.publish`, for a trajectory restored from a snapshot with the reads it has left."""
    at = context[WORDS] + slot * STRIDE
    sequence = add(context[BASE] + layout.AT_SEQUENCE, ONE)
    line_up(context, slot, sequence)
    store(at + layout.SLOT_PUBLISHED_NS, U64(published_ns))
    store(at + layout.SLOT_TRAJECTORY, trajectory)
    store(at + layout.SLOT_READS, reads)
    store(at + layout.SLOT_BOUND, reads + remaining)
    store(at + layout.SLOT_CEILING, ALL_BITS if context[AGGREGATE] != 0 else reads + remaining)
    before = pack(IS_WRITING, ZERO, U64(version), U64(context[ROW]))
    if not swap(context, slot, before, pack(IS_READY, remaining, U64(version), ZERO), PUBLISH):
        return REFUSED
    keep_oldest(context, sequence)
    offer(context[READY_HINTS], slot)
    tally(context, layout.ROW_PUBLISHED, 1)
    return signal(context, layout.AT_READY_EVENT)


# ------------------------------------------------------------------------------------------------- joining and reaping


@kernel("boolean(int64, int64, uint64)")
def join(rows, row, word):
    """Takes a free row of the participants table for the identity `word`; False if it is taken. The caller holds the row's lock."""
    return cas(rows + row * layout.ROW_BYTES, ZERO, word)


@kernel("int64(int64[::1], int64, uint64, uint64)")
def reap(context, row, dead, reaper):
    """Reclaims all slots of the dead participant in `row` and frees the row.

    Returns the number of slots it held, or NOTHING if another process reaped it first. `dead` is the row's word whose death was
    proven: of a participant, or of a reaper that died while reaping. `reaper` is the REAPING word of the caller, who holds the
    row's lock. The swap of the row is the permission to reap: until the row is FREE its number cannot be reused, so that no bit of
    a new participant is cleared, and a second reaper needs a new proof. Reaping twice does no harm.
    """
    row_at = context[ROWS] + row * layout.ROW_BYTES
    if not cas(row_at, dead, reaper):
        return NOTHING
    bit = ONE << U64(row) if row < layout.MAX_READERS else ZERO
    freed = 0
    for slot in range(context[NUM_SLOTS]):
        at = context[WORDS] + slot * STRIDE
        word = load(at)
        if state_of(word) == IS_WRITING and holders_of(word) == U64(row):
            after = pack(IS_FREE, ZERO, version_of(word), ZERO)
            freed += np.int64(swap(context, slot, word, after, REAP))
        elif state_of(word) == IS_READY and (word & bit) != ZERO:
            freed += np.int64(drop(context, slot, bit, REAP) != 0)
        word = load(at)
        # The process may have died after a swap and before it set the hint bit, or moved the start of the search for the oldest,
        # which nobody else would do.
        if state_of(word) == IS_FREE:
            offer(context[FREE_HINTS], slot)
        elif drawable(word):
            offer(context[READY_HINTS], slot)
        if state_of(word) == IS_READY and holders_of(word) == ZERO:
            keep_oldest(context, load(at + layout.SLOT_SEQUENCE))
    store(row_at + layout.ROW_PUBLISHING, ZERO)
    store(row_at + layout.ROW_WAITING, ZERO)
    cas(row_at, reaper, ZERO)
    return freed


@kernel("int64(int64[::1], int64)")
def count_reaped(context, slots):
    """Counts one reaped participant and its `slots`, and signals both events; returns wake flags, 1 for ready | 2 for free."""
    tally(context, layout.ROW_REAPED, 1)
    tally(context, layout.ROW_REAPED_SLOTS, slots)
    return signal(context, layout.AT_READY_EVENT) | signal(context, layout.AT_FREE_EVENT) << 1


@kernel("int64(int64[::1])")
def announce(context):
    """Signals both events, so that every waiter looks again; returns whether to wake."""
    return signal(context, layout.AT_READY_EVENT) | signal(context, layout.AT_FREE_EVENT)


@kernel("void(int64)")
def close(base):
    """Ends the ring for all participants."""
    # The events change after the flag, so that every waiter that they wake finds the ring closed.
    exchange(base + layout.AT_CLOSED, ONE)
    add(base + layout.AT_READY_EVENT, ONE)
    add(base + layout.AT_FREE_EVENT, ONE)


@kernel("void(int64[::1], uint64)")
def set_bound(context, reads):
    """Sets a new K for later publishes.

    The epoch grows first: a draw made before the change then sees it, and forfeits its read instead of returning it to a count that
    `adjust` has recomputed (`kernels._undraw`).
    """
    add(context[BASE] + layout.AT_BUDGET_EPOCH, ONE)
    exchange(context[BASE] + layout.AT_MAX_READS, reads)
