"""`embodichain robot check`: what a robot is, what it reaches, and which tasks it can do, before anything is sampled."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser
from embodichain.commands.kinds import robot as robot_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embodichain.protocols import Task
    from embodichain.robots.facts import RobotFacts
    from embodichain.scenes.coverage import RoleReach
    from embodichain.types import Asset, Pose, Robot

_ENOUGH = 0.5
"""Least share of placements within reach for a task to be called possible without a reservation."""
_VIEWS = (("over", (0.9, -0.9, 0.9)), ("front", (1.3, 0.0, 0.4)))
_GRID_X, _GRID_Y, _GRID_HEIGHT, _GRID_YAWS = (-0.25, 0.25), (-0.4, 0.4), 0.05, 4


def robot(arguments: list[str]) -> int:
    """`embodichain robot check ROBOT`: the exit code is 0 when every task asked for can be done, or any where none is named."""
    parser = Parser("robot", "What a robot is and can do.")
    check = parser.subcommands().add_parser(
        "check", help="say what a robot's file holds, what its arms reach, what is missing, and which tasks it can do"
    )
    check.add_argument("robot", type=robot_name, help="a name from `embodichain list`, or the path of an MJCF, URDF or YAML file")
    check.add_argument("--task", action="append", default=[], help="task to ask for, once for each (default: all built-in ones)")
    check.add_argument("-n", "--draws", type=int, default=24, help="placements drawn for each object of a task (default 24)")
    check.add_argument("-o", "--out", type=Path, help="folder for report.html, robot_*.png and reach.png (default: none)")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    if options.draws < 1:
        from embodichain.errors import ConfigError

        raise ConfigError(f"--draws must be at least 1, got {options.draws}")
    return _check(options)


def _check(options: Namespace) -> int:
    from embodichain import robots, tasks
    from embodichain.assets.chain.catalog import build_catalog
    from embodichain.assets.chain.config import AssetsConfig
    from embodichain.cache import cache_dir
    from embodichain.progress import Board
    from embodichain.robots.facts import find_facts
    from embodichain.scenes.reach import ReachTable

    body = robots.get(options.robot)
    names = options.task or [name for name in tasks.TASKS.built_in if name != "counting"]
    chosen = [tasks.make(name) for name in names]
    facts = find_facts(body)
    with Board(quiet=options.json) as board:
        needed = AssetsConfig().serving(tasks.categories(chosen))
        assets = build_catalog(needed, cache_dir() / "assets", progress=lambda done, total, _: board.update("assets", done, total))
        reaching, rows = ReachTable.solver(body), []
        for number, task in enumerate(chosen, 1):
            rows.append(_verdict(task, body, facts, assets, reaching, options.draws))
            board.update("tasks", number, len(chosen))
    able = [row["task"] for row in rows if row["can"]]
    usable = not facts.faults and (len(able) == len(rows) if options.task else bool(able))
    report: dict[str, Any] = {"usable": usable, **asdict(facts), "tasks": rows}
    if options.out is not None:
        report["report"] = str(_write(options.out, body, facts, rows, reaching))
    if options.json:
        print(json.dumps(report))
    else:
        print(_told(facts, rows, usable, report.get("report", "")))
    return 0 if usable else 1


def _verdict(
    task: Task, robot: Robot, facts: RobotFacts, assets: Sequence[Asset], reaching: Callable[[Pose], tuple[str, ...]], draws: int
) -> dict[str, Any]:
    """Whether the robot can do the task, why not, and what it reaches of it."""
    from embodichain.scenes.coverage import beyond_reach, coverage
    from embodichain.tasks.needs import lacking

    lacks = list(lacking(robot, task))
    found: Sequence[RoleReach] = () if lacks else coverage(task, robot, assets, reaching, draws=draws)
    lacks += beyond_reach(found, robot)
    scarce = [f"{one.any_arm:.0%} of placements of {one.role!r}" for one in found if 0.0 < one.any_arm < _ENOUGH]
    reserve = f"within reach are only {', '.join(scarce)}: scenes are drawn again until they are" if scarce else ""
    return {
        "task": task.name,
        "can": not lacks and not facts.faults,
        "lacks": lacks,
        "reservation": reserve,
        "reach": [asdict(one) for one in found],
    }


# ---------------------------------------------------------------------------------------------------------------- told


def _told(facts: RobotFacts, rows: list[dict[str, Any]], usable: bool, report: str) -> str:
    lines = [f"{facts.name}: {len(facts.arms)} arm{'s' if len(facts.arms) > 1 else ''}, {facts.control_hz} commands a second"]
    for arm in facts.arms:
        base = ", ".join(f"{value:.2f}" for value in arm.base)
        speeds = [joint.speed for joint in arm.joints if joint.speed]
        fastest = f"at most {min(speeds):.2f} rad/s" if speeds else "no speed limits"
        lines.append(f"  {arm.name} arm: {len(arm.joints)} joints, {fastest}, base at ({base}) m, {_hand(arm)}")
    for camera in facts.cameras:
        lines.append(f"  camera {camera.name}: {camera.fovy:.0f} degrees, {f'on {camera.body}' if camera.body else 'fixed'}")
    lines += [f"  FAULT: {fault}" for fault in facts.faults]
    lines += [f"  note: {note}" for note in facts.notes]
    for row in rows:
        shares = ", ".join(f"{one['role']} {one['any_arm']:.0%}" for one in row["reach"])
        why = "; ".join(row["lacks"]) or row["reservation"]
        lines.append(f"  {row['task']:<22}{'can' if row['can'] else 'CANNOT':<8}{f'reach: {shares}' if shares else ''}")
        if why:
            lines.append(f"    {why}")
    able = sum(row["can"] for row in rows)
    lines.append(f"{'usable' if usable else 'not usable'}: {able} of {len(rows)} tasks{f'; report: {report}' if report else ''}")
    return "\n".join(lines)


def _hand(arm: Any) -> str:
    if arm.gripper == "none":
        return "no gripper"
    return (
        f"{arm.gripper} opening {1e3 * arm.opening:.0f} mm at {arm.force:.0f} N, fingers {1e3 * arm.finger_width:.0f} mm wide, "
        f"{1e3 * arm.finger_thickness:.0f} mm thick, {1e3 * arm.finger_length:.0f} mm long"
    )


# -------------------------------------------------------------------------------------------------------------- report


def _write(
    out: Path, robot: Robot, facts: RobotFacts, rows: list[dict[str, Any]], reaching: Callable[[Pose], tuple[str, ...]]
) -> Path:
    """Writes the pictures and the page; returns the page's path."""
    from PIL import Image

    from embodichain.physics.mujoco import MujocoPhysics
    from embodichain.physics.render import Viewpoint
    from embodichain.types import Scene

    out.mkdir(parents=True, exist_ok=True)
    physics = MujocoPhysics(robot, width=16, height=16)
    try:
        physics.reset(Scene(seed=0, task="none", instruction="", objects=()))
        for name, eye in _VIEWS:
            picture = physics.photograph(Viewpoint(eye=eye, target=(-0.1, 0.0, 0.15), fovy=50.0), width=480, height=360)
            Image.fromarray(picture).save(out / f"robot_{name}.png")
    finally:
        physics.close()
    _draw_reach(out / "reach.png", facts, reaching)
    page = out / "report.html"
    page.write_text(_page(facts, rows), encoding="utf-8")
    return page


