"""Which trajectories a gateway has delivered: a bounded memory of identities, as records of its journal."""

from __future__ import annotations

from collections.abc import Iterator

from embodichain.ring.journal import JournalRecord, RecordKind
from embodichain.types import MOST_TOGETHER

REMEMBERED = MOST_TOGETHER
"""Number of the latest sequence numbers remembered for each worker and epoch; earlier ones count as delivered. A worker sends one
batch at a time, so it asks for no earlier ones."""


class Delivered:
    """The set of delivered identities: the last `REMEMBERED` of each worker and epoch, and all before them."""

    def __init__(self) -> None:
        self._recent: dict[int, dict[int, None]] = {}
        self._before: dict[int, int] = {}

    def add(self, packed: int) -> None:
        """Adds one identity; the oldest of its worker and epoch is then known by its order alone."""
        life, sequence = packed >> 40, packed & 0xFF_FFFF_FFFF
        recent = self._recent.setdefault(life, {})
        recent[sequence] = None
        if len(recent) > REMEMBERED:
            oldest = next(iter(recent))
            del recent[oldest]
            self._before[life] = max(oldest, self._before.get(life, -1))

    def add_before(self, packed: int) -> None:
        """Marks all sequence numbers of this worker and epoch up to `packed` as delivered."""
        life, sequence = packed >> 40, packed & 0xFF_FFFF_FFFF
        self._before[life] = max(sequence, self._before.get(life, -1))

    def records(self) -> Iterator[JournalRecord]:
        """The set as journal records, for trimming the journal."""
        for life, sequence in self._before.items():
            yield JournalRecord(life << 40 | sequence, 0, 0, RecordKind.BEFORE)
        for life, recent in self._recent.items():
            for sequence in recent:
                yield JournalRecord(life << 40 | sequence, 0, 0, RecordKind.DONE)

    def __contains__(self, packed: int) -> bool:
        life, sequence = packed >> 40, packed & 0xFF_FFFF_FFFF
        return sequence in self._recent.get(life, ()) or sequence <= self._before.get(life, -1)
