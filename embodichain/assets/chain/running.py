"""Reports the progress of a batch: a report that is complete at every moment, and a line of JSON for every change of state."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from embodichain.assets.chain.batch import JobOutcome
from embodichain.assets.chain.publish import REPORT, report_of, whole

PROGRESS = "progress.jsonl"


class RunningReport:
    """A listener of a batch: keeps `report.json` and `progress.jsonl` in its folder up to date, so that a kill loses nothing."""

    def __init__(self, out_dir: Path, skipped: Mapping[Path, str]) -> None:
        self.out_dir, self.skipped = out_dir, skipped
        self._outcomes: dict[str, JobOutcome] = {}
        out_dir.mkdir(parents=True, exist_ok=True)
        self._lines = (out_dir / PROGRESS).open("a", encoding="utf-8")

    def __call__(self, outcome: JobOutcome) -> None:
        """Writes one line for a change of state, and the whole report when an asset is finished."""
        line = {"time": round(time.time(), 3), "name": outcome.name, "state": outcome.state, "stage": outcome.stage}
        if outcome.reason:
            line["reason"] = outcome.reason
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        self._outcomes[outcome.name] = outcome
        if outcome.state in ("built", "kept", "failed"):
            os.fsync(self._lines.fileno())
            whole(self.out_dir / REPORT, report_of(tuple(self._outcomes.values()), self.skipped))

    def close(self) -> None:
        """Closes `progress.jsonl`."""
        self._lines.close()
