"""From the ring to the gradient without a copy but one: leases of trajectories, zero-copy windows, one gather on the device.

A lease holds its trajectories in the ring until they are gathered. Nothing is fetched ahead: one lease is alive at a time, so that
the replay bound stays exact and a checkpoint loses no batch.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from embodichain.errors import ConfigError, LearnerError, RingTimeout, StreamEnded
from embodichain.types import ACTION_DIM, RingSpec, Segment, TrajectorySpec
from learner.data.config import DataConfig
from learner.data.gather import Slots
from learner.data.ranks import Ranks
from learner.data.windows import Coverage, TrajectoryView, WindowView, cut

_ENDLESS = 1 << 40
_POLL_S = 0.05
"""Longest single wait of a rank that is one of several: the others wait with it."""


class Lease(Protocol):
    """Trajectories held for reading."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, index: int, /) -> TrajectoryView:
        """One of them."""
        ...

    def release(self) -> None:
        """Gives them back; safe to call twice."""
        ...


class RingLease(Lease, Protocol):
    """One of a source that has fields of all slots."""

    @property
    def slots(self) -> NDArray[np.int64]:
        """Where each trajectory lies."""
        ...


class Source(Protocol):
    """Where trajectories come from: a ring that streams them, or a fixed set in memory (`MemorySource`)."""

    def acquire(self, batch_size: int, timeout_s: float, *, rng: np.random.Generator, partial: bool = False) -> Lease:
        """Leases `batch_size` trajectories (`partial`: at least one) drawn by `rng`; raises RingTimeout without enough of them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One gathered batch, physical units, T chunks and T + 1 frames a window; steps after an episode's end are zero, not valid."""

    rgb_BThw3: Tensor | None
    """uint8 [B, T + 1, cameras, h, w, 3]; None where workers encoded the frames."""
    proprio_BTA: Tensor
    actions_BTKA: Tensor
    action_mask_BA: Tensor
    """bool: channels that the robot has."""
    segment_BT: Tensor
    """uint8, see Segment."""
    valid_BT: Tensor
    instructions: tuple[str, ...]
    trajectory_ids: tuple[int, ...]
    starts: tuple[int, ...]
    """First chunk of each window."""
    latents_BTvrcC: Tensor | None = None
    """float16 [B, T + 1, cameras, rows, columns, channels], as the encoder left them: encode-on-write instead of `rgb_BThw3`."""
    depth: Tensor | None = None
    """Depth of every frame: [m], [B, T + 1, cameras, h, w], or latents as `latents_BTvrcC`; None where it was not asked for."""
    opening: Tensor | None = None
    """The first frame of each trajectory, as `rgb_BThw3` or `latents_BTvrcC` with T = 0; None where it was not asked for."""

    @property
    def imitate_BT(self) -> Tensor:
        """Steps whose actions are worth imitating: valid and not part of a failed attempt."""
        return self.valid_BT & (self.segment_BT != Segment.FAILURE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeasedBatch:
    """Windows of a lease; their tensors are views that end with `release`."""

    windows: tuple[WindowView, ...]
    window: int
    """Chunks of the longest that there may be, to which the others are padded; 0 pads to the longest that there is."""
    lease: Lease
    slots: Slots | None = None
    """Where the trajectories lie, if in a ring: a batch on the ring's own device is then gathered by one launch a field."""
    depth_field: str = ""
    """The field that depth comes from."""

    def gather(self, device: torch.device | str = "cpu", *, opening: bool = False, depth: bool = False) -> Batch:
        """The one copy on the way: stacks the windows on `device`, padding short ones, and their `opening` and `depth` if asked.

        Raises LearnerError for a depth that the stream does not carry.
        """
        w = self.windows
        if depth and w[0].depth is None:
            raise LearnerError("this model learns depth, and the stream carries none: set world.depth true")
        encoded = w[0].latents is not None
        lengths = torch.tensor([view.length for view in w])
        size = self.window or int(lengths.max())
        starts = torch.tensor([view.start for view in w])

        def taken(name: str, parts: Iterable[Tensor | None], frames: int) -> Tensor:
            """Windows of a field that are `frames` longer than their chunks."""
            found = self.slots.windows(name, starts, lengths + frames, size + frames, device) if self.slots is not None else None
            return _stack([part for part in parts if part is not None], size + frames, device) if found is None else found

        return Batch(
            rgb_BThw3=taken("rgb", (view.rgb for view in w), 1) if not encoded else None,
            latents_BTvrcC=taken("latents", (view.latents for view in w), 1) if encoded else None,
            proprio_BTA=taken("proprio", (view.proprio for view in w), 1),
            actions_BTKA=taken("action", (view.action for view in w), 0),
            action_mask_BA=_stack([view.action_mask for view in w], ACTION_DIM, device).bool(),
            segment_BT=_stack([view.segment for view in w], size, device),
            valid_BT=(torch.arange(size)[None] < lengths[:, None]).to(device),
            instructions=tuple(view.instruction for view in w),
            trajectory_ids=tuple(view.trajectory_id for view in w),
            starts=tuple(view.start for view in w),
            opening=_stack([view.opening for view in w], 1, device) if opening else None,
            depth=taken(self.depth_field, (view.depth for view in w), 1) if depth else None,
        )

    def release(self) -> None:
        """Gives the trajectories back to the ring, once they are gathered; safe to call twice."""
        self.lease.release()


Record = Callable[["LeasedBatch", Sequence[int], int], None]
"""Told of every acquisition: the batch, the number of state-action pairs that each of its trajectories has given the learner so
far (each pair counted once), and the number of the lease."""
Inspect = Callable[[TrajectoryView], None]
"""Shown every trajectory of a lease before it is used: self-verifying runs check the content here."""


class RingDataset(IterableDataset[LeasedBatch]):
    """An endless stream of leased batches, for `DataLoader(batch_size=None, num_workers=0)`; owned by one thread.

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
        super().__init__()
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

    def __len__(self) -> int:
        """Endless; a length keeps Lightning from fetching one batch ahead."""
        return _ENDLESS

    def __iter__(self) -> Iterator[LeasedBatch]:
        """Leases and yields; the receiver releases. Ends when the source is exhausted and read empty."""
        while True:
            try:
                yield self.draw()
            except StreamEnded:
                return

    def draw(self) -> LeasedBatch:
        """Leases one batch and picks a window of each trajectory.

        Raises StreamEnded when the source is exhausted and read empty, RingTimeout or RingClosed from the source.
        """
        began = time.monotonic()
        lease = self._acquire(began)
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
                self._record(batch, self._coverage.take(windows), self.leases)
        except BaseException:
            lease.release()
            raise
        return batch

    def _acquire(self, began: float) -> Lease:
        config = self.config
        if self._ranks is not None:
            return self._acquire_together(self._ranks, began)
        if self._on_starved is None:
            return self._source.acquire(config.batch_size, config.timeout_s, rng=self._rng)
        while True:
            state = self._rng.bit_generator.state
            ended = self._exhausted is not None and self._exhausted()  # asked first: what was published before is then seen
            try:
                return self._source.acquire(config.batch_size, 0.0 if ended else self._poll_s, rng=self._rng, partial=ended)
            except RingTimeout as error:
                if ended:
                    raise StreamEnded(f"the stream has ended after {self.leases} batches") from error
                self._rng.bit_generator.state = state  # a failed try draws nothing: the stream stays a function of the seed
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


def _stack(parts: list[Tensor], length: int, device: torch.device | str) -> Tensor:
    """Parts [<= length, ...] into one new tensor [B, length, ...] on `device`, zero beyond each part's end."""
    out = torch.empty((len(parts), length, *parts[0].shape[1:]), dtype=parts[0].dtype, device=device)
    for row, part in zip(out, parts, strict=True):
        row[: part.shape[0]].copy_(part)
        row[part.shape[0] :] = 0
    return out


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
