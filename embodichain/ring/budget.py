"""The control word: one 64-bit number holds the state of a slot, its holders, and how many reads its trajectory has left.

    bits   63 62 | 61 .. 48  | 47 .. 32 | 31 .. 0
           state | remaining | version  | holders

`holders` is a bitmap of readers while READY, and the participant row of the single writer while WRITING. A counter of readers would
not survive a crash, as it would not tell whether a dead reader had counted itself; a bit can be cleared twice without harm. Every
change of a slot is one compare-and-swap of this word:

    claim    FREE                        → WRITING(writer), version + 1
    publish  WRITING(writer)             → READY(remaining = K, nobody holds)
    abandon  WRITING(writer)             → FREE
    acquire  READY(remaining > 0)        → READY(remaining - 1, reader's bit set)      decrement and bit in one step
    undraw   READY(reader's bit)         → READY(remaining + 1, bit cleared)           a draw that was not returned to the caller
    release  READY(reader's bit)         → READY(bit cleared), or FREE when no reads and no other holders are left
    evict    READY(no holders)           → WRITING(writer), version + 1
    reap     held by a dead process      → what its own release or abandon would have done
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

STATE_SHIFT = 62
REMAINING_SHIFT = 48
VERSION_SHIFT = 32
REMAINING_MASK = (1 << 14) - 1
VERSION_MASK = (1 << 16) - 1
HOLDERS_MASK = (1 << 32) - 1
MAX_READS_LIMIT = REMAINING_MASK
"""Largest K that fits into the word: 16,383."""


class SlotState(IntEnum):
    """The state of a slot. The numbers of FREE, WRITING and READY slots always add up to `num_slots`."""

    FREE = 0
    WRITING = 1
    READY = 2


class SlotWord(NamedTuple):
    """The parts of a control word."""

    state: SlotState
    remaining: int
    version: int
    holders: int

    def pack(self) -> int:
        """Packs the parts into the 64-bit number in shared memory."""
        return self.state << STATE_SHIFT | self.remaining << REMAINING_SHIFT | self.version << VERSION_SHIFT | self.holders

    @classmethod
    def unpack(cls, word: int) -> SlotWord:
        """The inverse of `pack`; raises ValueError for invalid state bits."""
        return cls(
            state=SlotState(word >> STATE_SHIFT),
            remaining=word >> REMAINING_SHIFT & REMAINING_MASK,
            version=word >> VERSION_SHIFT & VERSION_MASK,
            holders=word & HOLDERS_MASK,
        )
