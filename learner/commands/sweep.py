"""`embodichain sweep RECIPE --replay 213,50,10 --seeds 0-2`: one run for each replay bound and seed, a table and a figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser, check_writable, positive
from embodichain.lines import strict_json
from learner.commands.settings import REST, check_rest
from learner.runs.catalog import RECIPES

if TYPE_CHECKING:
    from learner.reporting.sweep import Result
    from learner.runs.sweep import SweepWords, Trial


def main(arguments: list[str]) -> int:
    """`embodichain sweep`; returns 0 when every trial has succeeded, else 1."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    RECIPES.check(options.recipe)
    check_rest(parser, rest)
    from learner.records.files import held
    from learner.runs.sweep import SweepWords, plan, write_manifest

    words = SweepWords(
        recipe=options.recipe,
        replay=options.replay,
        seeds=options.seeds,
        static=options.static,
        aggregate=options.aggregate,
        ablation=options.ablation,
        dotted=tuple(rest),
        out=(options.out or Path(f"runs/sweep_{options.recipe}")).absolute(),
    )
    trials = plan(words)
    if options.dry_run:
        _show(trials, as_json=options.json)
        return 0
    check_writable(words.out)
    with held(words.out):  # another process that goes on with it would remove the folders of the trials that run now
        write_manifest(words, trials, resume=options.resume)
        codes = _run(trials, options)
        summary = _report(words, trials, codes)
    _tell(summary, as_json=options.json)
    return 0 if not summary["failed"] else 1


_MOST_NUMBERS = 10_000
"""Numbers of a range, each of which makes runs."""


def numbers(text: str) -> tuple[int, ...]:
    """Parses a list of numbers and ranges: "0-2,5" gives 0, 1, 2, 5."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"takes numbers such as 213,50,10 or 0-2, got {text!r}")
        if dash and int(last) < int(first):
            raise argparse.ArgumentTypeError(f"takes ranges that go upwards, such as 0-2, got {part!r}")
        if dash and int(last) - int(first) >= _MOST_NUMBERS:
            raise argparse.ArgumentTypeError(f"takes at most {_MOST_NUMBERS} numbers, got {part!r}")
        found += range(int(first), int(last) + 1) if dash else [int(first)]
    return tuple(found)


def _parser() -> Parser:
    parser = Parser(
        "sweep",
        "Run one recipe under several bounds on reads, with several seeds, and draw what it came to.",
        epilog=f"RECIPE is one of {', '.join(RECIPES)}; {REST} (as `run` takes them, for all trials).",
    )
    parser.usage = "embodichain sweep RECIPE [OPTIONS]"
    add = parser.add_argument
    add("recipe", metavar="RECIPE")
    add("--replay", type=numbers, default=(), metavar="K,K", help="bounds on the reads of a trajectory: 213,50,10")
    add("--seeds", type=numbers, default=(0,), metavar="S-S", help="of scenes, weights and draws alike: 0-2 (default 0)")
    add("--static", type=numbers, default=(), metavar="N,N", help="sets of so many scenes, simulated once and read without a bound")
    add("--aggregate", type=numbers, default=(), metavar="K,K", help="bounds of the ring as a whole, as earlier engines had them")
    add(
        "--ablation",
        default="",
        metavar="expansion",
        help="stages of expansion: spatial, + visual, + physics, + reachability",
    )
    add("--out", type=Path, help="the folder of the sweep; each trial is a run folder in it (default runs/sweep_RECIPE)")
    add("--resume", action="store_true", help="go on with a sweep that was stopped: nothing that has ended is run again")
    add("--at-once", type=positive, default=1, metavar="N", help="trials at a time (default 1)")
    add("--address", default="", help="of a running Ray cluster, whose nodes share the folder --out")
    add("--dry-run", action="store_true", help="print the commands of all trials, and stop")
    add("--json", action="store_true", help="print one JSON object on the last line")
    return parser


def _show(trials: Sequence[Trial], *, as_json: bool) -> None:
    import shlex

    commands = {trial.name: shlex.join(trial.command) for trial in trials}
    if as_json:
        finished = [trial.name for trial in trials if trial.is_finished]
        print(strict_json({"trials": commands, "finished": finished}))
        return
    for trial in trials:
        print(f"{commands[trial.name]}{'   # has ended' if trial.is_finished else ''}")


def _run(trials: Sequence[Trial], options: argparse.Namespace) -> dict[str, int]:
    """Runs the trials that have not ended yet; returns their exit codes by name."""
    todo = [trial for trial in trials if not trial.is_finished]
    if not todo:
        return {}
    from embodichain.progress import JobBoard
    from embodichain.ray_engine.trials import Errand, run_trials

    errands = [
        Errand(
            name=trial.name,
            command=trial.next_command(),
            folder=trial.folder,
            log=_log(trial.folder.parent, trial.name),
        )
        for trial in todo
    ]
    logs = {errand.name: errand.log for errand in errands}
    most = max(trial.config.stream.workers * trial.config.stream.cpus_per_worker + trial.config.learner.threads for trial in todo)
    with JobBoard("sweep", len(todo), quiet=False, tells_beginnings=True) as board:
        return run_trials(
            errands,
            address=options.address,
            at_once=options.at_once,
            cores=most,
            on_working=lambda name, told: board.working(name, told or f"begins, see {_shown(logs[name])}"),
            on_ended=lambda name, code: board.ended(name, "ended" if code == 0 else "failed", f"exit code {code}" if code else ""),
        )


def _shown(path: Path) -> Path:
    """A path as short as it can be written here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _log(out: Path, name: str) -> Path:
    """The file that receives the output of a trial's command."""
    return out / "logs" / f"{name}.log"


