"""A ring's substitute on a node without one: private arrays that are sent to the ring's gateway."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from embodichain.errors import RingError
from embodichain.ring.gateway import DeliveryResult, Parcel, names
from embodichain.ring.lease import Slot
from embodichain.ring.unique import Unique
from embodichain.types import MOST_TOGETHER, TrajectoryId, TrajectorySpec

PATIENCE_S = 900.0
"""How long a worker waits with a trajectory while the ring is full or the gateway is being replaced [s]; the learner may pause."""

Deliver = Callable[[Sequence[Parcel], float], list[DeliveryResult]]
"""Sends a batch to the gateway and waits until every outcome is known, or for a timeout [s]; see `Gateway.deliver_all`."""


class _Claim:
    """What lives as long as the slot that it was given to."""


class RemoteRing(Unique):
    """A substitute for the ring on a node without one. For one thread, with one slot at a time.

    Args:
        trajectory: The ring's schema, with a scalar `trajectory_id`.
        deliver: Sends trajectories to the gateway.
        patience_s: How long sending may wait while the ring is full or the gateway is being replaced [s].
        together: How many published trajectories are kept here until `flush` sends them, at most. With 1 each is sent when it is
            published.
    """

    instead = "make another of the same schema"

    def __init__(self, trajectory: TrajectorySpec, deliver: Deliver, *, patience_s: float = PATIENCE_S, together: int = 1) -> None:
        if not any((field.name, field.shape, field.dtype) == ("trajectory_id", (), "uint64") for field in trajectory.fields):
            raise RingError(f"a gateway tells trajectories apart by a uint64 scalar trajectory_id; fields: {names(trajectory)}")
        if not 1 <= together <= MOST_TOGETHER:
            raise RingError(f"together must be 1 to {MOST_TOGETHER} trajectories, got {together}")
        self.trajectory = trajectory
        self._deliver = deliver
        self._patience_s = patience_s
        self._together = together
        self._free = [trajectory.allocate() for _ in range(together)]
        self._kept: list[Parcel] = []
        self._lent: weakref.ref[_Claim] | None = None
        """The claim of the slot that is open; one that was dropped has none."""

    def reserve(self, timeout_s: float = 5.0) -> Slot:
        """Private arrays for one trajectory, used like a slot of the ring.

        Never waits, whatever `timeout_s`: waiting for a free slot happens on sending. Raises RingError when as many as may be kept
        are kept.
        """
        if self._lent is not None and self._lent() is not None:
            raise RingError("the slot reserved before is still open: publish or abandon it first")
        if not self._free:
            raise RingError(f"{len(self._kept)} trajectories wait to be sent, as many as are kept here: call flush() first")
        claim, arrays = _Claim(), self._free[-1]
        self._lent = weakref.ref(claim)
        return Slot(self, 0, 0, arrays, arrays["trajectory_id"], claim)

    def flush(self) -> dict[TrajectoryId, RingError]:
        """Sends what was published since the last call; those that are not in the ring, each with the reason.

        Raises the errors of `Deliver`; the trajectories are then given up.
        """
        kept, self._kept = self._kept, []
        try:
            outcomes = self._deliver(kept, self._patience_s) if kept else []
        finally:
            self._free += [dict(parcel.arrays) for parcel in kept]
        return {parcel.identity: outcome for parcel, outcome in zip(kept, outcomes, strict=True) if isinstance(outcome, RingError)}

    def close(self) -> None:
        """Does nothing, as it holds nothing of the ring."""

    def publish(self, slot: int, version: int, trajectory_id: int | None) -> None:
        """Called by the slot: keeps its arrays, and sends them if no more are kept together; then raises what `deliver` would."""
        self._lent = None
        assert trajectory_id is not None
        self._kept.append(Parcel(self._free.pop(), TrajectoryId.unpack(trajectory_id)))
        if self._together == 1:
            for error in self.flush().values():
                raise error

    def abandon(self, slot: int, version: int) -> None:
        """Called by the slot: drops its arrays."""
        self._lent = None

    def check(self) -> None:
        """Called by the slot: never raises."""