def _draw_reach(path: Path, facts: RobotFacts, reaching: Callable[[Pose], tuple[str, ...]]) -> None:
    """A map, seen from above, of the share of turns in which each arm's hand points straight down at 5 cm over the table."""
    import numpy as np
    from matplotlib.figure import Figure

    from embodichain.types import Pose
    from embodichain.types.poses import multiply, turn

    x, y = np.linspace(*_GRID_X, 11), np.linspace(*_GRID_Y, 17)
    down = turn((1.0, 0.0, 0.0), math.pi)
    turns = [multiply(turn((0.0, 0.0, 1.0), math.pi * k / _GRID_YAWS), down) for k in range(_GRID_YAWS)]
    shares = {arm.name: np.zeros((len(x), len(y))) for arm in facts.arms}
    for i, ahead in enumerate(x):
        for j, left in enumerate(y):
            for quaternion in turns:
                for arm in reaching(Pose(position=(float(ahead), float(left), _GRID_HEIGHT), quaternion=quaternion)):
                    shares[arm][i, j] += 1.0 / _GRID_YAWS
    figure = Figure(figsize=(4.0 * len(shares), 3.2), layout="constrained")
    for axes, (name, share) in zip(figure.subplots(1, len(shares), squeeze=False)[0], shares.items(), strict=True):
        axes.imshow(share, origin="lower", vmin=0.0, vmax=1.0, extent=(*_GRID_Y, *_GRID_X))
        axes.set(title=f"{name} arm, straight down", xlabel="Y, left [m]", ylabel="X, forward [m]")
        axes.invert_xaxis()  # as seen from behind the robot
    figure.savefig(path, dpi=90)


