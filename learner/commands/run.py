"""`embodichain run`: streams experience from simulation into a learner, evaluates the policy and writes a report."""

from __future__ import annotations

from argparse import SUPPRESS
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser, existing
from embodichain.exchange.files import check_lerobot
from embodichain.lines import strict_json
from learner.commands.settings import REST, add_settings, check_rest, check_settings, dotted
from learner.runs.catalog import RECIPES

if TYPE_CHECKING:
    from learner.runs.config import RunConfig
    from learner.runs.options import RunOptions

_DEFAULT = "tiny_cpu"


def main(arguments: list[str]) -> int:
    """`embodichain run`; returns 0 on success, 130 after Ctrl-C (the run can be resumed)."""
    options = parse(arguments)
    if options.dry_run:
        from learner.runs.static import check_static

        static = check_static(options.config)
        if options.json:
            from embodichain.types.plain import as_plain

            told = {"config": as_plain(options.config), "ring_bytes": _ring_bytes(options.config), "static": static}
            print(strict_json(told))
        else:
            print(describe(options.config) + (f"\n# static: {static}" if static else ""))
        return 0
    from learner.runs.run import run

    summary = run(options)
    print_summary(summary, as_json=options.json)
    return 130 if summary["interrupted"] else 0


def parse(arguments: list[str]) -> RunOptions:
    """Parses the arguments; raises ConfigError for invalid values, and exits after printing help."""
    named = bool(arguments) and not arguments[0].startswith("-")
    recipe = arguments[0] if named else _DEFAULT
    parser, short = _parser()
    known, rest = parser.parse_known_args(arguments[named:])
    recipe = known.recipe or recipe
    RECIPES.check(recipe)
    check_settings(known)
    check_rest(parser, rest)
    if known.static:
        check_lerobot(Path(known.static))
    from learner.runs.option_help import all_options
    from learner.runs.options import RunWords, resolve

    if known.help_all:
        parser.print_help()
        print(all_options(RECIPES.get(recipe)()))
        raise SystemExit(0)
    words = RunWords(
        config=known.config,
        size=known.size,
        physics=known.physics,
        out=known.out and Path(known.out),
        resume=known.resume,
        dry_run=known.dry_run,
        json=known.json,
    )
    return resolve(recipe, words, [*dotted(known, short), *rest])


def _parser() -> tuple[Parser, dict[str, str]]:
    parser = Parser(
        "run",
        "Streams experience from simulation into a learner, evaluates the policy and writes a report.",
        epilog=f"RECIPE is one of {', '.join(RECIPES)} (default {_DEFAULT}); {REST}.",
    )
    parser.usage = "embodichain run [RECIPE] [OPTIONS]"
    add = parser.add_argument
    add("--recipe", help=SUPPRESS)  # the recipe is also a field of the configuration, so its dotted name must be accepted
    add("--config", type=existing, metavar="FILE", help="a YAML file whose values override the recipe's")
    add("--size", help="a named size of the world model: tiny, small, base")
    add("--physics", help="mujoco, or counting: self-verifying data that must arrive complete, untorn and within the bound")
    add("--resume", action="store_true", help="go on with the run in the folder --out")
    add("--dry-run", action="store_true", help="print the configuration and what it needs, and stop")
    add("--json", action="store_true", help="print the summary as one JSON object on the last line")
    more = {
        "--static": ("--static.folder", "learn from a LeRobot v3 folder, or beside the stream: --static.share, --static.mapping"),
        "--scenes": ("--world.scenes.folder", "stream the scenes saved in a folder"),
        "--start": ("--learner.start", "begin with the weights of a run or policy"),
        "--ranks": ("--train.ranks", "learner processes that share the ring"),
        "--nodes": ("--train.nodes", "learner nodes of a cluster, each with a ring"),
        "--steps": ("--train.steps", "training steps"),
        "--episodes": ("--evaluate.episodes", "held-out episodes for each task and pilot"),
    }
    return parser, add_settings(parser, more)


def _ring_bytes(config: RunConfig) -> int:
    """Size of the ring of a run in shared memory [bytes]."""
    from embodichain.ring.layout import RingLayout
    from embodichain.world import check_names

    robot, _ = check_names(config.world)
    return RingLayout.of(config.ring_spec(config.world.stream_spec(robot))).total_bytes


def describe(config: RunConfig) -> str:
    """The resolved configuration and the memory of its ring, as text."""
    import yaml

    from embodichain.types.plain import as_plain

    needed = _ring_bytes(config)
    text = yaml.safe_dump(as_plain(config), sort_keys=False)
    return f"{text}\n# ring: {needed / 2**20:.0f} MiB of shared memory for {config.ring.num_slots} trajectories"


def _bound(summary: dict[str, Any]) -> str:
    from embodichain.types import ReplayMode

    if summary["replay_mode"] == ReplayMode.AGGREGATE:
        most = max(map(int, summary["reads_histogram"]), default=0)
        return f"none for a trajectory: refilled after K = {summary['max_reads']} reads a slot on average; most read {most} times"
    return f"K = {summary['max_reads']}, {summary['bound_violations']} violations in {summary['reads']} reads"


def print_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    """Prints the figures of a finished run: a table, or one JSON object on the last line."""
    if as_json:
        print(strict_json(summary))
        return
    from rich.console import Console
    from rich.table import Table

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
    print(f"report: {summary['report']}")
