"""Requests to a running run through a file in its folder, such as another replay bound K. Only the run itself changes its ring."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

from embodichain.errors import RingError
from embodichain.metrics import MetricsWriter
from embodichain.ring.contract import AnyRing
from embodichain.ring.ledger import Ledger
from embodichain.types import WISHES_FILE, ReplayMode
from learner.records.run_folder import RunFolder

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 4096
"""Longest file of requests."""


class Wishes:
    """Reads the file of requests. For the thread that owns the ring."""

    def __init__(self, folder: RunFolder, ring: AnyRing, ledger: Ledger, metrics: MetricsWriter) -> None:
        self._path = folder.path / WISHES_FILE
        self._ring, self._ledger, self._metrics = ring, ledger, metrics
        self._seen = (0, 0)

    def look(self, step: int) -> None:
        """Carries out requests made since the last call; requests that fail are logged and written into the metrics.

        Nothing that lies at the path of the requests ends a run.
        """
        try:
            status = self._path.lstat()
        except OSError:
            return
        at = (status.st_ino, status.st_mtime_ns)
        if at == self._seen:
            return
        self._seen = at
        try:
            wanted = _read(self._path)
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
        except (RingError, OSError, ValueError) as error:
            _LOG.warning("what %s asks for cannot be: %s", self._path, error)
            self._metrics.write("wish", {"step": step, "refused": str(error)})
            return
        self._metrics.write("wish", {"step": step, "max_reads": wanted})


def _read(path: Path) -> int:
    """The bound K that a file of requests asks for; raises OSError or ValueError for anything else that may lie there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no file")
        text = os.read(descriptor, _MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(text) > _MOST_BYTES:
        raise ValueError(f"it is longer than {_MOST_BYTES} bytes")
    try:
        asked = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    wanted = asked.get("max_reads") if isinstance(asked, dict) else None
    if type(wanted) is not int:
        raise ValueError(f'it takes {{"max_reads": K}} with a whole number, got {asked!r:.80}')
    return wanted
