"""Metrics of a run as they arise: one JSON object a line, and the memory of the whole process tree."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from embodichain.lines import append_line, json_lines, open_lines

__all__ = [
    "MetricsWriter",
    "PeakMemory",
    "latest",
    "read_metrics",
    "tree_memory_bytes",
    "undoes",
    "without_undone",
]


class MetricsWriter:
    """Appends records to `metrics.jsonl`, each whole or not at all, so a killed run keeps all earlier records. Thread-safe."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Raises RunError when the file cannot be written."""
        self._path = path
        self._descriptor: int | None = open_lines(path, "choose another folder")
        self._clock = clock
        self._lock = threading.Lock()

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Writes one record: its kind ("train", "stream", "evaluate" ...), time and values; raises RunError on a full disk."""
        line = json.dumps({"kind": kind, "time": round(self._clock(), 3), **values}, default=float)
        with self._lock:
            if self._descriptor is None:
                raise ValueError(f"{self._path} is closed")
            append_line(self._descriptor, line, self._path, "free some space and go on with --resume")

    def close(self) -> None:
        """Closes the file; safe to call twice. Errors of a full disk were already raised by `write`."""
        with self._lock, contextlib.suppress(OSError):
            if self._descriptor is not None:
                descriptor, self._descriptor = self._descriptor, None
                os.close(descriptor)


def read_metrics(path: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """All complete records, or those of one kind; torn lines are ignored."""
    records = [record for record in json_lines(path) if "kind" in record]
    return records if kind is None else [record for record in records if record["kind"] == kind]


def undoes(record: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a record shows that a resume went back to a checkpoint: the steps from its own on were undone and are made again.

    Of the stream there may be several records at one step.
    """
    step, last = record.get("step", 0), before.get("step", -1)
    return step < last or (step == last and record.get("kind") != "stream")


def without_undone(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of one kind, in order, without those of steps that a resume undid: each step counts once."""
    kept: list[dict[str, Any]] = []
    for record in records:
        if kept and undoes(record, kept[-1]):
            while kept and kept[-1].get("step", -1) >= record.get("step", 0):
                kept.pop()
        kept.append(record)
    return kept


_TAIL = 1 << 16
"""Number of bytes at the end of a file that `latest` reads."""


def latest(path: Path, kind: str) -> dict[str, Any] | None:
    """The last record of a kind, read from the end of the file only, which is fast in long runs. None when there is none there."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the first line may be cut, the last may be torn
        if isinstance(record, dict) and record.get("kind") == kind:
            return record
    return None


def tree_memory_bytes() -> int:
    """Proportional set size of this process and all its descendants: shared pages are counted once."""
    me = psutil.Process()
    total = 0
    for process in [me, *me.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue  # it has ended meanwhile, and its memory is free
    return total


class PeakMemory:
    """Samples `tree_memory_bytes` in a thread; `.bytes` is the highest value.

    A sample walks the page tables of every process, which takes 0.1 s of a processor for a run with Ray. So it samples every
    `period_s`, or less often, so that sampling takes at most `share` of the time.
    """

    def __init__(self, period_s: float = 2.0, share: float = 0.01) -> None:
        self.bytes = 0
        self._period_s = period_s
        self._share = share
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def _watch(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self.bytes = max(self.bytes, tree_memory_bytes())
            self._stop.wait(max(self._period_s, (time.monotonic() - began) / self._share))

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self.bytes = max(self.bytes, tree_memory_bytes())
