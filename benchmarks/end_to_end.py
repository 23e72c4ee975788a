"""How fast is the whole pipeline? One real run (workers, ring, learner) in its own process tree, measured by its own counters.

    python benchmarks/end_to_end.py [--quick] [--json] [--workers N] [--max-reads K]

The figures count only if the run's own checks pass: a violated bound on reads or a failed run ends the benchmark with an error.
Assets and the reachability table are prepared before the measurement.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness

ASSETS = {"switch": 1, "mouse": 1, "pad": 2}
KEYS = (
    "trajectories_per_s",
    "samples_per_s",
    "learner_wait_share",
    "unique_pairs_per_iteration",
    "peak_memory_gib",
    "bound_violations",
    "published",
    "reads",
    "steps",
    "max_reads",
    "recovered",
    "num_parameters",
    "wall_s",
)


def run_once(*, steps: int, workers: int, max_reads: int) -> dict[str, Any]:
    """Runs `embodichain run` once without evaluation and returns its summary."""
    with tempfile.TemporaryDirectory() as folder:
        counts = [text for name, count in ASSETS.items() for text in (f"--world.assets.counts.{name}", str(count))]
        empty = [text for name in ("mug", "bowl", "block", "bottle") for text in (f"--world.assets.counts.{name}", "0")]
        command = [sys.executable, "-m", "embodichain.cli", "run", "tiny_cpu", "--json", "--out", str(Path(folder) / "run")]
        command += ["--steps", str(steps), "--workers", str(workers), "--max-reads", str(max_reads), "--episodes", "0"]
        result = subprocess.run([*command, *counts, *empty], stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"the run ended with status {result.returncode}: {result.stdout.strip()}")
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["bound_violations"] == 0, "the bound was broken: no figure counts"
    assert summary["steps"] == steps, f"the run ended at step {summary['steps']} of {steps}"
    return summary


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "a short run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-reads", type=int, default=50)
    options = parser.parse_args()
    summary = run_once(steps=20 if options.quick else 400, workers=options.workers, max_reads=options.max_reads)
    result = {key: round(summary[key], 4) for key in KEYS}
    harness.give(result, options)


if __name__ == "__main__":
    main()
