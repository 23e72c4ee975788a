"""Whether a stream arrived complete: each published trajectory read exactly K times, over all rings of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from embodichain.engine import EngineReport
from embodichain.errors import IntegrityError
from embodichain.ring.ledger import Event, load
from embodichain.ring.proof import undone
from embodichain.types import TrajectoryId

__all__ = ["check_complete", "reads_by_trajectory"]


def reads_by_trajectory(*books: Path) -> dict[int, int]:
    """How often each trajectory in a run's ledgers was read, by packed id; without reads that a resume from a checkpoint undid."""
    read = [np.zeros(0, np.uint64)]
    for records, _ in map(load, books):
        read.append(records["trajectory_id"][(records["event"] == Event.READ) & ~undone(records)])
    ids, counts = np.unique(np.concatenate(read), return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def check_complete(
    engine: EngineReport, reads: Mapping[int, int], max_reads: int | None, given_up: Mapping[int, int] = MappingProxyType({})
) -> None:
    """Checks that every published trajectory was read exactly K times; `reads` and `given_up` are by packed id.

    Reads that were lost with a ring or left in one (`given_up`) count as made. `max_reads` is None if K was changed during the run:
    nobody can say then how often each should have been read, only that none was lost. Raises IntegrityError naming violations.
    """
    reads = {packed: reads.get(packed, 0) + given_up.get(packed, 0) for packed in (*reads, *given_up)}
    sequences = Counter(TrajectoryId.unpack(packed).sequence for packed in reads)
    problems = []
    if duplicated := [number for number, count in sequences.items() if count > 1]:
        problems.append(f"duplicated: scenes {duplicated[:10]}")
    if len(reads) < engine.published:
        problems.append(f"lost: {engine.published} were published, {len(reads)} were ever read")
    if wrong := {packed: count for packed, count in reads.items() if max_reads is not None and count != max_reads}:
        packed, count = next(iter(wrong.items()))
        problems.append(f"{len(wrong)} not read exactly {max_reads} times, for example {TrajectoryId.unpack(packed)}: {count}")
    if problems:
        raise IntegrityError("the stream is not intact: " + "; ".join(problems))
