"""`embodichain eval`: judges a trained policy in closed loop in held-out scenes, beside baselines and the expert."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain import tasks
from embodichain.command_line import Parser, natural, positive
from embodichain.errors import ConfigError, unknown
from embodichain.lines import strict_json
from learner.commands.kinds import check_device, device, threads
from learner.commands.kinds import trained as trained_path
from learner.commands.speculation import add_sai_options, sai_config
from learner.evaluation.config import PILOTS, SHIFTS, EvaluateConfig, Shift
from learner.records.shipped import BUILTIN

if TYPE_CHECKING:
    from learner.evaluation.suite import JudgeConfig
    from learner.runs.locate import Trained


def main(arguments: list[str]) -> int:
    """`embodichain eval RUN`: 0 when every episode was played, 130 after Ctrl-C (`--resume` goes on)."""
    options = _parser().parse(arguments)
    for name in options.pilots:
        if name not in PILOTS:
            raise unknown("pilot", name, PILOTS)
    for name in options.task or ():
        tasks.check(name)
    import torch

    from embodichain.progress import Board
    from learner.evaluation.suite import Judgement, judge, summarise
    from learner.inference.background import make_policy
    from learner.inference.policy_file import load_agent
    from learner.records.files import write_whole
    from learner.records.run_folder import fresh
    from learner.runs.locate import find

    trained = find(options.path)
    config = configure(options, trained)
    torch.set_num_threads(options.threads)
    agent = load_agent(trained.checkpoint, check_device(options.device))
    probe = make_policy(agent, config.sai)  # a mode that its family does not have is refused before anything is written
    probe.close()
    if config.late > probe.chunk:
        raise ConfigError(f"--late is a number of commands of a chunk, 0 to {probe.chunk}, got {config.late}")
    name = options.path.stem.removeprefix(BUILTIN)
    default = options.path / "evaluations" / "eval" if options.path.is_dir() else Path("runs") / "evaluations" / name
    if options.resume:
        judgement = Judgement.resume(options.out or default, config)
    else:
        judgement = Judgement.create(options.out or fresh(default), config)
    began = time.monotonic()
    interrupted = False
    with Board(quiet=options.json) as board:
        try:
            judge(agent, config, judgement, board)
        except KeyboardInterrupt:
            interrupted = True
    summary = summarise(config, judgement, wall_s=time.monotonic() - began) | {"interrupted": interrupted}
    write_whole(judgement.path / "summary.json", json.dumps(summary, indent=1))
    if options.json:
        print(strict_json(summary))
    else:
        show(summary, config)
    if interrupted:
        print(f"interrupted; go on with --resume --out {judgement.path}", file=sys.stderr)
    return 130 if interrupted else 0


def show(summary: dict[str, Any], config: JudgeConfig) -> None:
    """Prints the figures as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("scenes", "pilot", "task", "success", "95% interval", "progress", title="closed loop, held-out scenes")
    for shift, rows in summary["sets"].items():
        for row in rows:
            interval = f"{row['low']:.0%} to {row['high']:.0%}"
            table.add_row(
                shift, row["pilot"], row["task"], f"{row['successes']}/{row['episodes']}", interval, f"{row['progress']:.2f}"
            )
        table.add_section()
    console.print(table)
    for name, ranges in summary["placement_ranges"].items():
        where = "; ".join(f"{r['role']} x {r['x_m']} y {r['y_m']} m, yaw {r['yaw_rad']} rad" for r in ranges)
        print(f"{name} in distribution: {where or 'nothing is placed'}")
    for shift, found in summary["imagined"].items():
        for task, error in found.items():
            print(f"imagined latents, {shift}, {task}: {error['imagined']:.3f} off, unchanged {error['unchanged']:.3f}")
    for shift, evaluations in summary["blocking_evaluations"].items():
        if evaluations is not None:
            print(f"evaluations of the model that the robot waits for, {shift}: {evaluations:.1f} a decision")
    print(f"evidence: {summary['folder']}")


def configure(options: argparse.Namespace, trained: Trained) -> JudgeConfig:
    """Turns the command line into the configuration of an evaluation; raises ConfigError for unknown names."""
    world = trained.world
    if options.task:
        world = replace(world, tasks=tuple(options.task))
    if options.seed is not None:
        world = replace(world, seed=options.seed)
    from learner.evaluation.suite import JudgeConfig

    asked: list[Shift] = [Shift.NONE]
    for name in options.ood:
        asked += [shift for shift in SHIFTS[name] if shift not in asked]
    return JudgeConfig(
        checkpoint=trained.checkpoint,
        world=world,
        episodes=options.episodes,
        shifts=tuple(asked),
        pilots=tuple(options.pilots),
        sai=sai_config(options),
        films=not options.no_films,
        evaluate=EvaluateConfig(episodes=options.episodes),
        late=options.late,
    )


def _parser() -> Parser:
    parser = Parser(
        "eval",
        "Judges a trained policy in closed loop in held-out scenes beside baselines and the expert.",
        epilog="`--ood all` adds the sets instances, looks, physics, placement and words, and one that is all of them at once.",
    )
    add: Callable[..., Any] = parser.add_argument
    add(
        "path",
        type=trained_path,
        metavar="RUN|CHECKPOINT|POLICY",
        help="a run folder, a checkpoint inside one, a .safetensors policy, or builtin:NAME",
    )
    add("--task", "--tasks", nargs="+", metavar="TASK", help="by default those that it was trained on; see `embodichain list`")
    add("--episodes", type=positive, default=20, help="held-out scenes for each task, set and pilot (default 20)")
    add("--ood", nargs="+", default=[], choices=list(SHIFTS), help="out-of-distribution sets beside the in-distribution one")
    add("--pilots", nargs="+", default=list(PILOTS), metavar="PILOT", help=f"of {', '.join(PILOTS)} (default all)")
    add("--seed", type=natural, help="of the scenes; by default the run's, so that every evaluation meets the same ones")
    add_sai_options(parser)
    late = "simulated latency: a chunk begins so many commands after its frame, and the one before goes on until then (default 0)"
    add("--late", type=natural, default=0, metavar="COMMANDS", help=late)
    add("--out", type=Path, help="the folder for the evidence; by default inside the run, or in runs/evaluations, numbered")
    add("--resume", action="store_true", help="go on with the evaluation in --out; played episodes are not repeated")
    add("--no-films", action="store_true", help="neither films nor pictures")
    add("--device", type=device, help="cpu or cuda; by default the GPU when there is one")
    add("--threads", type=threads, default=2, help="CPU threads of the arithmetic (default 2)")
    add("--json", action="store_true", help="print the summary as one JSON object on the last line")
    return parser
