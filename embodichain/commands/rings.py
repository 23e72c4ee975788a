"""`embodichain ring` and `embodichain ledger`: watch a running job's ring, and prove a finished run's bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from embodichain.command_line import Parser, existing, positive
from embodichain.errors import ConfigError, unknown
from embodichain.lines import strict_json
from embodichain.types import LEDGER_FILE

if TYPE_CHECKING:
    from embodichain.ring.proof import LedgerReport


def ring(arguments: list[str]) -> int:
    """`embodichain ring top PATH`."""
    parser = Parser("ring", "Look at a ring of a running job without disturbing it.")
    look = parser.subcommands().add_parser("top", help="slots, rates and who waits, live; once with --json")
    look.add_argument("path", type=existing, nargs="?", help="the ring's file; by default the only one on this machine")
    look.add_argument("--json", action="store_true", help="print one look as one JSON object")
    options = parser.parse(arguments)

    path = options.path
    if path is None:
        from embodichain.ring.host import rings

        found = rings()
        if len(found) != 1:
            listing = ", ".join(map(str, found)) or "none"
            raise ConfigError(f"say which ring to watch; on this machine: {listing}")
        path = found[0]
    if options.json:
        from embodichain.ring.stats import Observer

        print(strict_json(asdict(Observer.open(path).stats())))
        return 0
    from embodichain.ring.top import top

    top(path)
    return 0


def ledger(arguments: list[str]) -> int:
    """`embodichain ledger verify RUN`."""
    parser = Parser("ledger", "Prove a run's replay bound from its ledger.")
    check = parser.subcommands().add_parser("verify", help="0 when no trajectory was read too often, 1 when one was")
    check.add_argument("run", type=existing, help="a run folder, or a ledger file")
    check.add_argument("--max-reads", type=positive, help="the bound; by default what the ledger states")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    path = options.run / LEDGER_FILE if options.run.is_dir() else options.run
    if not path.exists():
        raise unknown("ledger", str(path), sorted(str(p) for p in Path("runs").glob(f"*/{LEDGER_FILE}")), "give a run folder")
    from embodichain.ring.proof import ledgers, verify

    first, *others = ledgers(options.run) if options.run.is_dir() else (path,)
    report = verify(first, options.max_reads, beside=others)
    if options.json:
        print(strict_json({**asdict(report), "path": str(path), "holds": report.holds, "faults": report.faults}))
    else:
        for line in _told(report):
            print(line)
    return 0 if report.holds else 1


def _told(report: LedgerReport) -> Iterator[str]:
    """The result of verifying a ledger, as lines of text."""
    yield f"{report.trajectories} trajectories, {report.reads} reads, bound K = {report.max_reads or 'none (aggregate mode)'}"
    if report.lives > 1:
        yield f"{report.lives} lives; {report.undone} reads were undone by going on from a checkpoint before them"
    if report.given_up:
        lost = sum(report.given_up.values())
        yield f"given up with the ring of an earlier life: {lost} reads of {len(report.given_up)} trajectories"
    yield f"E = {report.unique_pairs_per_iteration:.1f} unique state-action pairs per iteration"
    yield f"age at read: median {report.age_p50_s:.1f} s, p99 {report.age_p99_s:.1f} s"
    yield from report.faults
    if not report.reads:
        return
    if report.max_reads == 0 and report.holds:
        most = max(report.reads_histogram, default=0)
        yield f"no single trajectory was bounded, so there is no bound to hold; the most read one was read {most} times"
    else:
        yield "the bound holds" if report.holds else "THE BOUND IS NOT PROVEN" if not report.violations else "THE BOUND WAS BROKEN"
