"""Eviction in machine code: finds the oldest trajectory without readers and claims its slot. Part of the kernels.

The order of publication is a hint, like the bitmaps of `words`: a search that does not find anything in it soon scans all slots.
"""
# ruff: noqa: ANN001, ANN201, ANN202  (numba infers the types)

from __future__ import annotations

import numpy as np

from embodichain.ring import layout
from embodichain.ring.atomics import cas, load, store
from embodichain.ring.words import (
    ALL_BITS,
    BASE,
    EVICTION,
    IS_FREE,
    IS_READY,
    IS_WRITING,
    NOTHING,
    NUM_SLOTS,
    ONE,
    ROW,
    STRIDE,
    U64,
    WORDS,
    ZERO,
    holders_of,
    keep_oldest,
    pack,
    part,
    place_in_order,
    state_of,
    swap,
    tally,
    version_of,
    withdraw_ready,
)

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
