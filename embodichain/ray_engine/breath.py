"""Watches who waits at a ring, and says how many workers there should be."""

from __future__ import annotations

import time

from embodichain.ray_engine.elastic import Elastic, decide
from embodichain.ring.contract import AnyRing
from embodichain.ring.stats import Observer
from embodichain.ring.waiting import Waiting

_LOOK_S = 1.0


class Breath:
    """Owned by the engine's thread; `unique_pairs` may be set by any."""

    def __init__(self, ring: AnyRing, config: Elastic) -> None:
        self.unique_pairs: float | None = None
        """E of late, if the learner told."""
        self._observer = Observer.open(ring.path)
        self._config = config
        self._look_at = time.monotonic()
        self._since: tuple[float, float, float, int] | None = None
        """When the stretch began, the blocked seconds of both sides by then, and the steps of looking in it."""
        self._working = 0

    def size(self, size: int, ready: int) -> int:
        """How many workers to have, of `size` places of which `ready` have somebody at work."""
        now = time.monotonic()
        if now < self._look_at:
            return size
        self._look_at = now + _LOOK_S
        stats = self._observer.stats()
        self._working += ready
        if self._since is None:
            if stats.acquired:  # before the first read nobody knows who will wait
                self._since, self._working = (now, stats.blocked_writer_s, stats.blocked_reader_s, 0), 0
            return size
        began, writers_s, readers_s, looks = self._since
        self._since = (began, writers_s, readers_s, looks + 1)
        if now < began + self._config.every_s:
            return size
        waiting = Waiting.over(
            now - began,
            blocked_writer_s=stats.blocked_writer_s - writers_s,
            blocked_reader_s=stats.blocked_reader_s - readers_s,
            writers=max(1, round(self._working / max(1, looks + 1))),
        )
        self._since, self._working = (now, stats.blocked_writer_s, stats.blocked_reader_s, 0), 0
        return decide(self._config, size, waiting, self.unique_pairs)
