"""`embodichain view`: shows an asset, a robot, a scene or an episode in the browser."""

from __future__ import annotations

import signal
import threading
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from embodichain.command_line import Parser, natural
from embodichain.errors import AssetError, ConfigError
from embodichain.lines import strict_json

if TYPE_CHECKING:
    from embodichain.viewing.exhibit import Exhibit

_USD = (".usd", ".usda", ".usdc")


def main(arguments: list[str]) -> int:
    """Shows one thing until Ctrl-C or SIGTERM."""
    parser = Parser(
        "view",
        "Shows an asset, a robot, a scene or an episode in the browser: colliders, inertia, grasps, joints to move; an episode's "
        "frames, contacts and labels moment by moment.",
    )
    parser.add_argument(
        "target",
        help="an asset's folder or USD file; scene_*.usda of `scene sample`; a robot's name or file; record.json of `trace`; or "
        "TASK:NUMBER, which plays that scene with its expert",
    )
    parser.add_argument("--robot", default="dual_piper", help="who stands in a scene or plays TASK:NUMBER (default dual_piper)")
    parser.add_argument("--seed", type=natural, default=0, help="of TASK:NUMBER, as a run's --seed (default 0)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1, for this machine alone)")
    parser.add_argument("--port", type=int, default=8090, help="port; the next free one where it is taken (default 8090)")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to see, and show nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    if not 0 < options.port < 65536:
        raise ConfigError(f"--port must be 1 to 65535, got {options.port}")
    exhibit = _exhibit(options)
    told = {
        "title": exhibit.title,
        "facts": dict(exhibit.facts),
        "layers": {str(layer): sum(part.layer is layer for part in exhibit.parts) for layer in exhibit.layers},
        "joints": [slider.name for slider in exhibit.sliders],
        "moments": len(exhibit.timeline.time_s) if exhibit.timeline else 0,
    }
    if options.dry_run:
        print(strict_json(told) if options.json else _words(told))
        return 0
    from embodichain.viewing.page import Page

    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Page(exhibit, host=options.host, port=options.port) as page:
            if options.json:
                print(strict_json(told | {"url": page.url}), flush=True)
            else:
                port = page.url.rpartition(":")[2]
                print(f"{exhibit.title}: {page.url} (Ctrl-C ends; from elsewhere: ssh -L {port}:localhost:{port} ...)", flush=True)
            ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _exhibit(options: Namespace) -> Exhibit:
    """Opens what the target names; raises ConfigError, AssetError, SceneError or RobotError if it names nothing known."""
    from embodichain import robots
    from embodichain.tasks import TASKS, check
    from embodichain.tasks.benchmarks import benchmark

    path = Path(options.target)
    task, colon, number = options.target.rpartition(":")
    if path.is_dir():
        return _asset(_usd_in(path))
    if path.suffix == ".json" and path.exists():
        return _record(path)
    if path.suffix in _USD:
        return _scene(options, path) if path.suffix == ".usda" and _is_scene(path) else _asset(path)
    if colon and number.isdecimal() and not path.exists():
        check(task)
        if of := benchmark(task):
            raise ConfigError(f"episodes of {of} are its own affair: look at them in the films of `embodichain eval`")
        return _played(options, task, int(number))
    try:
        robot = robots.get(options.target)
    except ConfigError as error:
        raise ConfigError(
            f"{options.target!r} is nothing to look at: give an asset's folder or USD file, scene_*.usda, record.json, TASK:NUMBER "
            f"(tasks: {', '.join(TASKS)}), or a robot ({error})"
        ) from error
    from embodichain.viewing.worlds import of_robot

    return of_robot(robot)


def _usd_in(folder: Path) -> Path:
    """The single USD file in a folder that `asset build` wrote; raises AssetError if there is not exactly one."""
    found = [folder / f"{folder.name}{suffix}" for suffix in _USD if (folder / f"{folder.name}{suffix}").exists()]
    found = found or sorted(path for path in folder.iterdir() if path.suffix in _USD)
    if len(found) != 1:
        inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise AssetError(f"{folder} holds {len(found) or 'no'} USD files, and one is shown at a time: name it; inside are {inside}")
    return found[0]


def _asset(path: Path) -> Exhibit:
    from embodichain.viewing.assets import of_asset

    return of_asset(path)


def _is_scene(path: Path) -> bool:
    from embodichain.scenes.usd import is_scene

    return is_scene(path)


def _scene(options: Namespace, path: Path) -> Exhibit:
    from embodichain import robots
    from embodichain.scenes.usd import read
    from embodichain.viewing.worlds import of_scene

    return of_scene(robots.get(options.robot), read(path))


def _played(options: Namespace, task: str, number: int) -> Exhibit:
    from embodichain.config import WorldConfig
    from embodichain.prepare import prepare
    from embodichain.progress import Board
    from embodichain.viewing.worlds import of_episode

    with Board(quiet=options.json) as board:
        config = WorldConfig(robot=options.robot, tasks=(task,), seed=options.seed, painter="raster")
        return of_episode(prepare(config, board.update), number)


def _record(path: Path) -> Exhibit:
    from embodichain.extras import explained
    from embodichain.prepare import prepare
    from embodichain.progress import Board
    from embodichain.viewing.worlds import of_episode

    with explained("learn"):
        from learner.runs.trace import read_record
    record = read_record(path)
    with Board(quiet=True) as board:
        return of_episode(prepare(record.world, board.update), record.number)


def _words(told: dict) -> str:
    layers = ", ".join(f"{count} {name}" for name, count in told["layers"].items())
    facts = "\n".join(f"  {name:<12} {value}" for name, value in told["facts"].items())
    more = f", {len(told['joints'])} joints" if told["joints"] else ""
    more += f", {told['moments']} moments" if told["moments"] else ""
    return f"{told['title']}: {layers}{more}\n{facts}"
