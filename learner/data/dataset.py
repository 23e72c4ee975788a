"""Draws from a source: leases of trajectories, and a window of each without a copy.

A draw is a read, whenever it is learned from: the replay bound counts draws. `ahead.Ahead` gathers what is drawn here on the
learner's device, and knows what has been drawn and not yet learned.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, LearnerError, RingTimeout, StreamEnded
from embodichain.types import ACTION_DIM, RingSpec, TrajectorySpec
from learner.data.batch import Lease, LeasedBatch, RingLease
from learner.data.config import DataConfig
from learner.data.gather import Slots
from learner.data.ranks import Ranks
from learner.data.windows import Coverage, TrajectoryView, cut

_POLL_S = 0.05
"""Longest single wait of a rank that is one of several: the others wait with it."""


class Source(Protocol):
    """Where trajectories come from: a ring that streams them, or a fixed set in memory (`MemorySource`)."""

    def acquire(self, batch_size: int, timeout_s: float, *, rng: np.random.Generator, partial: bool = False) -> Lease:
        """Leases `batch_size` trajectories (`partial`: at least one) drawn by `rng`; raises RingTimeout without enough of them."""
        ...


Record = Callable[[LeasedBatch, Sequence[int], int], None]
"""Told of every acquisition: the batch, the number of state-action pairs that each of its trajectories has given the learner so
far (each pair counted once), and the number of the lease."""
Inspect = Callable[[TrajectoryView], None]
"""Shown every trajectory of a lease before it is used: self-verifying runs check the content here."""


class RingDataset:
    """An endless stream of leased batches; owned by one thread.

    Args:
        source: a ring, or a `MemorySource`.
        config: sizes and seed.
        on_starved: called when no batch is ready; an engine in the same process produces there, and one whose workers failed
            raises: as long as it does not, somebody will produce, and the wait has no end. Without it the source waits, at most
            `config.timeout_s`.
        exhausted: whether nothing will be published any more: what is left is then drawn in smaller batches until none is.
        poll_s: longest single wait before `on_starved` is called [s]: 0 for an engine in this process, which must get its turn.
        record: ledger hook.
        inspect: content hook.
        ranks: the learner processes that share the source, when they are several. `draw` is then a collective: every rank gets
            a batch or none does. What some ranks had drawn when the stream ended for others is booked as read, not learned.
            On one shared ring only one rank is given `exhausted`, for all must learn of the end in the same round.
    """

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        *,
        on_starved: Callable[[], None] | None = None,
        exhausted: Callable[[], bool] | None = None,
        poll_s: float = 0.0,
        record: Record | None = None,
        inspect: Inspect | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        # A ring lends read-only arrays, and torch has no read-only tensors: nothing here writes into the views.
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
        """Trajectories in them."""
        self.samples_before = 0
        """Of these, in earlier lives of the run."""
        self.wait_s = 0.0
        """Time spent waiting for trajectories [s]; with `on_starved`, producing them."""

    @property
    def alone(self) -> bool:
        """Whether this is the one learner process."""
        return self._ranks is None

    def __iter__(self) -> Iterator[LeasedBatch]:
        """Leases and yields; the receiver releases. Ends when the source is exhausted and read empty."""
        while True:
            try:
                yield self.draw()
            except StreamEnded:
                return

    def draw(self, *, wait: bool = True) -> LeasedBatch:
        """Leases one batch and picks a window of each trajectory.

        A draw that does not `wait` changes nothing when it finds too little: the next one draws what it would have. Several ranks
        always wait, for each other.

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
        """Looks at every trajectory of a lease, cuts its window and books the read."""
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
                )
                for v in views
            )
            slots = Slots(self._field, cast(RingLease, lease).slots) if self._field is not None else None
            batch = LeasedBatch(windows=windows, window=self.config.window, lease=lease, slots=slots, depth_field=self._depth)
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
            ended = self._exhausted is not None and self._exhausted()  # asked first: what was published before is then seen
            try:
                wait_s = self._poll_s if wait and not ended else 0.0
                return self._source.acquire(config.batch_size, wait_s, rng=self._rng, partial=ended)
            except RingTimeout as error:
                if ended:
                    raise StreamEnded(f"the stream has ended after {self.leases} batches") from error
                self._rng.bit_generator.state = state  # a failed try draws nothing: the stream stays a function of the seed
                if self._on_starved is None or not wait:
                    raise
                self._on_starved()

    def _acquire_together(self, ranks: Ranks, began: float) -> Lease:
        """A lease for every rank, or StreamEnded, or an error for every rank.

        In each round those without a lease try once, then all agree. The end counts one round after a rank has seen it: from
        then on nobody gives a draw back, so whoever finds nothing knows that nothing is left.
        """
        lease: Lease | None = None
        failure: BaseException | None = None
        known = empty = False
        poll_s = _POLL_S if self._on_starved is None else min(self._poll_s, _POLL_S)
        try:
            while True:
                over = self._exhausted is not None and self._exhausted()
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
                        ):  # else the first rank waits, or fails
                            failure = error
                    except BaseException as error:
                        failure = error
                agreed = ranks.agree(has_batch=lease is not None, ended=over, empty=empty, failed=failure is not None)
                if failure is not None:
                    raise failure
                if agreed.failed:
                    raise LearnerError(
                        f"rank {ranks.rank} stops, for {agreed.failed} of {ranks.count} ranks failed: see their errors"
                    )
                if lease is not None and agreed.have_batch == ranks.count:
                    drawn, lease = lease, None
                    return drawn
                if agreed.empty:
                    if lease is not None:
                        self._take(lease)
                    raise StreamEnded(f"the stream has ended after {self.leases} batches")
                known = agreed.ended > 0
                if self._on_starved is not None and not over:
                    try:
                        self._on_starved()  # also with a lease in hand: another rank may wait for what is produced here
                    except BaseException as error:
                        failure = error
        finally:
            if lease is not None:
                lease.release()

    def _new_rng(self, *more: int) -> np.random.Generator:
        """The first rank draws as a single process would; the others independently of it."""
        seed = self.config.seed
        return np.random.default_rng((seed, self._ranks.rank, *more) if self._ranks is not None and self._ranks.rank else seed)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on drawing as if never stopped."""
        return {"rng": self._rng.bit_generator.state, "leases": self.leases, "samples": self.samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. A checkpoint holds the first rank's state: the others go on with fresh draws."""
        self.leases, self.samples = int(state["leases"]), int(state["samples"])
        self.samples_before = self.samples
        if self._ranks is not None and self._ranks.rank:
            self._rng = self._new_rng(self.leases)
        else:
            self._rng.bit_generator.state = state["rng"]


