"""`embodichain doctor`, `plan`, `watch`, `chaos`: check a machine, predict a run, show a run, and inject faults into one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser, existing, natural
from embodichain.errors import ConfigError, UsageError, unknown
from embodichain.lines import strict_json

if TYPE_CHECKING:
    from embodichain.operations.chaos import StormReport
    from embodichain.operations.siege import Siege


def doctor(arguments: list[str]) -> int:
    """`embodichain doctor [--address HOST:PORT]`; returns 1 when a check is bad."""
    parser = Parser("doctor", "Look at this machine, and at a cluster, before a run does.")
    parser.add_argument("--address", default="", help="of a running Ray cluster, host:port or auto")
    parser.add_argument("--out", type=Path, default=Path(), help="where runs are to be written")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    from embodichain.operations.doctor import Severity, examine

    bad, rows = 0, []
    for finding in examine(address=options.address, folder=options.out):
        bad += finding.state is Severity.BAD
        rows.append(asdict(finding))
        if not options.json:
            remedy = f"\n      {finding.remedy}" if finding.remedy else ""
            print(f"{finding.state:<5} {finding.subject}: {finding.found}{remedy}")
    if options.json:
        print(strict_json({"findings": rows, "bad": bad}))
    elif bad:
        print(f"{bad} of {len(rows)} are bad")
    return 1 if bad else 0


def plan(arguments: list[str]) -> int:
    """`embodichain plan --run RUN --cores 32`."""
    parser = Parser("plan", "Say which side would wait, how large a ring should be and which E to expect, from measured rates.")
    add = parser.add_argument
    add("--run", type=existing, help="a run that ended: its rates count; by default those of the demo on two cores")
    add("--cores", type=int, required=True, help="for workers, one each")
    add("--learners", type=int, default=1, help="learner processes that share the ring (default 1)")
    add("--max-reads", type=int, help="K (default: the run's)")
    add("--batch-size", type=int, help="trajectories in a step of one learner (default: the run's)")
    add("--step-s", type=float, help="seconds that a step takes without waiting, as on a GPU (default: the run's)")
    add("--worker-rate", type=float, help="trajectories a second of one worker that never waits (default: the run's)")
    add("--slot-mib", type=float, help="size of a trajectory in the ring (default: the run's)")
    add("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    from embodichain.operations.plan import DEMO, Rates, expect, rates_of

    rates: Rates = rates_of(options.run) if options.run is not None else DEMO
    given = {
        "max_reads": options.max_reads,
        "batch_size": options.batch_size,
        "step_s": options.step_s,
        "worker_rate": options.worker_rate,
        "slot_mib": options.slot_mib,
    }
    rates = rates.replaced({name: value for name, value in given.items() if value is not None})
    found = expect(rates, cores=options.cores, learners=options.learners)
    if options.json:
        print(strict_json({"rates": asdict(rates), **asdict(found), "advice": found.waiting.advice}))
        return 0
    for line in found.told(rates):
        print(line)
    return 0


def watch(arguments: list[str]) -> int:
    """`embodichain watch RUN [RUN ...]`; runs until Ctrl-C."""
    parser = Parser(
        "watch",
        "Show runs on a page: E, who waits, replay, ring, workers, learning, frames, success; /metrics, /healthz and /readyz.",
        epilog="Actions (changing K, stopping a run) need a token, in a file or in EMBODICHAIN_WATCH_TOKEN.",
    )
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="run folders, compared when they are several")
    add("--address", default="", help="of a Ray cluster whose nodes are listed")
    add("--host", default="127.0.0.1", help="where to listen (default 127.0.0.1: this machine alone)")
    add("--port", type=int, default=8265, help="default 8265; 0 takes a free one")
    add("--token-file", type=existing, help="a file that holds the token for actions")
    add("--json", action="store_true", help="print one look as one JSON object, and stop")
    options = parser.parse(arguments)
    runs = tuple(map(existing, options.runs))  # after parsing, so that a misspelt option is reported first
    import os

    token = os.environ.get("EMBODICHAIN_WATCH_TOKEN", "")
    if options.token_file is not None:
        try:
            token = options.token_file.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{options.token_file} holds no text: {error}") from error
    from embodichain.operations.watch.server import WatchConfig, Watcher, serve

    config = WatchConfig(runs=runs, address=options.address, host=options.host, port=options.port, token=token)
    if options.json:
        print(strict_json(Watcher(config).snapshot()))
        return 0
    serve(config, lambda url: print(url, flush=True))
    return 0


def chaos(arguments: list[str]) -> int:
    """`embodichain chaos [RUN] --minutes 5`; returns 1 when anything was torn or lost, or not read exactly K times."""
    parser = Parser("chaos", "Kill, stop and starve what a run is made of, on this machine, and say what it cost.")
    add = parser.add_argument
    add("run", type=existing, nargs="?", help="a run that goes on here; by default counting workers on two nodes of their own")
    add("--minutes", type=float, default=5.0, help="how long (default 5)")
    add("--workers", type=int, default=3, help="without RUN: counting workers (default 3)")
    add("--only", nargs="+", metavar="FAULT", help="crash, slow, hang, gateway, node, 'shared memory' (default: all that can be)")
    add("--seed", type=natural, default=0, help="of what befalls whom")
    add("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    if options.minutes <= 0 or options.workers < 2:
        got = f"got {options.minutes} and {options.workers}"
        raise UsageError(f"embodichain chaos takes minutes above 0 and 2 workers or more, {got}")
    from embodichain.operations.faults import FROM_OUTSIDE, Fault

    possible = tuple(Fault) if options.run is None else FROM_OUTSIDE
    for name in options.only or ():
        if name not in (names := [kind.value for kind in possible]):
            raise unknown("fault", name, names)
    kinds = tuple(Fault(name) for name in options.only) if options.only else possible
    from embodichain.operations.chaos import for_minutes, storm
    from embodichain.operations.siege import besiege

    faults = for_minutes(options.minutes, kinds, options.seed)
    if options.run is not None:
        siege = besiege(options.run, faults, seed=options.seed)
        figures = _cost(siege) | {
            "over_k": siege.over_reads + len(siege.ledger.violations),
            "reads": siege.ledger.reads,
            "ledger": "; ".join(siege.ledger.faults) or "holds",
            "intact": siege.intact,
        }
        return _give(figures, intact=siege.intact, as_json=options.json)
    verdict = storm(faults, workers=options.workers, seed=options.seed)
    figures = _cost(verdict) | {
        "deaths": dict(verdict.deaths),
        "published": verdict.published,
        "torn": verdict.torn,
        "over_k": verdict.over_k,
        "read_other_than_k": verdict.short,
        "lost": verdict.lost,
        "intact": verdict.intact,
    }
    return _give(figures, intact=verdict.intact, as_json=options.json)


def _cost(found: StormReport | Siege) -> dict[str, Any]:
    """The figures of what faults cost a run."""
    return {
        "faults": dict(found.faults),
        "recovery_s": found.recovery_s(),
        "recovery_most_s": {kind: round(max(times), 2) for kind, times in found.healed_s.items()},
        "experience_lost": round(found.experience_lost, 3),
        "trajectories_per_s": {"calm": round(found.calm_rate, 2), "storm": round(found.storm_rate, 2)},
    }


def _give(figures: dict[str, Any], *, intact: bool, as_json: bool) -> int:
    if as_json:
        print(strict_json(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>18}  {value}")
    return 0 if intact else 1
