"""What a ledger proves: how often each trajectory was read, against the bound, over all lives of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import IntegrityError, RingError
from embodichain.ring.ledger import Event, load


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReport:
    """What a ledger proves of the reads behind the last weights: those of iterations that a later life undid do not count."""

    path: Path
    max_reads: int
    """The largest K that was in force; 0 when no single trajectory was bounded."""
    trajectories: int
    """Different trajectories published or read."""
    reads: int
    iterations: int
    """Different learner steps that read."""
    reads_histogram: Mapping[int, int]
    """Trajectories by the number of reads they had (0 counts those only published)."""
    violations: Mapping[int, int]
    """Packed trajectory id → reads, for each that was read more often than its bound."""
    duplicates: int
    """Reads that claim a read index already claimed for the same trajectory: two readers shared one draw."""
    unique_pairs: int
    unique_pairs_per_iteration: float
    """Experience throughput E: unique state-action pairs ingested per training iteration."""
    age_mean_s: float
    age_p50_s: float
    age_p99_s: float
    reads_at_retirement: float
    """Mean reads of trajectories that are over: at the bound, or not read again in the last fifth of the run."""
    damaged: int
    """Records whose check sum is wrong, apart from torn ones."""
    lives: int
    """Processes that learned one after another; 0 in a ledger that does not say."""
    undone: int
    """Reads of iterations after the checkpoint that a later life went on from."""
    gaps: tuple[tuple[int, int], ...]
    """First and last of every row of iterations without a record, up to the last one; only told where lives are."""
    given_up: Mapping[int, int]
    """Packed trajectory id → reads that were lost with the ring of an earlier life."""

    @property
    def holds(self) -> bool:
        """Whether the bound is proven: something was read, nothing too often, and no record is missing, doubled or damaged."""
        return not self.faults

    @property
    def faults(self) -> list[str]:
        """In words, why the bound is not proven."""
        found = []
        if not self.reads:
            found.append("nothing was read, so nothing is proven")
        if self.violations:
            worst, reads = max(self.violations.items(), key=lambda item: item[1])
            found.append(
                f"{len(self.violations)} of {self.trajectories} trajectories were read more often than "
                f"max_reads={self.max_reads} (worst {worst:#x}: {reads} reads)"
            )
        if self.duplicates:
            found.append(f"{self.duplicates} reads claimed twice")
        if self.damaged:
            found.append(f"{self.damaged} damaged records")
        if self.gaps:
            shown = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in self.gaps[:5])
            found.append(
                f"no record of iterations {shown}" + (f" and {len(self.gaps) - 5} more gaps" if len(self.gaps) > 5 else "")
            )
        return found

    def raise_on_violation(self) -> None:
        """Raises IntegrityError with all `faults` when there are any."""
        if self.faults:
            raise IntegrityError(f"{self.path}: " + "; ".join(self.faults))


def verify(path: Path | str, max_reads: int | None = None) -> LedgerReport:
    """Counts every read of every trajectory and holds them against the bound.

    Args:
        path: The ledger.
        max_reads: The bound; by default the largest K that the ledger itself states. 0 counts without judging.

    Raises:
        RingError: No ledger, or it states no bound and none was given.
    """
    records, damaged = load(path)
    bounds = records["trajectory_id"][records["event"] == Event.BOUND]
    if max_reads is None:
        if not len(bounds):
            raise RingError(f"the ledger {path} states no bound: pass max_reads")
        max_reads = int(bounds.max())
    kept = ~undone(records)
    made = records["event"] == Event.READ
    reads = records[made & kept]
    published = records[records["event"] == Event.PUBLISH]
    lost = records[(records["event"] == Event.GIVEN_UP) & kept]
    lives = int(np.count_nonzero(records["event"] == Event.LIFE))
    traces = np.concatenate([published, reads])
    ids, inverse = np.unique(traces["trajectory_id"], return_inverse=True)
    counts = np.bincount(inverse[len(published) :], minlength=len(ids))
    pairs = np.zeros(len(ids), np.int64)
    np.maximum.at(pairs, inverse, traces["pairs"])
    claims = np.sort(inverse[len(published) :].astype(np.int64) << 16 | reads["read_index"])
    over = (counts > max_reads) & (max_reads > 0)
    steps = len(np.unique(reads["step"]))
    unique_pairs = int(pairs[counts > 0].sum())
    ages = reads["age_s"].astype(np.float64)
    return LedgerReport(
        path=Path(path),
        max_reads=max_reads,
        trajectories=len(ids),
        reads=len(reads),
        iterations=steps,
        reads_histogram={int(k): int(n) for k, n in zip(*np.unique(counts, return_counts=True), strict=True)},
        violations={int(i): int(n) for i, n in zip(ids[over], counts[over], strict=True)},
        duplicates=int(np.count_nonzero(claims[1:] == claims[:-1])),
        unique_pairs=unique_pairs,
        unique_pairs_per_iteration=unique_pairs / steps if steps else 0.0,
        age_mean_s=float(ages.mean()) if len(ages) else 0.0,
        age_p50_s=float(np.percentile(ages, 50)) if len(ages) else 0.0,
        age_p99_s=float(np.percentile(ages, 99)) if len(ages) else 0.0,
        reads_at_retirement=_reads_at_retirement(ids, counts, reads, max_reads),
        damaged=damaged,
        lives=lives,
        undone=int(np.count_nonzero(made & ~kept)),
        gaps=_gaps(records, reads["step"]) if lives else (),
        given_up={int(row["trajectory_id"]): int(row["read_index"]) for row in lost},
    )


def undone(records: NDArray) -> NDArray[np.bool_]:
    """Which records belong to iterations that a later life began again, from a checkpoint before them.

    The last life stands on a chain of checkpoints. Of each life in the chain counts what it did before the checkpoint that the next
    one went on from; of all others nothing does.
    """
    begins = np.flatnonzero(records["event"] == Event.LIFE).tolist()
    counted = np.isin(records["event"], (Event.READ, Event.GIVEN_UP))
    if not begins:
        return np.zeros_like(counted)
    kept, end, place = np.zeros_like(counted), len(records), len(begins) - 1
    before = np.iinfo(np.int64).max
    while place >= 0:
        begin = begins[place]
        kept[begin:end] = (records["step"][begin:end] < before) | (records["event"][begin:end] == Event.GIVEN_UP)
        before, parent = int(records["step"][begin]), int(records["pairs"][begin]) - 1
        if parent < 0:  # the first life, or one that goes on from what an earlier version left
            kept[: begins[0]] = records["step"][: begins[0]] < before
            break
        place = next((p for p in range(place - 1, -1, -1) if records["trajectory_id"][begins[p]] == parent), -1)
        end = begins[place + 1]
    return counted & ~kept


def _gaps(records: NDArray, steps: NDArray) -> tuple[tuple[int, int], ...]:
    """See `LedgerReport.gaps`: each life has made its iterations, and found those before it made."""
    first = int(records["step"][records["event"] == Event.LIFE].max())
    steps = steps.astype(np.int64)
    present = np.union1d(steps, (-1, max(first, int(steps.max(initial=-1)) + 1)))
    return tuple((int(a) + 1, int(b) - 1) for a, b in pairwise(present) if b > a + 1)


def _reads_at_retirement(ids: NDArray, counts: NDArray, reads: NDArray, max_reads: int) -> float:
    """See `LedgerReport.reads_at_retirement`."""
    if not len(reads):
        return 0.0
    last = np.zeros(len(ids))
    np.maximum.at(last, np.searchsorted(ids, reads["trajectory_id"]), reads["time_s"])
    start, end = reads["time_s"].min(), reads["time_s"].max()
    over = ((counts >= max_reads) & (max_reads > 0)) | ((counts > 0) & (last < end - 0.2 * (end - start)))
    return float(counts[over].mean()) if over.any() else 0.0
