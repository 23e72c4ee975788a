"""Progress display: bars on a terminal; elsewhere a line for each finished phase, and a heartbeat.

With EMBODICHAIN_LOG=json in the environment, lines are JSON objects, for log collectors.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Board", "JobBoard", "log_as_json"]

_HEARTBEAT_S = 30.0
"""Longest time without a line in a phase [s], when there is no terminal."""
_FORMAT = "EMBODICHAIN_LOG"


def _wants_json() -> bool:
    """Whether the environment asks for JSON lines."""
    return os.environ.get(_FORMAT) == "json"


def log_as_json() -> None:
    """Makes every logger of this process write JSON lines on standard error, if the environment asks for them."""
    if _wants_json():
        handler = logging.StreamHandler()  # standard error
        handler.setFormatter(_JsonLines())
        logging.basicConfig(handlers=[handler], level=logging.INFO)


class _JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger and message."""
        told = {"time": round(record.created, 3), "level": record.levelname.lower(), "from": record.name}
        told["message"] = record.getMessage()
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told)


class Board:
    """Progress bars on standard error, so that standard output stays free for results. A context manager."""

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._json = _wants_json()
        self._console = Console(stderr=True, quiet=quiet, force_terminal=False if self._json else None)
        self._clock = clock
        self._told: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description:<22}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._phases: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def update(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Sets the progress of `phase` to `done` of `total`; a phase appears at its first update."""
        if phase not in self._phases:
            self._phases[phase] = self._progress.add_task(phase, total=total, note=note)
            self._started[phase] = self._told[phase] = self._clock()
        task = self._progress.tasks[self._phases[phase]]
        finished_before = task.finished
        self._progress.update(task.id, completed=done, total=total, note=note)
        if self._console.is_terminal:
            return
        now, elapsed_s = self._clock(), self._clock() - self._started[phase]
        over = done >= total and not finished_before
        if over or (done < total and now - self._told[phase] >= _HEARTBEAT_S):
            self._told[phase] = now
            text = (
                f"{phase}: {total} in {elapsed_s:.1f} s {note}"
                if over
                else f"{phase}: {done} of {total} after {elapsed_s:.0f} s {note}"
            )
            self._line(text, phase=phase, done=done, total=total, elapsed_s=round(elapsed_s, 1), note=note)

    def say(self, text: str) -> None:
        """Prints one line above the bars."""
        self._line(text, message=text)

    def _line(self, text: str, **values: str | float) -> None:
        """Prints a line for people, or its values as JSON."""
        if self._json:
            self._console.print(
                json.dumps({"time": round(time.time(), 3), **values}), highlight=False, markup=False, soft_wrap=True
            )
        else:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()


class JobBoard:
    """Bars on standard error for many jobs: one for all, and one for each job in progress with its stage. Plain lines elsewhere."""

    def __init__(self, what: str, total: int, *, quiet: bool, tells_beginnings: bool = False) -> None:
        """`tells_beginnings` is for jobs of minutes: without a terminal they get a line when they begin, not only when they end."""
        self._tells_beginnings = tells_beginnings
        console = Console(stderr=True, quiet=quiet)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._console = console
        self._all = self._bars.add_task(what, total=total)
        self._each: dict[str, TaskID] = {}
        self._done = 0
        self._total = total

    def __enter__(self) -> JobBoard:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def working(self, name: str, stage: str) -> None:
        """Reports the stage of the job called `name`; without a terminal, that of a job which begins."""
        if name not in self._each:
            self._each[name] = self._bars.add_task(name, total=None)
            if self._tells_beginnings and not self._console.is_terminal:
                self._console.print(f"[{self._done}/{self._total}] {name} {stage}", highlight=False, markup=False, soft_wrap=True)
        self._bars.update(self._each[name], description=f"  {name}: {stage}")

    def ended(self, name: str, state: str, reason: str = "") -> None:
        """Reports the end of the job called `name`."""
        if name in self._each:
            self._bars.remove_task(self._each.pop(name))
        self._done += 1
        self._bars.update(self._all, completed=self._done)
        if not self._console.is_terminal:
            told = f"[{self._done}/{self._total}] {name} {state}" + (f": {reason}" if reason else "")
            self._console.print(told, highlight=False, markup=False, soft_wrap=True)
