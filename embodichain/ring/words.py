"""Building blocks of the kernels: the control word in machine code, hints, counters, and waking sleepers.

The bitmaps of ready and free slots are hints: a set bit means that the slot is worth checking. A process that makes a slot eligible
sets the bit after its compare-and-swap. A process that finds a slot ineligible clears the bit and then checks the slot again, so
that no bit is lost among living processes. Bits lost in a crash are set again by `custody.reap` and by every exact search.
"""
# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from embodichain.machine_code import compiled, inner
from embodichain.ring import budget, layout
from embodichain.ring.atomics import add, cas, clear_all_but, exchange, load, set_bits, store

# Cells (int64) of the context of one attachment, which is private to the process.
BASE, NUM_SLOTS, WORDS, READY_HINTS, FREE_HINTS, HINT_WORDS, ROWS, ROW, STAMP, CURSOR, EVICT, LOG, LOG_END = range(13)
AGGREGATE, WAKE, LEFT, CLAIMED, ORDER = range(13, 18)
"""LEFT is set when the attachment has ended. Kernels check it themselves, because a signal handler may end the attachment between a
check in Python and the call. CLAIMED is the last result of `claim` plus 1, until its caller has confirmed it
(`custody.take_note`)."""
CONTEXT_CELLS = 18

# Negative results of kernels, in place of a slot, a count or a wake flag.
NOTHING, CLOSED, REFUSED, NOT_PRIMED, GONE = -1, -2, -3, -4, -5

# Operations in the log of changes (`Member.log_to`).
CLAIM, PUBLISH, ABANDON, ACQUIRE, UNDRAW, RELEASE, EVICTION, REAP, PIN, ADJUST = range(1, 11)

# Rows of the table that `acquire` fills, with one column for each draw.
DRAWN_SLOT, DRAWN_VERSION, DRAWN_READ, DRAWN_TRAJECTORY, DRAWN_PUBLISHED_NS = range(5)
HELD = 1 << 16
"""Flag in DRAWN_VERSION from the draw to its release, so that the table shows what it holds even if its caller was interrupted."""

U64 = np.uint64
STRIDE = layout.SLOT_STRIDE
ZERO, ONE = U64(0), U64(1)
IS_FREE, IS_WRITING, IS_READY = U64(budget.SlotState.FREE), U64(budget.SlotState.WRITING), U64(budget.SlotState.READY)
_STATE_SHIFT, _REMAINING_SHIFT, _VERSION_SHIFT = U64(budget.STATE_SHIFT), U64(budget.REMAINING_SHIFT), U64(budget.VERSION_SHIFT)
_REMAINING_MASK, _VERSION_MASK, _HOLDERS_MASK = U64(budget.REMAINING_MASK), U64(budget.VERSION_MASK), U64(budget.HOLDERS_MASK)
ONE_READ = U64(1 << budget.REMAINING_SHIFT)
ALL_BITS = U64((1 << 64) - 1)
part: Any = inner(error_model="numpy")
"""Decorator of functions that are compiled into kernels."""
kernel: Any = partial(compiled, error_model="numpy")
"""Decorator, with a signature, of functions called from Python. Typed as Any, because checkers misjudge their number types."""


# ----------------------------------------------------------------------------------------------------- the control word


@part
def pack(state, remaining, version, holders):
    """Packs a control word; see `budget`."""
    low = ((version & _VERSION_MASK) << _VERSION_SHIFT) | (holders & _HOLDERS_MASK)
    return (state << _STATE_SHIFT) | ((remaining & _REMAINING_MASK) << _REMAINING_SHIFT) | low


@part
def state_of(word):
    """FREE, WRITING or READY."""
    return word >> _STATE_SHIFT


@part
def remaining_of(word):
    """Number of reads left."""
    return (word >> _REMAINING_SHIFT) & _REMAINING_MASK


@part
def version_of(word):
    """Number of claims of the slot so far, modulo 2^16."""
    return (word >> _VERSION_SHIFT) & _VERSION_MASK


@part
def holders_of(word):
    """The readers' bitmap if READY, the writer's row if WRITING."""
    return word & _HOLDERS_MASK


@part
def drawable(word):
    """Whether a read can be taken: READY with reads left."""
    return state_of(word) == IS_READY and remaining_of(word) != ZERO


