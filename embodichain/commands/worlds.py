"""The command that lets people look at tasks, as pictures and videos."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser, check_writable, natural
from embodichain.commands.kinds import robot
from embodichain.commands.pictures import mujoco, overview, prepare, progress, save, sheet, task
from embodichain.errors import ConfigError, MotionError, SceneError
from embodichain.lines import strict_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embodichain.config import WorldConfig
    from embodichain.physics.mujoco import MujocoPhysics
    from embodichain.world import World


def tasks(arguments: list[str]) -> int:
    """`embodichain tasks show`."""
    parser = Parser("tasks", "What tasks look like.")
    show = parser.subcommands().add_parser(
        "show", help="a contact sheet of start, middle and end, and a video, of each task's expert"
    )
    show.add_argument(
        "tasks", nargs="*", type=task, metavar="TASK", help="see `embodichain list`; the built-in ones if none is named"
    )
    show.add_argument("-o", "--out", type=Path, required=True, help="folder for contact.png, TASK.png, TASK.mp4 and tasks.json")
    show.add_argument("-n", "--count", type=int, default=3, help="episodes of each task on its own sheet (default 3)")
    show.add_argument(
        "--robot", type=robot, default="dual_piper", help="a name from `embodichain list`, or the path of an MJCF file"
    )
    show.add_argument("--seed", type=natural, default=0)
    show.add_argument("--visual", action="store_true", help="with visual expansion")
    show.add_argument("--physical", action="store_true", help="with physical expansion")
    show.add_argument("--diverse", action="store_true", help="with reachability-aware diversity")
    show.add_argument("--recovery", type=float, default=0.0, help="how often an episode is provoked into a failure (default 0)")
    show.add_argument("--size", type=int, default=320, help="edge of a picture [pixels]")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    from embodichain.tasks import TASKS

    names = tuple(options.tasks) or tuple(name for name in TASKS.built_in if name != "counting")
    if options.count < 1 or options.size < 16 or options.size % 2:
        raise ConfigError(f"--count must be at least 1 and --size even and at least 16, got {options.count} and {options.size}")
    return _show(options, names)


def _show(options: Namespace, names: tuple[str, ...]) -> int:
    from embodichain.export.video import write_video
    from embodichain.world import check_names

    rows: list[dict[str, Any]] = []
    shown: list[NDArray[np.uint8]] = []
    config = _config(options, names)
    check_names(config)
    check_writable(options.out)
    world = prepare(config, quiet=options.json)
    physics = mujoco(world)
    for name in progress(names, "tasks", quiet=options.json):
        stills: list[NDArray[np.uint8]] = []
        for episode in range(options.count):
            found = _play(world, physics, name, names, episode, options.size)
            rows.append({"task": name, "episode": episode} | found["facts"])
            seen, film = found["stills"], found["film"]
            if seen:
                stills += [seen[0], seen[len(seen) // 2], seen[-1]]
            if film:
                rows[-1]["video"] = str(write_video(options.out / f"{name}.mp4", film, fps=25))
        if stills:
            shown += stills[:3]
            save(sheet(stills, columns=3), options.out / f"{name}.png")
    if not shown:
        raise SceneError(f"no episode of {', '.join(names)} could be played: {rows[0]['reason']}")
    save(sheet(shown, columns=3), options.out / "contact.png")
    report = {"episodes": rows, "contact_sheet": str(options.out / "contact.png")}
    (options.out / "tasks.json").write_text(json.dumps(report, indent=1))
    if options.json:
        print(strict_json(report))
    else:
        for row in rows:
            fate = "ok  " if row["success"] else "FAIL"
            print(f"{row['task']:<22}{row['duration_s']:>6.1f} s  {fate}  {row['instruction']}: {row['reason']}")
        print(f"pictures and videos: {options.out}")
    return 0


def _play(world: World, physics: MujocoPhysics, name: str, names: tuple[str, ...], episode: int, size: int) -> dict[str, Any]:
    """One episode of a task's expert: facts, a picture for every half second, and of the first episode 25 for every second."""
    import numpy as np

    from embodichain.episode import Episode, NoPictures
    from embodichain.motion.action import ActionCodec
    from embodichain.rollout import ExpertPilot, drive
    from embodichain.stages import SceneStage

    facts: dict[str, Any] = {"success": False, "duration_s": 0.0, "instruction": "", "reason": ""}
    stills: list[NDArray[np.uint8]] = []
    film: list[NDArray[np.uint8]] = []
    try:
        goal, found = SceneStage(world, physics=physics).step(names.index(name) + episode * len(names))
        facts["instruction"] = found.instruction
        pilot, spec = ExpertPilot(goal, found, physics, np.random.default_rng(found.seed)), world.trajectory_spec
        codec, grader, shutter = ActionCodec(world.robot), goal.grader(found), NoPictures()
        played = Episode(found, pilot, grader, codec, shutter, spec.allocate(), spec)
        for number, state in enumerate(drive(physics, found, played)):
            facts["duration_s"] = round(state.time_s, 2)
            if number % 25 == 0:
                stills.append(overview(physics, size))
            if number % 2 == 0 and episode == 0:
                film.append(overview(physics, size, samples=1))
        stills.append(overview(physics, size))
        verdict = played.finish().verdict
        facts |= {"success": verdict.success, "reason": verdict.reason}
    except (SceneError, MotionError) as error:
        facts["reason"] = str(error)
    return {"facts": facts, "stills": stills, "film": film}


def _config(options: Namespace, names: tuple[str, ...]) -> WorldConfig:
    from embodichain.config import WorldConfig
    from embodichain.expand.diversity import DiversityConfig
    from embodichain.expand.physical import PhysicalConfig
    from embodichain.expand.visual import VisualConfig
    from embodichain.recovery.config import RecoveryConfig

    return WorldConfig(
        robot=options.robot,
        tasks=names,
        seed=options.seed,
        recovery=RecoveryConfig(probability=options.recovery),
        visual=VisualConfig(enabled=options.visual),
        physical=PhysicalConfig(enabled=options.physical),
        diversity=DiversityConfig(enabled=options.diverse),
    )
