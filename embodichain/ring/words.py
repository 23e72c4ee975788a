"""What every kernel shares: the control word in machine code, hints, counters, and waking those who sleep.

The ready and free bitmaps are hints: a set bit means "look here". Whoever makes a slot eligible sets the bit after its
compare-and-swap; whoever finds a slot ineligible clears the bit and then looks again, so that no bit is ever lost between the
living. A bit lost to a crash is set again by `custody.reap` and by every exact search.
"""
# ruff: noqa: ANN001, ANN201  (numba infers the types)

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from embodichain.machine_code import compiled
from embodichain.ring import budget, layout
from embodichain.ring.atomics import add, cas, clear_all_but, exchange, load, set_bits, store

# The context of one attachment: int64 cells, private to the process.
BASE, NUM_SLOTS, WORDS, READY_HINTS, FREE_HINTS, HINT_WORDS, ROWS, ROW, STAMP, CURSOR, EVICT, LOG, LOG_END = range(13)
AGGREGATE, WAKE, LEFT, CLAIMED, ORDER = range(13, 18)
"""LEFT is set when the attachment has ended: a kernel looks itself, for a signal handler may end it between any check and the
call. CLAIMED is the last slot claimed, as `claim` returns it, plus 1, until somebody has taken note of it."""
CONTEXT_CELLS = 18

# What kernels return instead of a slot, a count or a wake flag.
NOTHING, CLOSED, REFUSED, NOT_PRIMED, GONE = -1, -2, -3, -4, -5

# Operations in a history log.
CLAIM, PUBLISH, ABANDON, ACQUIRE, UNDRAW, RELEASE, EVICTION, REAP, PIN, ADJUST = range(1, 11)

# Rows of the table that `acquire` fills, one column a draw.
DRAWN_SLOT, DRAWN_VERSION, DRAWN_READ, DRAWN_TRAJECTORY, DRAWN_PUBLISHED_NS = range(5)
HELD = 1 << 16
"""Set in DRAWN_VERSION from the draw to its release: the table itself tells what it holds, whenever the caller was interrupted."""

U64 = np.uint64
STRIDE = layout.SLOT_STRIDE
ZERO, ONE = U64(0), U64(1)
IS_FREE, IS_WRITING, IS_READY = U64(budget.SlotState.FREE), U64(budget.SlotState.WRITING), U64(budget.SlotState.READY)
_STATE_SHIFT, _REMAINING_SHIFT, _VERSION_SHIFT = U64(budget.STATE_SHIFT), U64(budget.REMAINING_SHIFT), U64(budget.VERSION_SHIFT)
_REMAINING_MASK, _VERSION_MASK, _HOLDERS_MASK = U64(budget.REMAINING_MASK), U64(budget.VERSION_MASK), U64(budget.HOLDERS_MASK)
ONE_READ = U64(1 << budget.REMAINING_SHIFT)
ALL_BITS = U64((1 << 64) - 1)
part: Any = compiled(error_model="numpy")
"""A function that kernels call, compiled into them."""
kernel: Any = partial(compiled, error_model="numpy")
"""A function that Python calls, with its signature. Typed as Any, for a checker takes its numbers for NumPy's."""


# ----------------------------------------------------------------------------------------------------- the control word


@part
def pack(state, remaining, version, holders):
    """A control word from its parts; see `budget`."""
    low = ((version & _VERSION_MASK) << _VERSION_SHIFT) | (holders & _HOLDERS_MASK)
    return (state << _STATE_SHIFT) | ((remaining & _REMAINING_MASK) << _REMAINING_SHIFT) | low


@part
def state_of(word):
    """FREE, WRITING or READY."""
    return word >> _STATE_SHIFT


@part
def remaining_of(word):
    """Reads left."""
    return (word >> _REMAINING_SHIFT) & _REMAINING_MASK


@part
def version_of(word):
    """Claims so far, modulo 2^16."""
    return (word >> _VERSION_SHIFT) & _VERSION_MASK


@part
def holders_of(word):
    """Readers' bitmap when READY, the writer's row when WRITING."""
    return word & _HOLDERS_MASK