def _report(words: SweepWords, trials: Sequence[Trial], codes: dict[str, int]) -> dict[str, Any]:
    """Writes the table and figure of finished trials, and lists the unfinished ones."""
    from learner.reporting.sweep import factors, result, table, write_csv
    from learner.reporting.sweep_figure import draw_sweep

    done = [trial for trial in trials if trial.is_finished]
    results: list[Result] = [result(t.run, name=t.name, variant=t.variant, seed=t.seed) for t in done]
    files: list[Path] = []
    if results:
        files = [words.out / "sweep.csv", *draw_sweep(results, words.out / "sweep", f"{words.recipe}: {len(results)} runs")]
        write_csv(files[0], results)
    failed = {trial.name: str(_log(words.out, trial.name)) for trial in trials if not trial.is_finished}
    ran = [name for name, code in codes.items() if code == 0]
    return {
        "recipe": words.recipe,
        "out": str(words.out),
        "trials": len(trials),
        "ran_now": ran,
        "failed": failed,
        "table": table(results),
        "factors": factors(results),
        "files": [str(path) for path in files],
    }


def _tell(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(strict_json(summary))
        return
    from rich.console import Console
    from rich.table import Column, Table

    columns = {name: head for name, head in _COLUMNS.items() if any(name in row for row in summary["table"])}
    shown = Table("variant", "seeds", *(Column(head, overflow="fold") for head in columns.values()))
    for row in summary["table"]:
        shown.add_row(row["variant"], str(row["seeds"]), *(_cell(row, name) for name in columns))
    Console(highlight=False).print(shown)
    if summary["table"] and "held_out_action" not in columns:
        print("no held-out loss was measured: --train.measure-every N asks for it every N steps")
    for row in summary["factors"]:
        bounds = "" if row["low"] != row["low"] else f" ({row['low']:.2f} to {row['high']:.2f}, 95%)"
        told = f"{row['variant']}: held-out action loss {row['factor']:.2f} times that of {row['than']}{bounds}"
        print(f"{told}, seed by seed over {row['seeds']}")
    for name, log in summary["failed"].items():
        print(f"{name} has not ended: see {log}; --resume tries again")
    for path in summary["files"]:
        print(path)


_COLUMNS = {
    "unique_pairs": "E",
    "reads": "reads",
    "held_out_action": "held-out action",
    "train_action": "training action",
    "success": "success",
    "waited": "learner waited",
    "wall_s": "s",
}
"""Heads of the table by the figure below them; a figure that no run has gets no column."""


def _cell(row: dict[str, Any], name: str) -> str:
    if name not in row:
        return ""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if name == "waited":
        return f"{row[name]:.0%}" + ("" if low != low else f" ({max(low, 0.0):.0%} to {min(high, 1.0):.0%})")
    return f"{row[name]:.4g}" + ("" if low != low else f" ({low:.3g} to {high:.3g})")
