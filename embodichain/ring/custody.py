"""Who has what: joining, holding without reading, changing K, and taking from the dead, in machine code beside `kernels`."""
# ruff: noqa: ANN001, ANN201  (numba's signatures state the types)

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
    FREE_HINTS,
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
    """Before sleeping: the event's value to sleep on, with the flag set that asks to be woken. Try once more after it."""
    seen = load(context[BASE] + event)
    exchange(context[BASE] + event + 8, ONE)
    return seen


@kernel("void(int64[::1], int64, int64)")
def set_waiting(context, kind, blocked_ns):
    """Shows observers what this participant waits for, and adds the time [ns] it was blocked."""
    if context[LEFT] != 0:
        return
    store(own_row(context) + layout.ROW_WAITING, U64(kind))
    if blocked_ns > 0:
        cell = layout.ROW_BLOCKED_READER_NS if kind == layout.WAITING_READER else layout.ROW_BLOCKED_WRITER_NS
        tally(context, cell, blocked_ns)
        store(own_row(context) + layout.ROW_WAITING, ZERO)


# ------------------------------------------------------------------------------------------------- owner and observers


@kernel("boolean(int64[::1], int32[::1], int64)")
def pin(context, held, slot):
    """Holds a READY slot without spending a read, so that it cannot be rewritten; `unpin` lets go."""
    if context[LEFT] != 0:
        return False
    while True:
        word = load(context[WORDS] + slot * STRIDE)
        if state_of(word) != IS_READY:
            return False
        if held[slot] > 0 or swap(context, slot, word, word | own_bit(context), PIN):
            held[slot] += 1
            return True


@kernel("boolean(int64[::1])")
def take_note(context):
    """Whether the slot claimed last is still unaccounted for; from now on it is its caller's."""
    unaccounted = context[CLAIMED] != 0
    context[CLAIMED] = 0
    return unaccounted


@kernel("boolean(int64[::1], int32[::1], int64)")
def is_last(context, held, slot):
    """Whether releasing our one lease on `slot` retires it. True is final: with no read left nobody can join."""
    word = load(context[WORDS] + slot * STRIDE)
    return held[slot] == 1 and remaining_of(word) == ZERO and holders_of(word) == own_bit(context)


@kernel("int64(int64[::1], int32[::1], int64)")
def unpin(context, held, slot):
    """Ends a pin: a wake flag."""
    if context[LEFT] != 0:
        return 0
    held[slot] -= 1
    if held[slot] == 0 and drop(context, slot, own_bit(context), RELEASE) == 2:
        tally(context, layout.ROW_RETIRED, 1)
        return signal(context, layout.AT_FREE_EVENT)
    return 0


@kernel("int64(int64[::1], int32[::1], int64, uint64)")
def adjust(context, held, slot, reads):
    """Gives the trajectory in `slot` a new bound: it keeps `reads` minus what was read already. A wake flag.

    Only the owner's lock holder calls this, so the bound has one writer; the pin keeps the trajectory in place meanwhile.
    """
    if not pin(context, held, slot):
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
    store(at + layout.SLOT_BOUND, done + left)  # one read more often than the new K keeps its count for the next change
    withdraw_ready(context, slot)
    return unpin(context, held, slot)


@kernel("int64(int64[::1], int64, int64, uint64, uint64, uint64, int64)")
def republish(context, slot, version, trajectory, reads, remaining, published_ns):
    """Like `kernels.publish` for a trajectory restored from a snapshot: it goes on where it was."""
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
    """Takes a row of the participants table, if it is free, with the identity `word`. The caller holds the row's lock."""
    return cas(rows + row * layout.ROW_BYTES, ZERO, word)


@kernel("int64(int64[::1], int64, uint64, uint64)")
def reap(context, row, dead, reaper):
    """Takes everything from the holder of `row` and frees the row: how many slots it held, or NOTHING when others were first.

    `dead` is the row's word whose death was proven (a live participant's, or that of a reaper who died at it); `reaper` is the
    REAPING word of the caller, who holds the row's lock. The swap of the row is the permission: until the row is FREE its id
    cannot be reused, so no bit of a newcomer can be cleared, and a second reaper needs a new proof. Sweeping twice does no harm.
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
        # The dead may have been cut between a swap and its hint.
        if state_of(word) == IS_FREE:
            offer(context[FREE_HINTS], slot)
        elif drawable(word):
            offer(context[READY_HINTS], slot)
    store(row_at + layout.ROW_PUBLISHING, ZERO)
    store(row_at + layout.ROW_WAITING, ZERO)
    cas(row_at, reaper, ZERO)
    return freed


@kernel("int64(int64[::1], int64)")
def count_reaped(context, slots):
    """Books one reaped participant and its `slots`, and announces what became free or ready: wake flags 1 ready | 2 free."""
    tally(context, layout.ROW_REAPED, 1)
    tally(context, layout.ROW_REAPED_SLOTS, slots)
    return signal(context, layout.AT_READY_EVENT) | signal(context, layout.AT_FREE_EVENT) << 1


@kernel("int64(int64[::1])")
def announce(context):
    """Makes every waiter look again: a wake flag."""
    return signal(context, layout.AT_READY_EVENT) | signal(context, layout.AT_FREE_EVENT)


@kernel("void(int64)")
def close(base):
    """Ends the ring for everybody."""
    exchange(base + layout.AT_CLOSED, ONE)
    add(base + layout.AT_READY_EVENT, ONE)
    add(base + layout.AT_FREE_EVENT, ONE)


@kernel("void(int64[::1], uint64)")
def set_bound(context, reads):
    """Announces a new K to every later publish; the epoch grows first, so that no draw made before it is given back after it."""
    add(context[BASE] + layout.AT_BUDGET_EPOCH, ONE)
    exchange(context[BASE] + layout.AT_MAX_READS, reads)
