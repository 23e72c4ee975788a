"""`embodichain run`: streams experience from simulation into a learner, judges the policy and writes a report."""

from __future__ import annotations

import json
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from embodichain.ring.layout import RingLayout
from embodichain.types import ReplayMode
from embodichain.world import check_names
from learner.records.plain import as_plain
from learner.runs.options import parse
from learner.runs.recipes import RunConfig
from learner.runs.run import run


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for; 0 when all went well, 130 after Ctrl-C (the run can be resumed)."""
    options = parse(arguments)
    if options.dry_run:
        print(describe(options.config))
        return 0
    summary = run(options)
    print_summary(summary, as_json=options.json)
    return 130 if summary["interrupted"] else 0


def describe(config: RunConfig) -> str:
    """The resolved configuration and the memory its ring will take, as text."""
    robot, _ = check_names(config.world)
    spec = config.ring_spec(config.world.stream_spec(robot))
    needed = RingLayout.of(spec).total_bytes
    text = yaml.safe_dump(as_plain(config), sort_keys=False)
    return f"{text}\n# ring: {needed / 2**20:.0f} MiB of shared memory for {spec.num_slots} trajectories"


def _bound(summary: dict[str, Any]) -> str:
    if summary["replay_mode"] == ReplayMode.AGGREGATE:
        most = max(map(int, summary["reads_histogram"]), default=0)
        return f"none for a trajectory: refilled after K = {summary['max_reads']} reads a slot on average; most read {most} times"
    return f"K = {summary['max_reads']}, {summary['bound_violations']} violations in {summary['reads']} reads"


def print_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    """The end of a run for people, or one JSON object on the last line for programs."""
    if as_json:
        print(json.dumps(summary))
        return
    console = Console(highlight=False)
    figures = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("trajectories", f"{summary['published']} published, {summary['recovered']} of them with a recovery"),
        ("throughput", f"{summary['trajectories_per_s']:.2f} trajectories/s, {summary['samples_per_s']:.1f} samples/s"),
        ("E", f"{summary['unique_pairs_per_iteration']:.1f} unique state-action pairs per iteration"),
        ("replay bound", _bound(summary)),
        ("learner waited", f"{summary['learner_wait_share']:.1%} of its time"),
        ("peak memory", f"{summary['peak_memory_gib']:.2f} GiB"),
        ("wall time", f"{summary['wall_s']:.0f} s"),
    ):
        figures.add_row(name, value)
    console.print(figures)
    if summary["evaluation"]:
        table = Table("pilot", "task", "success", "95% interval", "progress", title="closed loop, held-out scenes")
        for row in summary["evaluation"]:
            interval = f"{row['low']:.0%} to {row['high']:.0%}"
            table.add_row(row["pilot"], row["task"], f"{row['successes']}/{row['episodes']}", interval, f"{row['progress']:.2f}")
        console.print(table)
    console.print(f"report: {summary['report']}")
