"""`embodichain physics`: tests whether a physics keeps the laws of all worlds."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embodichain.command_line import Parser
from embodichain.commands.kinds import robot
from embodichain.errors import ConfigError
from embodichain.lines import strict_json


def physics(arguments: list[str]) -> int:
    """`embodichain physics check`; returns 1 when a law is broken."""
    parser = Parser("physics", "Worlds that commands step: MuJoCo's, and others'.")
    check = parser.subcommands().add_parser(
        "check", help="try law by law what every batch of worlds promises, and say what is broken"
    )
    check.add_argument("name", help="with many worlds: mujoco, mujoco_warp, isaac, one of a plug-in, or package.module:Name")
    check.add_argument("--robot", type=robot, default="dual_piper", help="a name from `embodichain list`, or an MJCF file's path")
    check.add_argument("--worlds", type=int, default=2, help="how many worlds, at least 2 (default 2)")
    check.add_argument("--size", type=int, default=64, help="edge of a picture [pixels] (default 64)")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    if options.worlds < 2 or options.size < 8:
        raise ConfigError(f"--worlds must be at least 2 and --size at least 8, got {options.worlds} and {options.size}")

    from embodichain import robots
    from embodichain.physics import make_batch
    from embodichain.physics.contract import examine

    size = {"width": options.size, "height": options.size}
    with closing(make_batch(options.name, robot=robots.get(options.robot), num_worlds=options.worlds, **size)) as batch:
        findings = list(examine(batch, **size))
    broken = [finding for finding in findings if finding.broken]
    if options.json:
        rows = [{"law": finding.law, "holds": not finding.broken, "broken": finding.broken} for finding in findings]
        print(strict_json({"physics": options.name, "robot": options.robot, "broken": len(broken), "laws": rows}))
    else:
        table = Table("law", "", title=escape(f"physics {options.name}, robot {options.robot}"))
        for finding in findings:
            table.add_row(finding.law, escape(finding.broken) or "holds")
        Console().print(table)
    return 1 if broken else 0
