"""Draws batches from a source: leases trajectories and cuts a window from each, without copying.

The replay bound counts draws, no matter when the learner trains on them. `ahead.Ahead` copies drawn batches to the learner's device
and keeps track of those that it has not trained on yet.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, LearnerError, PeerLost, RingTimeout, StreamEnded, StreamStopped
from embodichain.types import RingSpec, TrajectorySpec
from learner.data.batch import Lease, LeasedBatch, RingLease
from learner.data.config import DataConfig
from learner.data.gather import Slots
from learner.data.ranks import Ranks
from learner.data.windows import Coverage, TrajectoryView, cut

_POLL_S = 0.05
"""Longest single wait of one rank among several [s]; all ranks wait for the slowest in each round."""


class TrajectorySource(Protocol):
    """Where trajectories come from: a ring that streams them, or a fixed set in memory (`MemorySource`)."""

    def acquire(self, batch_size: int, timeout_s: float, *, rng: np.random.Generator, partial: bool = False) -> Lease:
        """Leases `batch_size` trajectories drawn with `rng` (at least one if `partial`).

        Raises RingTimeout if there are not enough within `timeout_s`.
        """
        ...


Record = Callable[[LeasedBatch, Sequence[int], int], None]
"""Called for every lease with the batch, the number of different state-action pairs read so far from each of its trajectories, and
the number of the lease."""
Inspect = Callable[[TrajectoryView], None]
"""Called with every trajectory of a lease before it is used; self-verifying runs check the content here."""


class RingDataset:
    """An endless stream of leased batches; owned by one thread.

    Args:
        source: a ring, or a `MemorySource`.
        config: sizes and seed.
        on_starved: called again and again while no batch is ready. An engine in this process produces trajectories there; an
            engine with failed workers raises there. With it, draws wait without limit, as more data will come. Without it, a
            draw waits at most `config.timeout_s`.
        exhausted: whether nothing more will be published. The rest is then drawn in smaller batches until nothing is left.
        poll_s: longest single wait before `on_starved` is called [s]; 0 for an engine in this process.
        record: called for every lease, to write the ledger.
        inspect: called for every trajectory, to check its content.
        ranks: the learner processes, if several share the source. `draw` is then a collective: every rank gets a batch, or none
            does. What some ranks had drawn when the stream ended for others counts as read but is not trained on. With one
            shared ring, pass `exhausted` to only one rank, so that all learn of the end in the same round.
    """

    def __init__(
        self,
        source: TrajectorySource,
        config: DataConfig,
        *,
        on_starved: Callable[[], None] | None = None,
        exhausted: Callable[[], bool] | None = None,
        poll_s: float = 0.0,
        record: Record | None = None,
        inspect: Inspect | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        # The ring lends read-only arrays, and torch warns because it has no read-only tensors. Nothing here writes into them.
        warnings.filterwarnings("ignore", message=".*NumPy array is not writable", category=UserWarning)
        ring = getattr(source, "spec", None)
        if isinstance(ring, RingSpec):
            check_spec(ring.trajectory)
            names = {entry.name for entry in ring.trajectory.fields}
        else:
            names = source.names if isinstance(source, MemorySource) else frozenset()
        self._field: Callable[[str], Any] | None = getattr(source, "field", None)
        self._encoded = "latents" in names
        self._depth = next((name for name in ("depth_latents", "depth") if name in names), "")
        self._between = next((name for name in ("between_latents", "between") if name in names), "")
        self.config = config
        self._source, self._on_starved = source, on_starved
        self._exhausted, self._poll_s = exhausted, poll_s
        self._record, self._inspect = record, inspect
        self._coverage = Coverage()
        self._ranks = ranks
        if ranks is not None and isinstance(ring, RingSpec):
            ranks.check(ring.num_slots, config.batch_size)
        self._rng = self._new_rng()
        self.leases = 0
        """Leases taken so far."""
        self.samples = 0
        """Trajectories in all leases so far."""
        self.samples_before = 0
        """Those of them that were drawn before the run was resumed."""
        self.wait_s = 0.0
        """Time spent waiting for trajectories [s], including calls of `on_starved`."""

    @property
    def alone(self) -> bool:
        """Whether this is the one learner process."""
        return self._ranks is None

    def __iter__(self) -> Iterator[LeasedBatch]:
        """Yields leased batches, which the receiver must release. Ends when the source is exhausted and read empty."""
        while True:
            try:
                yield self.draw()
            except StreamEnded:
                return

    def draw(self, *, wait: bool = True) -> LeasedBatch:
        """Leases one batch and picks a window of each trajectory.

        Without `wait`, a draw that finds too few trajectories changes no state, so that the next draw gives what it would have
        given. Several ranks always wait for each other.

        Raises StreamEnded when the source is exhausted and read empty, RingTimeout or RingClosed from the source.
        """
        began = time.monotonic()
        lease = self._acquire(began, wait)
        self.wait_s += time.monotonic() - began
        batch = self._take(lease)
        self.leases += 1
        self.samples += len(lease)
        return batch

    def _take(self, lease: Lease) -> LeasedBatch:
        """Inspects every trajectory of a lease, cuts its window and records the read."""
        try:
            views = [lease[i] for i in range(len(lease))]
            if self._inspect is not None:
                for view in views:
                    self._inspect(view)
            config = self.config
            windows = tuple(
                cut(
                    v,
                    config.window,
                    self._rng,
                    config.sampling,
                    openings=config.openings,
                    encoded=self._encoded,
                    depth=self._depth,
                    between=self._between,
                )
                for v in views
            )
            slots = Slots(self._field, cast(RingLease, lease).slots) if self._field is not None else None
            batch = LeasedBatch(
                windows=windows,
                window=self.config.window,
                lease=lease,
                slots=slots,
                depth_field=self._depth,
                between_field=self._between,
            )
            if self._record is not None:
                self._record(batch, self._coverage.take(batch.reads), self.leases)
        except BaseException:
            lease.release()
            raise
        return batch

    def _acquire(self, began: float, wait: bool) -> Lease:
        config = self.config
        if self._ranks is not None:
            return self._acquire_together(self._ranks, began)
        if self._on_starved is None and wait:
            return self._source.acquire(config.batch_size, config.timeout_s, rng=self._rng)
        while True:
            state = self._rng.bit_generator.state
            # Ask before acquiring: anything published before the end is then certainly seen by the acquisition below.
            ended = self._exhausted is not None and self._exhausted()
            try:
                wait_s = self._poll_s if wait and not ended else 0.0
                return self._source.acquire(config.batch_size, wait_s, rng=self._rng, partial=ended)
            except RingTimeout as error:
                if ended:
                    raise StreamEnded(f"the stream has ended after {self.leases} batches") from error
                self._rng.bit_generator.state = state  # undo the draws of a failed attempt: batches must depend on the seed alone
                if self._on_starved is None or not wait:
                    raise
                self._on_starved()

    def _acquire_together(self, ranks: Ranks, began: float) -> Lease:
        """Acquires a lease on every rank; otherwise raises StreamEnded on every rank, or an error on every rank.

        In each round, ranks without a lease try once, then all ranks exchange their state. The end takes effect one round after
        a rank has seen it. From then on no rank returns trajectories to the ring, so a rank that finds nothing knows that
        nothing is left.
        """
        lease: Lease | None = None
        failure: BaseException | None = None
        known = empty = leaving = False
        poll_s = _POLL_S if self._on_starved is None else min(self._poll_s, _POLL_S)
        try:
            while True:
                over = leaving or (self._exhausted is not None and self._exhausted())
                ended = known and (over or self._exhausted is None)
                if lease is None and failure is None:
                    state = self._rng.bit_generator.state
                    try:
                        wait_s = 0.0 if ended else poll_s
                        lease = self._source.acquire(self.config.batch_size, wait_s, rng=self._rng, partial=ended)
                    except RingTimeout as error:
                        self._rng.bit_generator.state = state
                        empty = ended
                        late = time.monotonic() - began > self.config.timeout_s
                        if (
                            late and not ended and self._on_starved is None and not ranks.rank
                        ):  # else the first rank waits or fails for all: others alone must not raise in the middle of a collective
                            failure = error
                    except BaseException as error:
                        failure = error
                agreed = ranks.agree(has_batch=lease is not None, ended=over, empty=empty, failed=failure is not None)
                if failure is not None:
                    raise failure
                if agreed.failed:
                    raise PeerLost(f"rank {ranks.rank} stops, for {agreed.failed} of {ranks.count} ranks failed: see their errors")
                if lease is not None and agreed.have_batch == ranks.count:
                    drawn, lease = lease, None
                    return drawn
                if agreed.empty:
                    if lease is not None:
                        self._take(lease)
                    ended_by = StreamStopped if leaving else StreamEnded
                    raise ended_by(f"the stream has ended after {self.leases} batches")
                known = agreed.ended > 0
                if self._on_starved is not None and not over:
                    try:
                        self._on_starved()  # even if this rank has a lease: another may wait for what is produced here
                    except StreamStopped:
                        leaving = (
                            True  # for all ranks, which learn of it as of the stream's end: none is left alone in a collective
                        )
                    except BaseException as error:
                        failure = error
        finally:
            if lease is not None:
                lease.release()

    def _new_rng(self, *more: int) -> np.random.Generator:
        """A generator for this rank. The first rank's equals that of a single process; the others are independent."""
        seed = self.config.seed
        return np.random.default_rng((seed, self._rank, *more) if self._rank else seed)

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint needs to continue the same sequence of draws."""
        rank = self._rank
        return {
            "rng": self._rng.bit_generator.state,
            "leases": self.leases,
            "samples": self.samples,
            "coverage": self._coverage.state(),
            **({"rank": rank} if rank else {}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. A rank that is given another's state, as a checkpoint does not hold its own, continues with
        a fresh generator.
        """
        self.leases, self.samples = int(state["leases"]), int(state["samples"])
        self.samples_before = self.samples
        if state.get("rank", 0) != self._rank:
            self._rng = self._new_rng(self.leases)
            return
        if "coverage" in state:
            self._coverage.restore(state["coverage"])
        self._rng.bit_generator.state = state["rng"]

    @property
    def _rank(self) -> int:
        return self._ranks.rank if self._ranks is not None else 0


