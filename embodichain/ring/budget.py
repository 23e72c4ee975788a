"""The control word: one 64-bit number says who may do what with a slot, and how many reads its trajectory has left.

    bits   63 62 | 61 .. 48  | 47 .. 32 | 31 .. 0
           state | remaining | version  | holders

`holders` is a bitmap of readers while READY, and the row of the one writer while WRITING. A plain count would not do: nobody
could tell whether a dead reader had counted itself; a bit can be cleared twice without harm. Every change of a slot is one
compare-and-swap of this word:

    claim    FREE                        → WRITING(writer), version + 1
    publish  WRITING(writer)             → READY(remaining = K, nobody holds)
    abandon  WRITING(writer)             → FREE
    acquire  READY(remaining > 0)        → READY(remaining - 1, reader's bit set)      decrement and bit in one step
    undraw   READY(reader's bit)         → READY(remaining + 1, bit cleared)           a draw that was never handed out
    release  READY(reader's bit)         → READY(bit cleared), or FREE when no read is left and nobody else holds
    evict    READY(nobody holds)         → WRITING(writer), version + 1
    reap     any of the dead's holdings  → what its release or abandon would have done
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
    """What a slot is at one instant; `FREE + WRITING + READY = num_slots` always."""

    FREE = 0
    WRITING = 1
    READY = 2


class SlotWord(NamedTuple):
    """A control word taken apart."""

    state: SlotState
    remaining: int
    version: int
    holders: int

    def pack(self) -> int:
        """As the 64-bit number in shared memory."""
        return self.state << STATE_SHIFT | self.remaining << REMAINING_SHIFT | self.version << VERSION_SHIFT | self.holders

    @classmethod
    def unpack(cls, word: int) -> SlotWord:
        """The inverse of `pack`; raises ValueError when the state bits are none of the three."""
        return cls(
            state=SlotState(word >> STATE_SHIFT),
            remaining=word >> REMAINING_SHIFT & REMAINING_MASK,
            version=word >> VERSION_SHIFT & VERSION_MASK,
            holders=word & HOLDERS_MASK,
        )