def check_spec(spec: TrajectorySpec) -> None:
    """Raises LearnerError unless trajectories of `spec` carry what the learner reads, in the shapes it expects."""
    expected = {"proprio": (ACTION_DIM,), "action_mask": (), "segment": ()}
    names = {entry.name for entry in spec.fields}
    expected["latents" if "latents" in names else "rgb"] = ()
    missing = sorted((set(expected) | {"action", "num_chunks", "instruction"}) - names)
    if missing:
        raise LearnerError(f"trajectories lack {missing}; they have {sorted(names)}; the learner needs the fields of camera_spec")
    for name, tail in expected.items():
        if spec.field(name).shape[1:][: len(tail)] != tail:
            raise LearnerError(
                f"field {name!r} has shape {spec.field(name).shape}; the learner expects {tail} after the first axis"
            )
    if len(shape := spec.field("action").shape) != 3 or shape[2] != ACTION_DIM:
        raise LearnerError(f"field 'action' has shape {shape}; the learner expects [horizon, K, {ACTION_DIM}]")


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """A trajectory of a `MemorySource` and how often it had been read."""

    arrays: Mapping[str, NDArray]
    read_index: int

    @property
    def trajectory_id(self) -> int:
        return int(self.arrays["trajectory_id"])

    def __getitem__(self, name: str, /) -> NDArray:
        return self.arrays[name]


class _StoredLease(tuple[_Stored, ...]):
    """Nothing to give back: the set stays."""

    __slots__ = ()

    def release(self) -> None:
        """Does nothing."""


class MemorySource:
    """A fixed set of trajectories in private memory, read without bound: the static data set that streaming is compared with."""

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
        """Draws `batch_size` different trajectories, or, from a smaller set, as many with repetition."""
        count = len(self._trajectories)
        picks = rng.choice(count, batch_size, replace=batch_size > count)
        stored = []
        for pick in picks:
            stored.append(_Stored(self._trajectories[pick], self._reads[pick]))
            self._reads[pick] += 1
        return _StoredLease(stored)
