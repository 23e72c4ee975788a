"""The way of a trajectory from a worker on another node to the gateway beside the ring."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from numpy.typing import NDArray

from embodichain.errors import RingError, RingTimeout
from embodichain.types import TrajectoryId

_TELL_S = 1.0
"""How often a worker that waits for the gateway says that it lives [s]."""


class Courier:
    """Sends trajectories to a `GatewayActor` through Ray's object store, one at a time; a `gateway.Deliver`."""

    def __init__(self, gateway: ray.actor.ActorHandle, waited: Callable[[], object] = lambda: None) -> None:
        """`waited` is called now and then while a trajectory waits: to wait is to live."""
        self._gateway, self._waited = gateway, waited

    def __call__(self, arrays: Mapping[str, NDArray], identity: TrajectoryId, timeout_s: float) -> bool:
        """Retries while the ring is full or the gateway is being replaced, at most `timeout_s` [s].

        Raises RingError when the gateway does not come back, and the errors of `Gateway.deliver`.
        """
        parcel = ray.put(dict(arrays))
        deadline = time.monotonic() + timeout_s
        asked: Any = None
        while True:
            self._waited()
            if asked is None:
                # Short turns: the gateway serves few workers at a time.
                asked = self._gateway.deliver.remote(parcel, identity.pack(), 1.0)
            if not ray.wait([asked], timeout=_TELL_S)[0]:
                continue  # whether the gateway lives is for the engine to find out, which replaces it
            answered, asked = asked, None
            try:
                return ray.get(answered)
            except RingTimeout:
                if time.monotonic() > deadline:
                    raise
            except ray.exceptions.RayActorError as error:
                if time.monotonic() > deadline or getattr(error, "actor_init_failed", False):
                    raise RingError(f"the gateway to the ring has not come back: {error}") from error
                time.sleep(0.1)
