"""What a person watches while a run works: one bar for each phase on a terminal, one line for each finished phase elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
