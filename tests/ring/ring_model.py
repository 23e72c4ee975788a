"""The protocol as plain Python over one slot's word: what each operation may do. The judge of every history."""

from embodichain.ring.budget import SlotState, SlotWord

FREE, WRITING, READY = SlotState.FREE, SlotState.WRITING, SlotState.READY
CLAIM, PUBLISH, ABANDON, ACQUIRE, UNDRAW, RELEASE, EVICTION, REAP, PIN, ADJUST = range(1, 11)


def next_version(version: int) -> int:
    return (version + 1) % 65_536


def drop(word: SlotWord, bit: int) -> SlotWord:
    """A reader's bit goes; the last one out of a used-up slot frees it."""
    assert word.state == READY
    assert word.holders & bit
    holders = word.holders & ~bit
    if word.remaining == 0 and holders == 0:
        return SlotWord(FREE, 0, word.version, 0)
    return word._replace(holders=holders)


def is_legal(operation: int, before: SlotWord, after: SlotWord, *, row: int, max_reads: set[int]) -> bool:
    """Whether `row` may have turned one word into the other; `max_reads` are the values K had."""
    bit = 1 << row
    if operation == CLAIM:
        return before.state == FREE and after == SlotWord(WRITING, 0, next_version(before.version), row)
    if operation == EVICTION:
        idle = before.state == READY and before.holders == 0
        return idle and after == SlotWord(WRITING, 0, next_version(before.version), row)
    if operation == PUBLISH:
        mine = before.state == WRITING and before.holders == row
        return mine and after.remaining in max_reads and after == SlotWord(READY, after.remaining, before.version, 0)
    if operation == ABANDON:
        return before == SlotWord(WRITING, 0, before.version, row) and after == SlotWord(FREE, 0, before.version, 0)
    if operation == ACQUIRE:
        there = before.state == READY and before.remaining > 0
        return there and after == before._replace(remaining=before.remaining - 1, holders=before.holders | bit)
    if operation == UNDRAW:
        there = before.state == READY and bool(before.holders & bit)
        return there and after in (
            before._replace(remaining=before.remaining + 1, holders=before.holders & ~bit),
            before._replace(remaining=before.remaining + 1),
        )
    if operation == RELEASE:
        return before.state == READY and bool(before.holders & bit) and after == drop(before, bit)
    if operation == REAP:
        if before.state == WRITING:
            return after == SlotWord(FREE, 0, before.version, 0)
        gone = before.holders & ~after.holders or before.holders
        return before.state == READY and gone.bit_count() == 1 and after == drop(before, gone)
    if operation == PIN:
        return before.state == READY and after == before._replace(holders=before.holders | bit)
    if operation == ADJUST:
        return before.state == READY and bool(before.holders & bit) and after == before._replace(remaining=after.remaining)
    return False


class Model:
    """A whole ring as a sequential machine: slots by trajectory, reads left, and who holds what."""

    def __init__(self, num_slots: int, max_reads: int) -> None:
        self.num_slots = num_slots
        self.max_reads = max_reads
        self.writing: set[object] = set()
        self.ready: dict[int, int] = {}  # trajectory → reads made
        self.leases: list[tuple[object, list[int]]] = []

    @property
    def free(self) -> int:
        return self.num_slots - len(self.writing) - len(self.ready)

    def drawable(self) -> set[int]:
        return {number for number, reads in self.ready.items() if reads < self.max_reads}

    def held(self) -> set[int]:
        return {number for _, numbers in self.leases for number in numbers}

    def settle(self) -> None:
        """What is used up and held by nobody is gone."""
        held = self.held()
        self.ready = {n: reads for n, reads in self.ready.items() if reads < self.max_reads or n in held}