@part
def swap(context, slot, before, after, operation):
    """The only function that changes a slot's word. False means that another process changed it first; load it again."""
    if not cas(context[WORDS] + slot * STRIDE, before, after):
        return False
    entry = context[LOG]
    if entry != 0 and entry < context[LOG_END]:
        # The first cell is stored last, because a zero there means an unfinished entry.
        store(entry + 8, before)
        store(entry + 16, after)
        store(entry, U64((slot << 8) | operation))
        context[LOG] = entry + 24
    return True


# ------------------------------------------------------------------------------------- hints, counters, waking waiters


@part
def offer(hints, slot):
    """Sets the hint of a slot, after the swap that made it eligible: a hint set before it could be cleared as wrong."""
    set_bits(hints + (slot >> 6) * 8, ONE << U64(slot & 63))


@part
def clear_hint(hints, slot):
    """Clears the hint of a slot that we hold, or will check again."""
    clear_all_but(hints + (slot >> 6) * 8, ALL_BITS ^ (ONE << U64(slot & 63)))


@part
def withdraw_ready(context, slot):
    """Clears the hint, then checks the slot again, because a publish in between may have set the bit that was cleared."""
    clear_hint(context[READY_HINTS], slot)
    if drawable(load(context[WORDS] + slot * STRIDE)):
        offer(context[READY_HINTS], slot)


@part
def withdraw_free(context, slot):
    """Like `withdraw_ready`, for the bitmap of free slots."""
    clear_hint(context[FREE_HINTS], slot)
    if state_of(load(context[WORDS] + slot * STRIDE)) == IS_FREE:
        offer(context[FREE_HINTS], slot)


@part
def place_in_order(context, sequence):
    """Address of the cell with the slot, plus 1, in which this sequence number was published. It is a hint, like the bitmaps."""
    return context[ORDER] + np.int64(sequence % U64(context[NUM_SLOTS] * layout.ORDER_SPAN)) * 8


@part
def line_up(context, slot, sequence):
    """Enters a slot into the order of publication, before the swap that publishes it, so that every READY slot has its place."""
    store(context[WORDS] + slot * STRIDE + layout.SLOT_SEQUENCE, sequence)
    store(place_in_order(context, sequence), U64(slot + 1))


@part
def keep_oldest(context, sequence):
    """Moves the start of the search for the oldest back, after the swap that made a trajectory one that can be evicted.

    A search may have passed its place while that was empty, or while the trajectory had readers.
    """
    at = context[BASE] + layout.AT_OLDEST
    while True:
        oldest = load(at)
        if oldest <= sequence or cas(at, oldest, sequence):
            return


@part
def own_row(context):
    """Address of this participant's row."""
    return context[ROWS] + context[ROW] * layout.ROW_BYTES


@part
def tally(context, cell, amount):
    """Adds to a counter in our row. It has a single writer, so a load and a store suffice."""
    at = own_row(context) + cell
    store(at, load(at) + U64(amount))


@part
def signal(context, event):
    """Announces a change. Returns 1 if a process may be sleeping and the caller must wake the futex, else 0.

    The flag is cleared before the event is incremented. In the other order, a waiter could read the new event, set its flag, lose
    it to this exchange, and then sleep through the next change. Both operations are sequentially consistent and follow the swap of
    the word: a waiter whose flag was not seen here sets it later, and then sees the new word.
    """
    sleeper = np.int64(exchange(context[BASE] + event + 8, ZERO))
    add(context[BASE] + event, ONE)
    return sleeper


@part
def own_bit(context):
    """The bit of this participant in `holders`."""
    return ONE << U64(context[ROW])


@part
def drop(context, slot, bit, operation):
    """Clears a holder's bit. Returns 0 if it was not set, 1 if cleared, 2 if that freed the slot."""
    sequence = load(context[WORDS] + slot * STRIDE + layout.SLOT_SEQUENCE)  # before the swap: the bit keeps it from changing
    while True:
        word = load(context[WORDS] + slot * STRIDE)
        if state_of(word) != IS_READY or (word & bit) == ZERO:
            return 0
        after = word ^ bit
        # The last holder of a used-up trajectory frees the slot in the same swap: if it were two, a kill in between would leak it.
        freed = remaining_of(after) == ZERO and holders_of(after) == ZERO
        if freed:
            after = pack(IS_FREE, ZERO, version_of(word), ZERO)
        if swap(context, slot, word, after, operation):
            if freed:
                withdraw_ready(context, slot)
                offer(context[FREE_HINTS], slot)
                return 2
            if holders_of(after) == ZERO:
                keep_oldest(context, sequence)
            return 1


# ------------------------------------------------------------------------------------------------- eviction

