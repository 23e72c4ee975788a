"""Nodes that are about to be taken away: whoever lends a machine says so some time before, and Ray then drains it."""

from __future__ import annotations

import time
from contextlib import suppress

import ray
from ray._private.state import state

_EVERY_S = 1.0
"""How often Ray is asked: a spot machine is announced some thirty seconds ahead or more."""


class Notices:
    """Which nodes are being drained (`ray drain-node`, an autoscaler's or a spot machine's notice). Owned by one thread."""

    def __init__(self) -> None:
        self._nodes: frozenset[str] = frozenset()
        self._ask_at = 0.0

    @property
    def nodes(self) -> frozenset[str]:
        """Their ids, as they were a second ago at most. What Ray cannot say now is as it was."""
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + _EVERY_S
            # When the head is away for a moment workers go on, and the next second tells.
            with suppress(ray.exceptions.RayError, RuntimeError, ConnectionError):
                self._nodes = frozenset(state.get_draining_nodes())
        return self._nodes
