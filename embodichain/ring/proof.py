"""Checks a ledger: how often each trajectory was read, against the replay bound, over all sessions of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import IntegrityError, RingError
from embodichain.ring.ledger import MOST_READS, Event, lives, load, read_indices
from embodichain.types import LEDGER_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReport:
    """The result of checking a ledger. It covers the reads behind the final weights: iterations undone by a resume do not count."""

    path: Path
    max_reads: int
    """The largest K that applied to a read; 0 when single trajectories were not bounded."""
    trajectories: int
    """Number of different trajectories published or read."""
    reads: int
    iterations: int
    """Number of learner iterations with reads."""
    reads_histogram: Mapping[int, int]
    """Number of reads → number of trajectories (0: published but never read)."""
    violations: Mapping[int, int]
    """Packed trajectory id → number of reads, for each trajectory with a read beyond the K of the process that made it."""
    duplicates: int
    """Number of reads with a read index that another read of the same trajectory has too; it would mean a double draw."""
    unique_pairs: int
    unique_pairs_per_iteration: float
    """Experience throughput E: state-action pairs read for the first time, a training iteration."""
    age_mean_s: float
    age_p50_s: float
    age_p99_s: float
    reads_at_retirement: float
    """Mean reads of finished trajectories: those at the bound, or without a read in the last fifth of the run."""
    damaged: int
    """Number of records with a wrong check sum, except torn ones."""
    lives: int
    """Number of processes that trained one after another; 0 in a ledger without this information."""
    undone: int
    """Number of reads that a resume undid, as they came after the checkpoint."""
    gaps: tuple[tuple[int, int], ...]
    """First and last iteration of every gap without records; only if the ledger records its processes."""
    given_up: Mapping[int, int]
    """Packed trajectory id → number of reads that were lost with the ring of an earlier process."""
    bounds: tuple[int, ...] = ()
    """Every K that the ledger records, in ascending order: several if it was changed."""

    @property
    def holds(self) -> bool:
        """Whether the bound is proven: there are reads, none too many, and no record is missing, duplicated or damaged."""
        return not self.faults

    @property
    def faults(self) -> list[str]:
        """The reasons why the bound is not proven, as text."""
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


def ledgers(run: Path) -> tuple[Path, ...]:
    """The ledgers in a run's folder: one for each of its rings."""
    first = run / LEDGER_FILE
    return (first, *sorted(run.glob(f"{first.stem}-*{first.suffix}")))


def verify(path: Path | str, max_reads: int | None = None, *, beside: Sequence[Path] = ()) -> LedgerReport:
    """Counts the reads of every trajectory and checks them against the bound.

    Args:
        path: The ledger.
        max_reads: The bound; by default the K recorded in the ledger. 0 only counts.
        beside: The ledgers of the other rings of the same run: a trajectory's reads count together, in whichever ring they were.

    Raises:
        RingError: The file is no ledger, or records no bound and none was given.
    """
    loaded = [load(one) for one in (path, *beside)]
    books, damaged = [records for records, _ in loaded], sum(count for _, count in loaded)
    records = np.concatenate(books)
    bounds = records["trajectory_id"][records["event"] == Event.BOUND]
    if max_reads is None and not len(bounds):
        raise RingError(f"the ledger {path} states no bound: pass max_reads")
    kept = ~np.concatenate([undone(book) for book in books])
    made = records["event"] == Event.READ
    reads = records[made & kept]
    stated = np.concatenate([_limits(book) for book in books])
    limits = (stated if max_reads is None else np.full(len(records), max_reads, np.int64))[made & kept]
    if max_reads is None:
        max_reads = int(limits.max(initial=0)) if len(reads) else int(bounds.max())
    published = records[records["event"] == Event.PUBLISH]
    lost = records[(records["event"] == Event.GIVEN_UP) & kept]
    lives = max(int(np.count_nonzero(book["event"] == Event.LIFE)) for book in books)
    traces = np.concatenate([published, reads])
    ids, inverse = np.unique(traces["trajectory_id"], return_inverse=True)
    counts = np.bincount(inverse[len(published) :], minlength=len(ids))
    pairs = np.zeros(len(ids), np.int64)
    np.maximum.at(pairs, inverse, traces["pairs"])
    index = read_indices(reads)
    claims = np.sort((inverse[len(published) :].astype(np.int64) << 24 | index)[index < MOST_READS])
    over = np.bincount(inverse[len(published) :], weights=(_ordinals(reads) > limits) & (limits > 0), minlength=len(ids)) > 0
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
        given_up={int(row["trajectory_id"]): int(left) for row, left in zip(lost, read_indices(lost), strict=True)},
        bounds=tuple(sorted({int(bound) for bound in bounds})),
    )


