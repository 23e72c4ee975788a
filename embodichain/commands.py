"""The engine's smaller commands: list, reach, ring, ledger. Each imports its room only when it is called."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from embodichain.errors import ConfigError, unknown


def list_names(arguments: list[str]) -> int:
    """`embodichain list`: every name that other commands accept."""
    parser = argparse.ArgumentParser(prog="embodichain list", description=list_names.__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    from embodichain.assets import source
    from embodichain.physics import PHYSICS
    from embodichain.robots import ROBOTS
    from embodichain.tasks import TASKS

    names = {"tasks": list(TASKS), "robots": list(ROBOTS), "physics": list(PHYSICS), "asset categories": list(source.categories())}
    if options.json:
        print(json.dumps(names))
    else:
        for kind, values in names.items():
            print(f"{kind + ':':<18}{', '.join(values)}")
        print("recipes:          see `embodichain run --help`; a robot may also be the path of an MJCF file")
    return 0


def reach(arguments: list[str]) -> int:
    """`embodichain reach ROBOT`."""
    parser = argparse.ArgumentParser(prog="embodichain reach", description="Build a robot's reachability table and draw it.")
    parser.add_argument("robot", help="a name from `embodichain list`, or the path of an MJCF file")
    parser.add_argument("-o", "--out", type=Path, default=Path("reach.png"), help="picture to write (default reach.png)")
    options = parser.parse_args(arguments)
    from rich.progress import Progress

    from embodichain import robots
    from embodichain.scenes.reach import ReachTable
    from embodichain.stages import cache_dir

    robot = robots.get(options.robot)
    with Progress(transient=True) as bars:
        bar = bars.add_task(f"reach of {robot.name}", total=None)
        table = ReachTable.load_or_build(
            robot, cache_dir=cache_dir(), progress=lambda done, total: bars.update(bar, completed=done, total=total)
        )
    table.draw(options.out)
    print(f"{robot.name}: {table.fraction():.1%} of the sampled poses above the table are reachable; picture: {options.out}")
    return 0


def ring(arguments: list[str]) -> int:
    """`embodichain ring top PATH`."""
    parser = argparse.ArgumentParser(prog="embodichain ring", description="Look at a ring of a running job without disturbing it.")
    parser.add_argument("command", choices=["top"])
    parser.add_argument("path", type=Path, nargs="?", help="the ring's file; by default the only one on this machine")
    options = parser.parse_args(arguments)
    from embodichain.ring.top import top

    path = options.path
    if path is None:
        found = sorted(Path("/dev/shm").glob("embodichain-*"))
        if len(found) != 1:
            listing = ", ".join(map(str, found)) or "none"
            raise ConfigError(f"say which ring to watch; on this machine: {listing}")
        path = found[0]
    top(path)
    return 0


def ledger(arguments: list[str]) -> int:
    """`embodichain ledger verify RUN`."""
    parser = argparse.ArgumentParser(prog="embodichain ledger", description="Prove a run's replay bound from its ledger.")
    parser.add_argument("command", choices=["verify"])
    parser.add_argument("run", type=Path, help="a run folder, or a ledger file")
    parser.add_argument("--max-reads", type=int, help="the bound; by default what the ledger states")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    from embodichain.ring.ledger import verify

    path = options.run / "ledger.bin" if options.run.is_dir() else options.run
    if not path.exists():
        raise unknown("ledger", str(path), sorted(str(p) for p in Path("runs").glob("*/ledger.bin")), "give a run folder")
    report = verify(path, options.max_reads)
    holds = not (report.violations or report.duplicates or report.damaged)
    if options.json:
        print(json.dumps({**asdict(report), "path": str(path), "holds": holds}, default=str))
    else:
        print(f"{report.trajectories} trajectories, {report.reads} reads, bound K = {report.max_reads or 'none (aggregate mode)'}")
        print(
            f"read too often: {len(report.violations)}; draws claimed twice: {report.duplicates}; damaged records: {report.damaged}"
        )
        print(f"E = {report.unique_pairs_per_iteration:.1f} unique state-action pairs per iteration")
        print(f"age at read: median {report.age_p50_s:.1f} s, p99 {report.age_p99_s:.1f} s")
        if report.max_reads == 0 and holds:
            most = max(report.reads_histogram, default=0)
            print(f"no single trajectory was bounded, so there is no bound to hold; the most read one was read {most} times")
        else:
            print("the bound holds" if holds else "THE BOUND WAS BROKEN")
    return 0 if holds else 1
