"""What a person watches while work goes on: bars on a terminal, a line for each thing that is finished elsewhere."""

from __future__ import annotations

import time
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

__all__ = ["Board", "JobBoard"]


class Board:
    """Progress bars on standard error, so that standard output stays for results. A context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._phases: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def update(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Shows that `phase` has done `done` of `total`; a phase appears at its first update."""
        if phase not in self._phases:
            self._phases[phase] = self._progress.add_task(phase, total=total, note=note)
            self._started[phase] = time.monotonic()
        task = self._progress.tasks[self._phases[phase]]
        finished_before = task.finished
        self._progress.update(task.id, completed=done, total=total, note=note)
        if done >= total and not finished_before and not self._console.is_terminal:
            self._console.print(f"{phase}: {total} in {time.monotonic() - self._started[phase]:.1f} s {note}", highlight=False)

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._progress.console.print(text, highlight=False)

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()


class JobBoard:
    """Bars on standard error for many jobs: all of them, and each that is under way with its stage; plain lines elsewhere."""

    def __init__(self, what: str, total: int, *, quiet: bool) -> None:
        console = Console(stderr=True, quiet=quiet)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
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
        """The job called `name` is at a stage."""
        if name not in self._each:
            self._each[name] = self._bars.add_task(name, total=None)
        self._bars.update(self._each[name], description=f"  {name}: {stage}")

    def ended(self, name: str, state: str, reason: str = "") -> None:
        """The job called `name` is over."""
        if name in self._each:
            self._bars.remove_task(self._each.pop(name))
        self._done += 1
        self._bars.update(self._all, completed=self._done)
        if not self._console.is_terminal:
            told = f"[{self._done}/{self._total}] {name} {state}" + (f": {reason}" if reason else "")
            self._console.print(told, highlight=False, markup=False, soft_wrap=True)
