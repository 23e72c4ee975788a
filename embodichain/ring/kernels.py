"""The frequent transitions in machine code: claim, publish, abandon, acquire, release, each one compare-and-swap of a slot's word.

Kernels work on raw addresses of shared memory and may run in any number of processes at once. Within a process the caller must hold
the ring's lock, as `context`, `held`, `marks` and `scratch` are private to it. After `kill -9` at any instruction, each slot is in
the state before or after the operation; hints may be stale until reaping repairs them, and counters may be short by one.
"""
# ruff: noqa: ANN001, ANN202, ANN201  (numba's signatures state the types)

from __future__ import annotations

import numpy as np

from embodichain.ring import layout
from embodichain.ring.atomics import add, cas, exchange, load, lowest_bit, store
from embodichain.ring.words import (
    ABANDON,
    ACQUIRE,
    AGGREGATE,
    ALL_BITS,
    BASE,
    CLAIM,
    CLAIMED,
    CLOSED,
    CURSOR,
    DRAWN_PUBLISHED_NS,
    DRAWN_READ,
    DRAWN_SLOT,
    DRAWN_TRAJECTORY,
    DRAWN_VERSION,
    EVICT,
    FREE_HINTS,
    GONE,
    HELD,
    HINT_WORDS,
    IS_FREE,
    IS_READY,
    IS_WRITING,
    LEFT,
    NOT_PRIMED,
    NOTHING,
    NUM_SLOTS,
    ONE,
    ONE_READ,
    PIN,
    PUBLISH,
    READY_HINTS,
    REFUSED,
    RELEASE,
    ROW,
    STAMP,
    STRIDE,
    U64,
    UNDRAW,
    WAKE,
    WORDS,
    ZERO,
    claim_oldest,
    claim_word,
    clear_hint,
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
    withdraw_free,
    withdraw_ready,
)

_HALF = U64(32)
_PROBES = 32
"""Failed random probes in a row before the bitmap is scanned. With a fifth of the slots ready that happens once in 1,300 draws."""


# --------------------------------------------------------------------------------------------------------------- writer


@part
def _claim_free(context, exact):
    hint_words = context[HINT_WORDS]
    for step in range(hint_words):
        # Start where this process last found a slot, so that writers do not all contend for the first bits.
        index = (context[CURSOR] + step) % hint_words
        bits = load(context[FREE_HINTS] + index * 8)
        if exact:
            bits = ALL_BITS
        while bits != ZERO:
            slot = index * 64 + lowest_bit(bits)
            bits &= bits - ONE
            if slot >= context[NUM_SLOTS]:
                break
            word = load(context[WORDS] + slot * STRIDE)
            if state_of(word) == IS_FREE and claim_word(context, slot, word, CLAIM):
                clear_hint(context[FREE_HINTS], slot)
                context[CURSOR] = index
                return slot
            if not exact:
                withdraw_free(context, slot)
    return NOTHING


@part
def _claim_for_refill(context):
    """Aggregate mode: replaces the oldest trajectory if the current refill has any left to replace.

    The count is decremented first, because two writers could otherwise both take the last one. A kill in between leaves one slot
    unreplaced.
    """
    refill = context[BASE] + layout.AT_REFILL
    while True:
        left = load(refill)
        if left == ZERO:
            return NOTHING
        # The swap fails when another writer took one in between; then the count is read again.
        if cas(refill, left, left - ONE):
            slot = claim_oldest(context)
            if slot < 0:
                add(refill, ONE)
            return slot


@part
def _give_back_unaccounted(context):
    """Frees the slot of an earlier claim whose caller got an exception before it received the slot, and so will never write it."""
    claimed = context[CLAIMED] - 1
    if claimed < 0:
        return
    context[CLAIMED] = 0
    slot, version = claimed & 0xFF_FFFF_FFFF, U64(claimed >> 40)
    before = pack(IS_WRITING, ZERO, version, U64(context[ROW]))
    if swap(context, slot, before, pack(IS_FREE, ZERO, version, ZERO), ABANDON):
        offer(context[FREE_HINTS], slot)
        tally(context, layout.ROW_ABANDONED, 1)