@part
def drawable(word):
    """Whether a read can be taken."""
    return state_of(word) == IS_READY and remaining_of(word) != ZERO


@part
def swap(context, slot, before, after, operation):
    """The only place that changes a slot's word. A False means that somebody else made progress: look again."""
    if not cas(context[WORDS] + slot * STRIDE, before, after):
        return False
    entry = context[LOG]
    if entry != 0 and entry < context[LOG_END]:
        store(entry + 8, before)
        store(entry + 16, after)
        store(entry, U64((slot << 8) | operation))
        context[LOG] = entry + 24
    return True


# ------------------------------------------------------------------------------------- hints, counters, waking waiters


@part
def offer(hints, slot):
    """Sets the hint of a slot that has become eligible: after the swap that made it so."""
    set_bits(hints + (slot >> 6) * 8, ONE << U64(slot & 63))


@part
def clear_hint(hints, slot):
    """Clears the hint of a slot that we hold, or are about to look at again."""
    clear_all_but(hints + (slot >> 6) * 8, ALL_BITS ^ (ONE << U64(slot & 63)))


@part
def withdraw_ready(context, slot):
    """Clears the hint, then looks again: a publish that fell in between set a bit that we cleared."""
    clear_hint(context[READY_HINTS], slot)
    if drawable(load(context[WORDS] + slot * STRIDE)):
        offer(context[READY_HINTS], slot)


@part
def withdraw_free(context, slot):
    """The same for the bitmap of free slots."""
    clear_hint(context[FREE_HINTS], slot)
    if state_of(load(context[WORDS] + slot * STRIDE)) == IS_FREE:
        offer(context[FREE_HINTS], slot)


@part
def place_in_order(context, sequence):
    """The cell that says which slot the trajectory of this sequence number was published in, plus 1: a hint as the bitmaps are."""
    return context[ORDER] + np.int64(sequence % U64(context[NUM_SLOTS] * layout.ORDER_SPAN)) * 8


@part
def line_up(context, slot, sequence):
    """Gives a slot its place in the order of publication: before the swap that publishes it, so that whoever sees it finds it."""
    store(context[WORDS] + slot * STRIDE + layout.SLOT_SEQUENCE, sequence)
    store(place_in_order(context, sequence), U64(slot + 1))


@part
def keep_oldest(context, sequence):
    """After that swap: a search may have passed over the place before it was taken, and begins there again."""
    at = context[BASE] + layout.AT_OLDEST
    while True:
        oldest = load(at)
        if oldest <= sequence or cas(at, oldest, sequence):
            return


@part
def own_row(context):
    """Address of our row in the participants table."""
    return context[ROWS] + context[ROW] * layout.ROW_BYTES


@part
def tally(context, cell, amount):
    """Adds to a counter of the own row: single writer, so a load and a store do."""
    at = own_row(context) + cell
    store(at, load(at) + U64(amount))


@part
def signal(context, event):
    """Announces a change to sleepers: 1 when somebody may sleep and the caller must wake the futex, else 0.

    The flag is taken before the event grows. The other way round a waiter may read the new event, raise the flag and lose it to
    this exchange, and then sleep through the next change. Both are sequentially consistent after the word's own swap: a waiter
    whose flag is missed here raises it later, and then sees the word.
    """
    sleeper = np.int64(exchange(context[BASE] + event + 8, ZERO))
    add(context[BASE] + event, ONE)
    return sleeper


@part
def own_bit(context):
    """Our bit in `holders`."""
    return ONE << U64(context[ROW])


@part
def drop(context, slot, bit, operation):
    """Clears a holder's bit: 0 when it was not set, 1 when cleared, 2 when that freed the slot."""
    while True:
        word = load(context[WORDS] + slot * STRIDE)
        if state_of(word) != IS_READY or (word & bit) == ZERO:
            return 0
        after = word ^ bit
        freed = remaining_of(after) == ZERO and holders_of(after) == ZERO
        if freed:
            after = pack(IS_FREE, ZERO, version_of(word), ZERO)
        if swap(context, slot, word, after, operation):
            if freed:
                withdraw_ready(context, slot)
                offer(context[FREE_HINTS], slot)
                return 2
            return 1
