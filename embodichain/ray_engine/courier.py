"""The way of a trajectory from a worker on another node to the gateway beside the ring."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from embodichain.errors import RingError, RingTimeout
from embodichain.ring.gateway import DeliveryResult, Parcel

_TELL_S = 1.0
"""How often a worker that waits for the gateway says that it lives [s]."""


class Courier:
    """Sends batches of trajectories to a `GatewayActor` through Ray's object store; a `remote.Deliver`."""

    def __init__(self, gateway: ray.actor.ActorHandle, waited: Callable[[], object] = lambda: None) -> None:
        """`waited` is called now and then while a trajectory waits: to wait is to live."""
        self._gateway, self._waited = gateway, waited

    def __call__(self, parcels: Sequence[Parcel], timeout_s: float) -> list[DeliveryResult]:
        """The outcome of each, when all are known: waits while the ring is full, and `timeout_s` [s] for a gateway or its disk.

        Raises RingError when the gateway does not come back, and the errors of `Gateway.deliver_all`.
        """
        batch = ray.put([(dict(parcel.arrays), parcel.identity.pack()) for parcel in parcels])
        outcomes: list[DeliveryResult] = []
        deadline = time.monotonic() + timeout_s
        asked: Any = None
        while True:
            self._waited()
            if asked is None:
                # Short turns: the gateway serves few workers at a time.
                asked = self._gateway.deliver.remote(batch, 1.0)
            if not ray.wait([asked], timeout=_TELL_S)[0]:
                continue  # whether the gateway lives is for the engine to find out, which replaces it
            answered, asked = asked, None
            try:
                answer: list[DeliveryResult] = ray.get(answered)
            except RingError:  # the journal cannot be written, for a disk is full: nothing was published
                if time.monotonic() > deadline:
                    raise
                time.sleep(_TELL_S)
                continue
            except ray.exceptions.RayActorError as error:
                if time.monotonic() > deadline or getattr(error, "actor_init_failed", False):
                    raise RingError(f"the gateway to the ring has not come back: {error}") from error
                time.sleep(0.1)
                continue
            # What was published with the first answer is recognised with the second.
            outcomes = [
                new if not outcomes or isinstance(old, RingTimeout) else old
                for old, new in zip(outcomes or answer, answer, strict=True)
            ]
            if not any(isinstance(outcome, RingTimeout) for outcome in outcomes):
                return outcomes
            deadline = time.monotonic() + timeout_s