def undone(records: NDArray) -> NDArray[np.bool_]:
    """Marks records of iterations that a resume from an earlier checkpoint undid.

    The last process is the end of a chain in which each process continued from a checkpoint of the one before. Records of a process
    in the chain count up to the checkpoint that the next one continued from; those of all other processes do not count.
    """
    begins = np.flatnonzero(records["event"] == Event.LIFE).tolist()
    counted = np.isin(records["event"], (Event.READ, Event.GIVEN_UP))
    if not begins:
        return np.zeros_like(counted)
    named, epochs = lives(records)
    numbers = numbers_of_lives(records)
    kept, end, place = np.zeros_like(counted), len(records), len(begins) - 1
    before = np.iinfo(np.int64).max
    while place >= 0:
        begin = begins[place]
        kept[begin:end] = (records["step"][begin:end] < before) | (records["event"][begin:end] == Event.GIVEN_UP)
        before, parent = int(records["step"][begin]), int(records["pairs"][begin]) - 1
        if parent < 0:  # the first process, or one that continued a run of a version that did not record processes
            kept[: begins[0]] = records["step"][: begins[0]] < before
            break
        names = numbers if named[place] >= 0 else epochs
        place = int(np.flatnonzero(names[:place] == parent)[-1:].max(initial=-1))
        end = begins[place + 1]
    return counted & ~kept


def numbers_of_lives(records: NDArray) -> NDArray[np.int64]:
    """The number of every life that a ledger records. Ledgers of before have no numbers: there it is the place among the lives."""
    named, _ = lives(records)
    return np.where(named >= 0, named, np.arange(len(named)))


def _limits(records: NDArray) -> NDArray[np.int64]:
    """The bound by which a read at each place of the ledger is judged: the largest K of the process that made it, 0 for none.

    So a process with a larger K neither hides nor breaks the bound of another. The largest, because several processes write in any
    order when K is changed while they read. A process states its first K right before its LIFE record.
    """
    begins = np.flatnonzero(records["event"] == Event.LIFE)
    life = np.cumsum(records["event"] == Event.LIFE)
    first = begins[begins > 0] - 1
    first = first[records["event"][first] == Event.BOUND]
    life[first] += 1
    stated = records["event"] == Event.BOUND
    largest = np.full(len(begins) + 1, -1, np.int64)
    np.maximum.at(largest, life[stated], records["trajectory_id"][stated].astype(np.int64))
    for number in range(1, len(largest)):  # one that states none goes on with that of the process before
        if largest[number] < 0:
            largest[number] = largest[number - 1]
    return np.maximum(largest, 0)[life]


def _ordinals(reads: NDArray) -> NDArray[np.int64]:
    """For each read, which of its trajectory's reads it is: 1 for the first."""
    order = np.argsort(reads["trajectory_id"], kind="stable")
    ids = reads["trajectory_id"][order]
    begins = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, np.int64)
    found = np.empty(len(reads), np.int64)
    found[order] = np.arange(len(reads)) - np.repeat(begins, np.diff(np.r_[begins, len(ids)])) + 1
    return found


def _gaps(records: NDArray, steps: NDArray) -> tuple[tuple[int, int], ...]:
    """Computes `LedgerReport.gaps`; iterations before the first one of a process were made by earlier processes."""
    first = int(records["step"][records["event"] == Event.LIFE].max())
    steps = steps.astype(np.int64)
    present = np.union1d(steps, (-1, max(first, int(steps.max(initial=-1)) + 1)))
    return tuple((int(a) + 1, int(b) - 1) for a, b in pairwise(present) if b > a + 1)


def _reads_at_retirement(ids: NDArray, counts: NDArray, reads: NDArray, max_reads: int) -> float:
    """Computes `LedgerReport.reads_at_retirement`."""
    if not len(reads):
        return 0.0
    last = np.zeros(len(ids))
    np.maximum.at(last, np.searchsorted(ids, reads["trajectory_id"]), reads["time_s"])
    start, end = reads["time_s"].min(), reads["time_s"].max()
    over = ((counts >= max_reads) & (max_reads > 0)) | ((counts > 0) & (last < end - 0.2 * (end - start)))
    return float(counts[over].mean()) if over.any() else 0.0