def check_spec(spec: TrajectorySpec) -> None:
    """Raises LearnerError unless `spec` has the fields that the learner reads, in the shapes that it expects."""
    names = {entry.name for entry in spec.fields}
    frames = "latents" if "latents" in names else "rgb"
    missing = sorted({frames, "proprio", "action", "action_mask", "segment", "num_chunks", "instruction"} - names)
    if missing:
        raise LearnerError(f"trajectories lack {missing}; they have {sorted(names)}; the learner needs the fields of camera_spec")
    if len(shape := spec.field("action").shape) != 3:
        raise LearnerError(f"field 'action' has shape {shape}; the learner expects [horizon, K, A]")
    for name, expected in {"proprio": (shape[0] + 1, shape[2]), "action_mask": (shape[2],)}.items():
        if (found := spec.field(name).shape) != expected:
            raise LearnerError(
                f"field {name!r} has shape {list(found)}; with actions {list(shape)} the learner expects {list(expected)}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """A trajectory of a `MemorySource`, and how often it had been read before."""

    arrays: Mapping[str, NDArray]
    read_index: int

    @property
    def trajectory_id(self) -> int:
        return int(self.arrays["trajectory_id"])

    def __getitem__(self, name: str, /) -> NDArray:
        return self.arrays[name]


class _StoredLease(tuple[_Stored, ...]):
    """A lease of a `MemorySource`. Releasing it does nothing, as the set stays in memory."""

    __slots__ = ()

    def release(self) -> None:
        """Does nothing."""


class MemorySource:
    """A fixed set of trajectories in private memory with unlimited reads: the static data set that streaming is compared with."""

    def __init__(self, trajectories: Sequence[Mapping[str, NDArray]]) -> None:
        if not trajectories:
            raise ConfigError("a memory source needs at least one trajectory")
        self._trajectories = list(trajectories)
        self._reads = [0] * len(self._trajectories)

    @property
    def names(self) -> frozenset[str]:
        """Fields that the trajectories carry."""
        return frozenset(self._trajectories[0])

    def acquire(self, batch_size: int, timeout_s: float, *, rng: np.random.Generator, partial: bool = False) -> _StoredLease:
        """Draws `batch_size` different trajectories; if the set is smaller, with repetition."""
        count = len(self._trajectories)
        picks = rng.choice(count, batch_size, replace=batch_size > count)
        stored = []
        for pick in picks:
            stored.append(_Stored(self._trajectories[pick], self._reads[pick]))
            self._reads[pick] += 1
        return _StoredLease(stored)