@kernel("int64(int64[::1], int64, boolean)")
def claim(context, now_ns, exact):
    """Takes a slot for writing. Returns `slot | version << 40`, or NOTHING, CLOSED, GONE. `exact` scans all words despite hints."""
    if context[LEFT] != 0:
        return GONE
    _give_back_unaccounted(context)
    if load(context[BASE] + layout.AT_CLOSED) != ZERO:
        return CLOSED
    slot = _claim_free(context, exact)
    if slot < 0 and context[EVICT] != 0:
        slot = claim_oldest(context)
    if slot < 0 and context[AGGREGATE] != 0:
        slot = _claim_for_refill(context)
    if slot < 0:
        return NOTHING
    at = context[WORDS] + slot * STRIDE
    store(at + layout.SLOT_CLAIMED_NS, U64(now_ns))
    store(at + layout.SLOT_SEQUENCE, ALL_BITS)  # invalidates its old place in the order of publication
    store(own_row(context) + layout.ROW_ACTIVE_NS, U64(now_ns))
    claimed = slot | np.int64(version_of(load(at))) << 40
    context[CLAIMED] = claimed + 1
    return claimed


@kernel("int64(int64[::1], int64, int64, boolean, uint64, int64)")
def publish(context, slot, version, named, trajectory, now_ns):
    """Changes WRITING to READY with K reads. Returns a wake flag, or REFUSED if the slot is not ours, or CLOSED, or GONE.

    The payload was written before this call. The swap has release ordering, so a reader that acquires the slot sees all of it.
    ROW_PUBLISHING is set before K is read, and cleared after the swap: a change of K waits for the flags of all participants, after
    which no slot with the old K can appear.
    """
    if context[LEFT] != 0:
        return GONE
    at = context[WORDS] + slot * STRIDE
    before = pack(IS_WRITING, ZERO, U64(version), U64(context[ROW]))
    if load(at) != before:
        tally(context, layout.ROW_REFUSED, 1)
        return REFUSED
    if load(context[BASE] + layout.AT_CLOSED) != ZERO:
        return CLOSED
    publishing = own_row(context) + layout.ROW_PUBLISHING
    # A full barrier: a release store could be reordered after the load of K, and a change of K would then miss this publish.
    exchange(publishing, ONE)
    reads = load(context[BASE] + layout.AT_MAX_READS)
    sequence = add(context[BASE] + layout.AT_SEQUENCE, ONE)
    line_up(context, slot, sequence)
    store(at + layout.SLOT_PUBLISHED_NS, U64(now_ns))
    store(at + layout.SLOT_TRAJECTORY, trajectory if named else sequence)
    store(at + layout.SLOT_READS, ZERO)
    store(at + layout.SLOT_BOUND, reads)
    store(at + layout.SLOT_CEILING, ALL_BITS if context[AGGREGATE] != 0 else reads)
    done = swap(context, slot, before, pack(IS_READY, reads, U64(version), ZERO), PUBLISH)
    # A release store: whoever sees the flag cleared sees the word as published too.
    store(publishing, ZERO)
    if not done:
        tally(context, layout.ROW_REFUSED, 1)
        return REFUSED
    keep_oldest(context, sequence)
    offer(context[READY_HINTS], slot)
    tally(context, layout.ROW_PUBLISHED, 1)
    store(own_row(context) + layout.ROW_ACTIVE_NS, U64(now_ns))
    return signal(context, layout.AT_READY_EVENT)


@kernel("int64(int64[::1], int64, int64)")
def abandon(context, slot, version):
    """Changes WRITING back to FREE. Returns a wake flag, or REFUSED if the slot is not ours, or GONE."""
    if context[LEFT] != 0:
        return GONE
    before = pack(IS_WRITING, ZERO, U64(version), U64(context[ROW]))
    if not swap(context, slot, before, pack(IS_FREE, ZERO, U64(version), ZERO), ABANDON):
        tally(context, layout.ROW_REFUSED, 1)
        return REFUSED
    offer(context[FREE_HINTS], slot)
    tally(context, layout.ROW_ABANDONED, 1)
    return signal(context, layout.AT_FREE_EVENT)


# --------------------------------------------------------------------------------------------------------------- reader


