"""Decides the number of workers of an elastic engine, from which side of the ring waits."""

from __future__ import annotations

import time

from embodichain.ray_engine.elastic import Elastic, decide
from embodichain.ring.contract import AnyRing
from embodichain.ring.stats import Observer
from embodichain.ring.waiting import Waiting

_LOOK_S = 1.0


class Breath:
    """Decides at intervals. For the engine's thread; `unique_pairs` may be set by any thread."""

    def __init__(self, ring: AnyRing, config: Elastic) -> None:
        self.unique_pairs: float | None = None
        """The recent E, if the learner has reported it."""
        self._observer = Observer.open(ring.path)
        self._config = config
        self._look_at = time.monotonic()
        self._since: tuple[float, float, float, int] | None = None
        """Start of the current interval, blocked time of both sides by then [s], and the number of calls in it."""
        self._working = 0

    def size(self, size: int, ready: int) -> int:
        """The wanted number of workers, given that there are `size` places, `ready` of which have a working worker."""
        now = time.monotonic()
        if now < self._look_at:
            return size
        self._look_at = now + _LOOK_S
        stats = self._observer.stats()
        self._working += ready
        if self._since is None:
            if stats.acquired:  # before the first read, waiting times say nothing
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