_IN_ORDER = 256
"""Number of places in the order of publication that an eviction examines before it scans the words of all slots."""


@part
def claim_word(context, slot, word, operation):
    """Changes FREE, or READY without holders, to WRITING by us. The version grows, so that a stale publish is recognised."""
    after = pack(IS_WRITING, ZERO, version_of(word) + ONE, U64(context[ROW]))
    return swap(context, slot, word, after, operation)


@part
def _evict(context, slot, word):
    if not claim_word(context, slot, word, EVICTION):
        return False
    store(context[WORDS] + slot * STRIDE + layout.SLOT_SEQUENCE, ALL_BITS)  # invalidates its place in the order of publication
    withdraw_ready(context, slot)
    tally(context, layout.ROW_EVICTED, 1)
    return True


@part
def _standing(context, sequence):
    """The slot, plus 1, whose trajectory was published as `sequence` and has no readers, or is just being published; 0 for none.

    The order of publication is only a hint: a slot that was rewritten since has another sequence number.
    """
    place = np.int64(load(place_in_order(context, sequence)))
    if place < 1 or place > context[NUM_SLOTS]:
        return np.int64(0)
    at = context[WORDS] + (place - 1) * STRIDE
    if load(at + layout.SLOT_SEQUENCE) != sequence:
        return np.int64(0)
    word = load(at)
    if state_of(word) == IS_FREE or (state_of(word) == IS_READY and holders_of(word) != ZERO):
        return np.int64(0)
    return place


@part
def _look_back(context, first, passed):
    """Checks the places once more that a search has passed, after it has moved the start behind them.

    A publish or a release that came after the search had looked, and before it moved the start, found nothing to move back.
    """
    sequence = first
    while sequence < passed:
        if _standing(context, sequence) > 0:
            keep_oldest(context, sequence)
            return
        sequence += ONE


@part
def _claim_first_in_order(context):
    """Follows the order of publication to the first trajectory without readers; NOTHING if it is not found soon.

    Later searches begin behind those that are gone and those that have readers: whoever ends the last lease on one moves the start
    back to it (`words.drop`). So a trajectory that is held for long does not make each search pass all that are gone after it.
    """
    at, end = context[BASE] + layout.AT_OLDEST, load(context[BASE] + layout.AT_SEQUENCE)
    first = load(at)
    if end < first or end - first > U64(context[NUM_SLOTS] * layout.ORDER_SPAN):
        return NOTHING  # places in the circular order were overwritten: only a scan of all words finds the oldest
    sequence, passed, found = first, first, np.int64(NOTHING)
    while found < 0 and sequence < end and sequence - first < U64(_IN_ORDER):
        slot = _standing(context, sequence) - 1
        stands = slot >= 0
        if stands:
            word = load(context[WORDS] + slot * STRIDE)
            if state_of(word) == IS_READY and holders_of(word) == ZERO and _evict(context, slot, word):
                stands, found = False, slot
        sequence += ONE
        if not stands and passed == sequence - ONE:
            passed = sequence
    # May fail if another process moved the start; that costs only a longer search.
    if passed != first and cas(at, first, passed):
        _look_back(context, first, passed)
    return found


@part
def _scan(context):
    """The oldest READY trajectory without readers, by the words of all slots: slot (NOTHING if there is none), word, sequence."""
    best, best_word, oldest = np.int64(NOTHING), ZERO, ALL_BITS
    for slot in range(context[NUM_SLOTS]):
        at = context[WORDS] + slot * STRIDE
        word = load(at)
        if state_of(word) == IS_READY and holders_of(word) == ZERO:
            sequence = load(at + layout.SLOT_SEQUENCE)
            if sequence < oldest:
                best, best_word, oldest = np.int64(slot), word, sequence
    return best, best_word, oldest


@part
def claim_oldest(context):
    """Evicts the oldest trajectory without readers; if it gets a reader before the swap, searches again."""
    found = _claim_first_in_order(context)
    if found >= 0:
        return found
    begin, end = load(context[BASE] + layout.AT_OLDEST), load(context[BASE] + layout.AT_SEQUENCE)
    while True:
        best, best_word, oldest = _scan(context)
        standing = min(end, oldest)
        if cas(context[BASE] + layout.AT_OLDEST, begin, standing) and begin < standing:
            keep_oldest(context, _scan(context)[2])  # as `_look_back`
        if best < 0:
            return NOTHING
        if _evict(context, best, best_word):
            return best
