"""`embodichain reach`: computes and draws where a robot's arms can grasp."""

from __future__ import annotations

from pathlib import Path

from embodichain.command_line import Parser, check_writable, ending
from embodichain.commands.kinds import robot as robot_name
from embodichain.lines import strict_json


def reach(arguments: list[str]) -> int:
    """`embodichain reach ROBOT`."""
    parser = Parser("reach", "Build a robot's reachability table and draw it.")
    parser.add_argument("robot", type=robot_name, help="a name from `embodichain list`, or the path of an MJCF file")
    parser.add_argument(
        "-o",
        "--out",
        type=ending(".png", ".pdf", ".svg", ".jpg"),
        default=Path("reach.png"),
        help="picture to write (default reach.png)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    from embodichain import robots
    from embodichain.cache import cache_dir
    from embodichain.progress import Board
    from embodichain.scenes.reach import ReachTable

    robot = robots.get(options.robot)
    check_writable(options.out.parent)
    with Board(quiet=options.json) as board:
        table = ReachTable.load_or_build(
            robot, cache_dir=cache_dir(), progress=lambda done, total: board.update(f"reach of {robot.name}", done, total)
        )
    table.draw(options.out)
    if options.json:
        print(strict_json({"robot": robot.name, "reachable": table.fraction(), "picture": str(options.out)}))
        return 0
    print(f"{robot.name}: {table.fraction():.1%} of the sampled poses above the table are reachable; picture: {options.out}")
    return 0
