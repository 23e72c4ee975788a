"""`embodichain list` and `reach`: what there is to name, and where a robot's arms can grasp."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def list_names(arguments: list[str]) -> int:
    """`embodichain list`: every name that other commands accept."""
    parser = argparse.ArgumentParser(prog="embodichain list", description=list_names.__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    from embodichain.assets.families.catalog import FAMILIES
    from embodichain.physics import PHYSICS
    from embodichain.robots import ROBOTS
    from embodichain.tasks import TASKS

    rooms = {"tasks": TASKS, "robots": ROBOTS, "physics": PHYSICS, "asset categories": FAMILIES}
    names = {kind: list(registry) for kind, registry in rooms.items()}
    added = {offer.name: offer.distribution for registry in rooms.values() for offer in registry.offers()}
    if options.json:
        print(json.dumps(names))
    else:
        for kind, values in names.items():
            print(f"{kind + ':':<18}{', '.join(values)}")
        for name, distribution in added.items():
            print(f"{name} is added by {distribution}")
        print("recipes:          see `embodichain run --help`; a robot may also be the path of an MJCF file")
        print("package.module:Name is taken wherever a name is")
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
    from embodichain.world import cache_dir

    robot = robots.get(options.robot)
    with Progress(transient=True) as bars:
        bar = bars.add_task(f"reach of {robot.name}", total=None)
        table = ReachTable.load_or_build(
            robot, cache_dir=cache_dir(), progress=lambda done, total: bars.update(bar, completed=done, total=total)
        )
    table.draw(options.out)
    print(f"{robot.name}: {table.fraction():.1%} of the sampled poses above the table are reachable; picture: {options.out}")
    return 0
