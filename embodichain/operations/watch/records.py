"""Reads the metrics records of a run incrementally, so that a page that is open for days reads each line only once."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from embodichain.metrics import undoes

_MOST = 2048
"""Most records kept of a kind; beyond that, every second one is dropped, and only every second new one is kept."""


class Records:
    """Follows a `metrics.jsonl`. For one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._at = 0
        self._rest = b""
        self._kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._every: dict[str, int] = defaultdict(lambda: 1)
        self._seen: dict[str, int] = defaultdict(int)
        self._last: dict[str, dict[str, Any]] = {}

    def read_on(self) -> None:
        """Reads new records; if there is another file, or it has become shorter, starts again from its beginning."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file or status.st_size < self._at:
                    self.__init__(self._path)
                file.seek(self._at)
                data = self._rest + file.read(status.st_size - self._at)
        except FileNotFoundError:
            return
        self._file, self._at = status.st_ino, status.st_size
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # torn by a crash
            if isinstance(record, dict) and "kind" in record:  # of a value that is no number there is nothing to show
                known = {name: value for name, value in record.items() if not isinstance(value, float) or math.isfinite(value)}
                self._take(str(record["kind"]), known)

    def _take(self, kind: str, record: dict[str, Any]) -> None:
        if undoes(record, self._last.get(kind, {})):
            step = record.get("step", 0)
            self._kept[kind] = [kept for kept in self._kept[kind] if kept.get("step", -1) < step]
        self._last[kind] = record
        if self._seen[kind] % self._every[kind] == 0:
            self._kept[kind].append(record)
        self._seen[kind] += 1
        if len(self._kept[kind]) >= _MOST:
            del self._kept[kind][1::2]
            self._every[kind] *= 2

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Records of a kind, from the beginning; evenly thinned if there are many, always including the last."""
        kept, last = self._kept[kind], self._last.get(kind)
        return kept if last is None or (kept and kept[-1] is last) else [*kept, last]

    def last(self, kind: str) -> dict[str, Any]:
        """The latest record of a kind; empty if there is none."""
        return self._last.get(kind, {})