@part
def _draw(context, held, slot):
    """Takes one read of a slot: decrements the count and sets our bit in one swap. False if no read is left."""
    while True:
        word = load(context[WORDS] + slot * STRIDE)
        if not drawable(word):
            return False
        if context[AGGREGATE] != 0:  # no read is subtracted here: draws are counted for the ring as a whole
            taken = swap(context, slot, word, word | own_bit(context), PIN)
        else:
            taken = swap(context, slot, word, (word - ONE_READ) | own_bit(context), ACQUIRE)
        if taken:
            held[slot] += 1
            if remaining_of(word) == ONE:
                withdraw_ready(context, slot)  # the last read is taken; in aggregate mode this finds it still drawable and keeps it
            return True


@part
def _undraw(context, held, slot, epoch):
    """Gives back a draw that was not returned to the caller. If K has changed since, the read is lost, so that the bound holds."""
    held[slot] -= 1
    bit = own_bit(context) if held[slot] == 0 else ZERO
    sequence = load(context[WORDS] + slot * STRIDE + layout.SLOT_SEQUENCE)
    if context[AGGREGATE] != 0:
        if bit != ZERO:
            drop(context, slot, bit, RELEASE)
        return
    while True:
        # The word is loaded before the epoch: if K changes after the check, `adjust` changes the word, and the swap below fails.
        word = load(context[WORDS] + slot * STRIDE)
        if load(context[BASE] + layout.AT_BUDGET_EPOCH) != epoch:
            if bit != ZERO:
                drop(context, slot, bit, RELEASE)
            return
        if swap(context, slot, word, (word ^ bit) + ONE_READ, UNDRAW):
            offer(context[READY_HINTS], slot)
            if holders_of(word ^ bit) == ZERO:
                keep_oldest(context, sequence)
            return


@part
def _count_draws(context, drawn):
    """Aggregate mode: adds to the draws of the whole ring; the draw that reaches K x num_slots requests a refill.

    Only the process whose compare-and-swap resets the count requests it; if it is killed in between, that refill is lost. A refill
    requested during another follows it; a third one is dropped.
    """
    at = context[BASE] + layout.AT_DRAWN
    limit = load(context[BASE] + layout.AT_MAX_READS) * U64(context[NUM_SLOTS])
    while True:
        before = load(at)
        after = before + U64(drawn)
        if cas(at, before, after if after < limit else ZERO):
            break
    if after < limit:
        return
    refill, slots = context[BASE] + layout.AT_REFILL, U64(context[NUM_SLOTS])
    while True:
        left = load(refill)
        if left > slots or cas(refill, left, left + slots):
            break
    context[WAKE] = signal(context, layout.AT_FREE_EVENT)


@part
def _candidates(context, marks, scratch, exact):
    """Writes every drawable slot that is not yet in this batch into `scratch`; returns their number."""
    stamp, found = context[STAMP], 0
    for index in range(context[HINT_WORDS]):
        bits = load(context[READY_HINTS] + index * 8)
        if exact:
            bits = ALL_BITS
        while bits != ZERO:
            slot = index * 64 + lowest_bit(bits)
            bits &= bits - ONE
            if slot >= context[NUM_SLOTS]:
                break
            if marks[slot] == stamp:
                continue
            if drawable(load(context[WORDS] + slot * STRIDE)):
                scratch[found] = slot
                found += 1
                if exact:
                    offer(context[READY_HINTS], slot)
            elif not exact:
                withdraw_ready(context, slot)
    return found


