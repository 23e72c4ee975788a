"""Commands that show worlds to people: scenes as files and pictures, tasks as pictures and videos."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser
from embodichain.commands.kinds import robot
from embodichain.errors import ConfigError, MotionError, SceneError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embodichain.config import WorldConfig
    from embodichain.physics.mujoco import MujocoPhysics
    from embodichain.world import World

_OVERVIEW = {"eye": (0.68, -0.30, 0.56), "target": (-0.03, 0.0, 0.05), "fovy": 48.0}


# --------------------------------------------------------------------------------------------------------------- scene


def scene(arguments: list[str]) -> int:
    """`embodichain scene sample`."""
    parser = Parser("scene", "Scenes as USD files.")
    sample = parser.subcommands().add_parser("sample", help="sample scenes of a task: USD files, pictures and a contact sheet")
    sample.add_argument("--task", type=_task, required=True, help="see `embodichain list`")
    sample.add_argument("-n", "--count", type=int, default=12, help="scenes to make (default 12)")
    sample.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for scene_*.usda, scene_*.png, contact.png, scenes.json"
    )
    sample.add_argument(
        "--robot", type=robot, default="dual_piper", help="a name from `embodichain list`, or the path of an MJCF file"
    )
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--first", type=int, default=0, help="number of the first scene: a number decides a scene (default 0)")
    sample.add_argument("--visual", action="store_true", help="with visual expansion")
    sample.add_argument("--physical", action="store_true", help="with physical expansion")
    sample.add_argument("--diverse", action="store_true", help="with reachability-aware diversity")
    sample.add_argument("--distractors", type=int, default=0, help="most objects that the task does not ask for (default 0)")
    sample.add_argument("--size", type=int, default=256, help="edge of a picture [pixels]; 0 makes none")
    sample.add_argument("--dry-run", action="store_true", help="say what would be made")
    sample.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    if options.count < 1 or options.size < 0 or options.size % 2:
        raise ConfigError(f"--count must be at least 1 and --size even and not negative, got {options.count} and {options.size}")
    if options.dry_run:
        last = options.first + options.count - 1
        if options.json:
            print(
                json.dumps({"dry_run": True, "task": options.task, "first": options.first, "last": last, "out": str(options.out)})
            )
        else:
            numbers = f"{options.first}..{last} of seed {options.seed}"
            print(f"scenes {numbers} of {options.task} for {options.robot} would go to {options.out}")
        return 0
    return _sample(options)


def _sample(options: Namespace) -> int:
    from embodichain.scenes import usd
    from embodichain.stages import SceneStage

    world = _prepare(_config(options, (options.task,)), quiet=options.json)
    physics = _mujoco(world)
    stage = SceneStage(world, physics=physics)
    rows: list[dict[str, Any]] = []
    pictures: list[NDArray[np.uint8]] = []
    refused: Counter[str] = Counter()
    for number in _progress(range(options.first, options.first + options.count), f"scenes of {options.task}", quiet=options.json):
        try:
            _, found = stage.step(number)
        except SceneError as error:
            refused[str(error)] += 1
            continue
        path = usd.write(found, options.out / f"scene_{number:05d}.usda")
        rows.append({"number": number, "seed": found.seed, "path": str(path), "instruction": found.instruction})
        if options.size:
            physics.reset(found)
            pictures.append(_overview(physics, options.size))
            _save(pictures[-1], path.with_suffix(".png"))
    if not rows:
        raise SceneError(f"none of {options.count} scenes could be made: {refused.most_common(1)[0][0]}")
    if pictures:
        _save(_sheet(pictures), options.out / "contact.png")
    report = {"task": options.task, "scenes": rows, "refused": sum(refused.values()), "reasons": dict(refused)}
    (options.out / "scenes.json").write_text(json.dumps(report, indent=1))
    if options.json:
        print(json.dumps(report))
    else:
        print(f"{len(rows)} scenes in {options.out}, {report['refused']} refused")
        for reason, count in refused.most_common(3):
            print(f"  {count} x {reason}")
    return 0


# --------------------------------------------------------------------------------------------------------------- tasks


def tasks(arguments: list[str]) -> int:
    """`embodichain tasks show`."""
    parser = Parser("tasks", "What tasks look like.")
    show = parser.subcommands().add_parser(
        "show", help="a contact sheet of start, middle and end, and a video, of each task's expert"
    )
    show.add_argument(
        "tasks", nargs="*", type=_task, metavar="TASK", help="see `embodichain list`; the built-in ones if none is named"
    )
    show.add_argument("-o", "--out", type=Path, required=True, help="folder for contact.png, TASK.png, TASK.mp4 and tasks.json")
    show.add_argument("-n", "--count", type=int, default=3, help="episodes of each task on its own sheet (default 3)")
    show.add_argument(
        "--robot", type=robot, default="dual_piper", help="a name from `embodichain list`, or the path of an MJCF file"
    )
    show.add_argument("--seed", type=int, default=0)
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

    rows: list[dict[str, Any]] = []
    sheet: list[NDArray[np.uint8]] = []
    world = _prepare(_config(options, names), quiet=options.json)
    physics = _mujoco(world)
    for name in _progress(names, "tasks", quiet=options.json):
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
            sheet += stills[:3]
            _save(_sheet(stills, columns=3), options.out / f"{name}.png")
    if not sheet:
        raise SceneError(f"no episode of {', '.join(names)} could be played: {rows[0]['reason']}")
    _save(_sheet(sheet, columns=3), options.out / "contact.png")
    report = {"episodes": rows, "contact_sheet": str(options.out / "contact.png")}
    (options.out / "tasks.json").write_text(json.dumps(report, indent=1))
    if options.json:
        print(json.dumps(report))
    else:
        for row in rows:
            fate = "ok  " if row["success"] else "FAIL"
            print(f"{row['task']:<22}{row['duration_s']:>6.1f} s  {fate}  {row['instruction']}: {row['reason']}")
        print(f"pictures and videos: {options.out}")
    return 0


def _play(world: World, physics: MujocoPhysics, name: str, names: tuple[str, ...], episode: int, size: int) -> dict[str, Any]:
    """Plays one episode of an expert: facts, two stills a second, and for the first episode the frames of a film, 25 a second."""
    import numpy as np

    from embodichain.episode import Episode, NoPictures
    from embodichain.motion.action import ActionCodec
    from embodichain.rollout import ExpertPilot, drive
    from embodichain.stages import SceneStage

    facts: dict[str, Any] = {"success": False, "duration_s": 0.0, "instruction": "", "reason": ""}
    stills: list[NDArray[np.uint8]] = []
    film: list[NDArray[np.uint8]] = []
    try:
        task, found = SceneStage(world, physics=physics).step(names.index(name) + episode * len(names))
        facts["instruction"] = found.instruction
        pilot, spec = ExpertPilot(task, found, physics, np.random.default_rng(found.seed)), world.trajectory_spec
        codec, grader, shutter = ActionCodec(world.robot), task.grader(found), NoPictures()
        played = Episode(found, pilot, grader, codec, shutter, spec.allocate(), spec)
        for number, state in enumerate(drive(physics, found, played)):
            facts["duration_s"] = round(state.time_s, 2)
            if number % 25 == 0:
                stills.append(_overview(physics, size))
            if number % 2 == 0 and episode == 0:
                film.append(_overview(physics, size, samples=1))
        stills.append(_overview(physics, size))
        verdict = played.finish().verdict
        facts |= {"success": verdict.success, "reason": verdict.reason}
    except (SceneError, MotionError) as error:
        facts["reason"] = str(error)
    return {"facts": facts, "stills": stills, "film": film}


# -------------------------------------------------------------------------------------------------------------- shared


def _task(text: str) -> str:
    """The name of a task that can be shown; raises ConfigError, which lists those, for any other."""
    from embodichain.tasks import TASKS, check
    from embodichain.tasks.benchmarks import benchmark

    if text == "counting":
        raise unknown("task", text, [name for name in TASKS if name != "counting"], "there is nothing to see in counting")
    check(text)
    if of := benchmark(text):
        raise ConfigError(
            f"scenes of {of} are its own affair: look at its episodes in the films of `embodichain eval`, or in a run"
        )
    return text


def _config(options: Namespace, names: tuple[str, ...]) -> WorldConfig:
    from embodichain.config import WorldConfig
    from embodichain.expand.diversity import DiversityConfig
    from embodichain.expand.physical import PhysicalConfig
    from embodichain.expand.visual import VisualConfig
    from embodichain.recovery.config import RecoveryConfig
    from embodichain.scenes.config import SampleConfig

    return WorldConfig(
        robot=options.robot,
        tasks=names,
        seed=options.seed,
        recovery=RecoveryConfig(probability=getattr(options, "recovery", 0.0)),
        visual=VisualConfig(enabled=options.visual),
        physical=PhysicalConfig(enabled=options.physical),
        scenes=SampleConfig(distractors=getattr(options, "distractors", 0)),
        diversity=DiversityConfig(enabled=options.diverse),
    )


def _prepare(config: WorldConfig, *, quiet: bool) -> World:
    from embodichain.prepare import prepare
    from embodichain.progress import Board

    with Board(quiet=quiet) as board:
        return prepare(config, board.update)


def _mujoco(world: World) -> MujocoPhysics:
    from embodichain.physics.mujoco import MujocoPhysics

    return MujocoPhysics(world.robot, width=world.config.width, height=world.config.height)


def _progress(items: Sequence[Any] | range, what: str, *, quiet: bool) -> Iterator[Any]:
    from embodichain.progress import Board

    with Board(quiet=quiet) as board:
        for number, item in enumerate(items, 1):
            yield item
            board.update(what, number, len(items))


def _overview(physics: MujocoPhysics, size: int, samples: int = 2) -> NDArray[np.uint8]:
    """A picture of the working area from the far side of the table, with the robot behind it."""
    from embodichain.physics.render import Viewpoint

    return physics.photograph(Viewpoint(**_OVERVIEW), width=size, height=size, samples=samples)


def _sheet(pictures: list[NDArray[np.uint8]], columns: int = 6) -> NDArray[np.uint8]:
    """Arranges pictures of one size in rows with white gaps."""
    import numpy as np

    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    gap = 4
    sheet = np.full((rows * (height + gap) - gap, min(columns, len(pictures)) * (width + gap) - gap, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet[row * (height + gap) : row * (height + gap) + height, column * (width + gap) : column * (width + gap) + width] = (
            picture
        )
    return sheet


def _save(picture: NDArray[np.uint8], path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