def _page(facts: RobotFacts, rows: list[dict[str, Any]]) -> str:
    def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
        top = "".join(f"<th>{escape(word)}</th>" for word in head)
        return f"<table><tr>{top}</tr>" + "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in body) + "</table>"

    arms = ""
    for arm in facts.arms:
        joints = [
            (
                escape(joint.name),
                f"{joint.lower:.2f} to {joint.upper:.2f}" + ("" if joint.limited else " (no limits)"),
                f"{joint.speed:.2f}" if joint.speed else "not stated",
                f"{joint.torque:.0f}" if joint.torque else "not stated",
            )
            for joint in arm.joints
        ]
        base, tip = (", ".join(f"{value:.2f}" for value in point) for point in (arm.base, arm.tip_at_home))
        arms += f"<h2>{escape(arm.name)} arm</h2><p>Base at ({base}) m, tip at home at ({tip}) m; {escape(_hand(arm))}.</p>"
        arms += table(("joint", "limits [rad]", "speed [rad/s]", "torque [N m]"), joints)
    verdicts = [
        (
            escape(row["task"]),
            "can" if row["can"] else "<b>cannot</b>",
            "<br>".join(
                escape(f"{one['role']}: " + ", ".join(f"{arm} {share:.0%}" for arm, share in one["arms"].items()))
                for one in row["reach"]
            ),
            escape("; ".join(row["lacks"]) or row["reservation"]),
        )
        for row in rows
    ]
    cameras = [(escape(c.name), f"{c.fovy:.0f}", escape(c.body) or "stands still") for c in facts.cameras]
    said = "".join(f"<li><b>{escape(fault)}</b></li>" for fault in facts.faults)
    said += "".join(f"<li>{escape(note)}</li>" for note in facts.notes)
    pictures = "".join(f'<img src="robot_{name}.png" alt="the robot from {name}">' for name, _ in _VIEWS)
    return (
        f"<!doctype html><meta charset='utf-8'><title>{escape(facts.name)}</title><style>body{{font:15px sans-serif;margin:2em}}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:4px 8px;text-align:left}img{max-width:48%}</style>"
        f"<h1>{escape(facts.name)}</h1>{pictures}<h2>Tasks</h2>"
        f"{table(('task', 'verdict', 'placements reached', 'why, and what to do'), verdicts)}"
        f"<h2>Missing or unusual</h2><ul>{said or '<li>nothing</li>'}</ul>{arms}<h2>Cameras</h2>"
        f"{table(('camera', 'field of view [degrees]', 'carried by'), cameras)}<h2>Reach</h2>"
        "<p>Share of turns in which a hand that points straight down reaches 5 cm above the table.</p>"
        '<img src="reach.png" alt="reach of each arm">'
    )