@part
def _mix(seed):
    """One output of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    z = seed
    z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
    return z ^ (z >> U64(31))


@part
def _below(seed, limit):
    """A uniform integer in [0, limit), biased by less than limit / 2^32."""
    return np.int64(((_mix(seed) >> _HALF) * U64(limit)) >> _HALF)


@part
def _primed(context):
    """Whether `min_ready` trajectories have ever been ready at once; once true, it stays true."""
    at = context[BASE] + layout.AT_PRIMED
    if load(at) == ZERO:
        ready = 0
        for slot in range(context[NUM_SLOTS]):
            ready += np.int64(state_of(load(context[WORDS] + slot * STRIDE)) == IS_READY)
        if ready < np.int64(load(context[BASE] + layout.AT_MIN_READY)):
            return False
        store(at, ONE)
    return True


@kernel("int64(int64[::1], int32[::1], int64[::1], int32[::1], int64[:, ::1], int64, uint64, int64, boolean)")
def acquire(context, held, marks, scratch, table, minimum, seed, now_ns, exact):
    """Draws one read each of up to `table.shape[1]` different trajectories, uniformly over those that have reads left.

    With fewer than `minimum`, all draws are given back, because two readers that each hold half a batch would wait for each other
    forever. Returns the number drawn, or NOTHING, NOT_PRIMED, CLOSED, GONE.
    """
    if context[LEFT] != 0:
        return GONE
    if load(context[BASE] + layout.AT_CLOSED) != ZERO:
        return CLOSED
    if not _primed(context):
        return NOT_PRIMED
    epoch = load(context[BASE] + layout.AT_BUDGET_EPOCH)  # before the first draw: `_undraw` must notice any later change of K
    golden = U64(0x9E3779B97F4A7C15)
    context[STAMP] += 1
    stamp, want, drawn, misses = context[STAMP], table.shape[1], 0, 0
    # Random probes draw uniformly without a scan, and spread readers over different cache lines.
    while drawn < want and misses < _PROBES:
        seed += golden
        slot = _below(seed, context[NUM_SLOTS])
        if marks[slot] != stamp and _draw(context, held, slot):
            marks[slot] = stamp
            table[DRAWN_SLOT, drawn] = slot
            drawn += 1
            misses = 0
        else:
            misses += 1
    if drawn < want:
        left = _candidates(context, marks, scratch, exact)
        while drawn < want and left > 0:
            seed += golden
            pick = _below(seed, left)
            slot = np.int64(scratch[pick])
            left -= 1
            scratch[pick] = scratch[left]
            if _draw(context, held, slot):
                marks[slot] = stamp
                table[DRAWN_SLOT, drawn] = slot
                drawn += 1
    if drawn < minimum:
        for column in range(drawn):
            _undraw(context, held, table[DRAWN_SLOT, column], epoch)
        return NOTHING
    for column in range(drawn):
        at = context[WORDS] + table[DRAWN_SLOT, column] * STRIDE
        # A second count of reads, independent of the word: it would exceed the ceiling if the arithmetic on the word were wrong.
        read = add(at + layout.SLOT_READS, ONE)
        if read >= load(at + layout.SLOT_CEILING):
            tally(context, layout.ROW_OVER_READS, 1)
        table[DRAWN_VERSION, column] = np.int64(version_of(load(at))) | HELD
        table[DRAWN_READ, column] = np.int64(read)
        table[DRAWN_TRAJECTORY, column] = np.int64(load(at + layout.SLOT_TRAJECTORY))
        table[DRAWN_PUBLISHED_NS, column] = np.int64(load(at + layout.SLOT_PUBLISHED_NS))
    tally(context, layout.ROW_ACQUIRED, drawn)
    if context[AGGREGATE] != 0:
        _count_draws(context, drawn)
    store(own_row(context) + layout.ROW_ACTIVE_NS, U64(now_ns))
    return drawn


@kernel("int64(int64[::1], int32[::1], int64[:, ::1], int64)")
def release(context, held, table, count):
    """Ends a lease of `count` draws; returns a wake flag. A slot becomes FREE if no read is left and no other participant holds it.

    One bit stands for all leases of this participant on a slot; the last one clears it. Releasing twice does no harm, as columns
    without HELD are skipped. Returns GONE if the attachment has ended.
    """
    if context[LEFT] != 0:
        return GONE
    retired, released = 0, 0
    for column in range(count):
        if table[DRAWN_VERSION, column] < HELD:
            continue
        slot = table[DRAWN_SLOT, column]
        version = table[DRAWN_VERSION, column] - HELD
        table[DRAWN_VERSION, column] = 0
        released += 1
        word = load(context[WORDS] + slot * STRIDE)
        if held[slot] == 0 or np.int64(version_of(word)) != version:
            tally(context, layout.ROW_REFUSED, 1)
            continue
        held[slot] -= 1
        if held[slot] == 0:
            retired += np.int64(drop(context, slot, own_bit(context), RELEASE) == 2)
    tally(context, layout.ROW_RELEASED, released)
    if retired == 0:
        return 0
    tally(context, layout.ROW_RETIRED, retired)
    return signal(context, layout.AT_FREE_EVENT)
