"""Requests to a running run through a file in its folder, such as another replay bound K. Only the run itself changes its ring."""

from __future__ import annotations

import json
import logging

from embodichain.errors import RingError
from embodichain.metrics import MetricsWriter
from embodichain.ring.contract import AnyRing
from embodichain.ring.ledger import Ledger
from embodichain.types import WISHES_FILE, ReplayMode
from learner.records.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


class Wishes:
    """Reads the file of requests. For the thread that owns the ring."""

    def __init__(self, folder: RunFolder, ring: AnyRing, ledger: Ledger, metrics: MetricsWriter) -> None:
        self._path = folder.path / WISHES_FILE
        self._ring, self._ledger, self._metrics = ring, ledger, metrics
        self._seen = 0

    def look(self, step: int) -> None:
        """Carries out requests made since the last call; requests that fail are logged and written into the metrics."""
        try:
            at = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if at == self._seen:
            return
        self._seen = at
        try:
            wanted = int(json.loads(self._path.read_text(encoding="utf-8"))["max_reads"])
            if self._ring.spec.mode is not ReplayMode.TRAJECTORY:
                raise RingError("ring.mode aggregate bounds no single trajectory")
            if wanted == self._ring.stats().max_reads:
                return
            try:
                self._ring.set_max_reads(wanted)
            finally:  # it may be in force though some slot could not be told in time
                if self._ring.stats().max_reads == wanted:
                    self._ledger.bound(wanted)
                    self._ledger.flush()
        except (RingError, KeyError, TypeError, ValueError) as error:
            _LOG.warning("what %s asks for cannot be: %s", self._path, error)
            self._metrics.write("wish", {"step": step, "refused": str(error)})
            return
        self._metrics.write("wish", {"step": step, "max_reads": wanted})
