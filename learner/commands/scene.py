"""`embodichain scene`: scenes as files, packed, compared, made again from their records, played, and judged in frozen suites."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser, Subcommands, check_writable, existing, natural
from embodichain.commands.kinds import robot
from embodichain.commands.pictures import mujoco, overview, prepare, progress, save, sheet, task
from embodichain.errors import ConfigError, SceneError
from embodichain.lines import strict_json
from learner.commands import scene_playing as playing
from learner.commands.scene_sources import SOURCES, robot_of, saved_world, source, suite
from learner.commands.scene_sources import scenes as scenes_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embodichain.config import WorldConfig
    from embodichain.types import Scene
    from embodichain.world import World


def main(arguments: list[str]) -> int:
    """`embodichain scene`."""
    parser = Parser("scene", "Scenes as files: sampled, packed, compared, made again, played, and judged in frozen suites.")
    commands = parser.subcommands()
    _add_sample(commands)
    load = commands.add_parser("load", help="read a scene, or make it again from its record alone, and say whether it is the same")
    load.add_argument("file", type=existing, help="a scene's .usda file, its record (.json), or a trajectory's provenance (.json)")
    load.add_argument("-o", "--out", type=Path, help="a .usda file to write the scene to")
    load.add_argument("--picture", type=Path, help="a .png file for a picture of it")
    load.add_argument("--any-revision", action="store_true", help="let this engine try what another has recorded; hashes decide")
    pack = commands.add_parser("pack", help="write scenes and all that they refer to into one folder that opens anywhere")
    pack.add_argument("sources", nargs="+", type=source, metavar="SOURCE", help=SOURCES)
    pack.add_argument("-o", "--out", type=Path, required=True, help="the folder; pack.json in it lists scenes, assets and licences")
    pack.add_argument("-n", "--count", type=int, help="most scenes of each source (default all)")
    pack.add_argument("--robot", type=robot, help="of scenes that were saved without one (default dual_piper)")
    diff = commands.add_parser("diff", help="list the values in which two scenes differ: 0 if in none, else 1")
    for name in ("first", "second"):
        diff.add_argument(name, type=existing, help="a scene's .usda file, or a record (.json)")
    play = commands.add_parser("play", help="play scenes with the expert of their task, and say how it went")
    play.add_argument("source", type=source, help=SOURCES)
    play.add_argument("-o", "--out", type=Path, help="a folder for a film of each episode")
    render = commands.add_parser("render", help="draw scenes on one contact sheet")
    render.add_argument("source", type=source, help=SOURCES)
    render.add_argument("-o", "--out", type=Path, required=True, help="the .png file")
    render.add_argument("--size", type=int, default=256, help="edge of a picture [pixels] (default 256)")
    for one, many in ((play, 4), (render, 24)):
        one.add_argument("-n", "--count", type=int, default=many, help=f"most scenes (default {many})")
        one.add_argument("--robot", type=robot, help="of scenes that were saved without one (default dual_piper)")
    evaluate = commands.add_parser("eval", help="judge the expert, or a policy, in frozen suites")
    evaluate.add_argument("suites", nargs="+", type=suite, metavar="SUITE", help="a YAML file, or its name below scenes/")
    who = evaluate.add_mutually_exclusive_group()
    who.add_argument("--expert", action="store_true", help="the task's expert, which sees the true state (default)")
    who.add_argument("--policy", type=Path, metavar="RUN|CHECKPOINT|POLICY", help="a trained policy, or builtin:NAME")
    evaluate.add_argument("-n", "--count", type=int, help="most scenes of each suite (default all)")
    for one in commands.parsers:
        one.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    if (count := getattr(options, "count", None)) is not None and count < 1:
        raise ConfigError(f"--count must be at least 1, got {count}")
    if (size := getattr(options, "size", 0)) < 0 or size % 2:
        raise ConfigError(f"--size must be even and not negative, got {size}")
    told = {"sample": _sample, "load": _load, "pack": _pack, "diff": _diff}
    shown = {"play": playing.play, "render": playing.render, "eval": playing.evaluate}
    return {**told, **shown}[options.command](options)


def _add_sample(commands: Subcommands) -> None:
    sample = commands.add_parser("sample", help="sample scenes of a task: USD files, records, pictures and a contact sheet")
    add = sample.add_argument
    add("--task", type=task, required=True, help="see `embodichain list`")
    add("-n", "--count", type=int, default=12, help="scenes to make (default 12)")
    add(
        "-o", "--out", type=Path, required=True, help="folder for scene_*.usda, scene_*.json, scene_*.png, contact.png, scenes.json"
    )
    add("--robot", type=robot, default="dual_piper", help="a name from `embodichain list`, or the path of an MJCF file")
    add("--seed", type=natural, default=0)
    add("--first", type=natural, default=0, help="number of the first scene: a number decides a scene (default 0)")
    add("--visual", action="store_true", help="with visual expansion")
    add("--rooms", action="store_true", help="in rooms, with environment light and finishes (visual.setting)")
    add("--sensors", action="store_true", help="with blur, a rolling shutter and errors of depth (visual.sensor)")
    add("--physical", action="store_true", help="with physical expansion")
    add("--diverse", action="store_true", help="with reachability-aware diversity")
    add("--distractors", type=natural, default=0, help="most objects that the task does not ask for (default 0)")
    add("--size", type=int, default=256, help="edge of a picture [pixels]; 0 makes none")
    add("--dry-run", action="store_true", help="say what would be made")


# -------------------------------------------------------------------------------------------------------------- sample


def _sample(options: Namespace) -> int:
    last = options.first + options.count - 1
    if options.dry_run:
        told = {"dry_run": True, "task": options.task, "first": options.first, "last": last, "out": str(options.out)}
        numbers = f"{options.first}..{last} of seed {options.seed}"
        print(
            strict_json(told)
            if options.json
            else f"scenes {numbers} of {options.task} for {options.robot} would go to {options.out}"
        )
        return 0
    from embodichain.resimulation import SceneRecord
    from embodichain.scenes import usd
    from embodichain.stages import SceneStage
    from embodichain.world import check_names

    config = _config(options)
    check_names(config)
    check_writable(options.out)
    world = prepare(config, quiet=options.json)
    physics = mujoco(world)
    stage = SceneStage(world, physics=physics)
    rows: list[dict[str, Any]] = []
    pictures: list[NDArray[np.uint8]] = []
    refused: Counter[str] = Counter()
    for number in progress(range(options.first, last + 1), f"scenes of {options.task}", quiet=options.json):
        try:
            _, found = stage.step(number)
        except SceneError as error:
            refused[str(error)] += 1
            continue
        path = usd.write(found, options.out / f"scene_{number:05d}.usda", world.robot)
        record = SceneRecord.of(world, number, found, physics=physics).write(path.with_suffix(".json"))
        row = {"number": number, "seed": found.seed, "path": str(path), "record": str(record), "instruction": found.instruction}
        rows.append(row)
        if options.size:
            pictures.append(overview(physics, options.size))
            save(pictures[-1], path.with_suffix(".png"))
    if not rows:
        raise SceneError(f"none of {options.count} scenes could be made: {refused.most_common(1)[0][0]}")
    if pictures:
        save(sheet(pictures), options.out / "contact.png")
    report = {"task": options.task, "scenes": rows, "refused": sum(refused.values()), "reasons": dict(refused)}
    (options.out / "scenes.json").write_text(json.dumps(report, indent=1))
    if options.json:
        print(strict_json(report))
        return 0
    print(f"{len(rows)} scenes in {options.out}, {report['refused']} refused")
    for reason, count in refused.most_common(3):
        print(f"  {count} x {reason}")
    return 0


def _config(options: Namespace) -> WorldConfig:
    from embodichain.config import WorldConfig
    from embodichain.expand.diversity import DiversityConfig
    from embodichain.expand.physical import PhysicalConfig
    from embodichain.expand.setting import SensorConfig, SettingConfig
    from embodichain.expand.visual import VisualConfig
    from embodichain.scenes.config import SampleConfig

    return WorldConfig(
        robot=options.robot,
        tasks=(options.task,),
        seed=options.seed,
        visual=VisualConfig(
            enabled=options.visual,
            setting=SettingConfig(enabled=options.rooms),
            sensor=SensorConfig(enabled=options.sensors),
        ),
        physical=PhysicalConfig(enabled=options.physical),
        scenes=SampleConfig(distractors=options.distractors),
        diversity=DiversityConfig(enabled=options.diverse),
    )


# ---------------------------------------------------------------------------------------------------------- load, diff


def _load(options: Namespace) -> int:
    from embodichain.scenes import usd
    from embodichain.scenes.values import content_hash

    found, world, how = _read(options.file, any_revision=options.any_revision, quiet=options.json)
    told: dict[str, Any] = {
        "task": found.task,
        "seed": found.seed,
        "instruction": found.instruction,
        "hash": content_hash(found),
        "how": how,
        "objects": {one.role: one.asset.name for one in found.objects},
    }
    if options.out:
        told["out"] = str(usd.write(found, options.out, world.robot))
    if options.picture:
        physics = mujoco(world)
        physics.reset(found)
        save(overview(physics, 512), options.picture)
        told["picture"] = str(options.picture)
    if options.json:
        print(strict_json(told))
        return 0
    print(f'{told["task"]}, seed {told["seed"]}: "{told["instruction"]}"\n  {how}, hash {told["hash"]}')
    for role, name in told["objects"].items():
        print(f"  {role:<16} {name}")
    return 0


def _diff(options: Namespace) -> int:
    from embodichain.scenes.values import differences

    first, second = (_read(path, any_revision=True, quiet=options.json)[0] for path in (options.first, options.second))
    found = differences(first, second)
    if options.json:
        print(strict_json({"differences": [entry._asdict() for entry in found]}))
    else:
        for entry in found:
            print(f"{entry.path}: {_short(entry.first)} | {_short(entry.second)}")
        print(f"{len(found)} values differ" if found else "the same in every value, bit for bit")
    return 1 if found else 0


def _read(path: Path, *, any_revision: bool, quiet: bool) -> tuple[Scene, World, str]:
    """A scene from its file or its record, a world to show it in, and how it was come by."""
    from embodichain.resimulation import SceneRecord, check_origin, rebuild
    from embodichain.scenes import usd

    if path.suffix == ".json":
        record = SceneRecord.read(path)
        world = prepare(check_origin(record.origin, any_revision=any_revision), quiet=quiet)
        return rebuild(record, world).scene, world, "made again from its record, the same to the bit"
    found = usd.read(path)
    return found, saved_world(usd.heading(path), None), "read from its file"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---------------------------------------------------------------------------------------------------------------- pack


def _pack(options: Namespace) -> int:
    from embodichain.scenes.saved import pack

    robots: dict[str, Any] = {}

    def scenes() -> Iterator[tuple[str, Scene]]:
        taken: set[str] = set()
        for place in options.sources:
            for name, found, world in scenes_in(place, options.count, options.robot, quiet=options.json):
                if robots.setdefault("robot", world.robot).content_hash != world.robot.content_hash:
                    raise ConfigError(f"one pack has one robot, and {place} has {world.robot.name!r}: pack it elsewhere")
                if name in taken:
                    raise ConfigError(f"two scenes would be {name} in {options.out}: pack {place} elsewhere")
                taken.add(name)
                yield name, found

    first = next(iter(options.sources))
    robots["robot"] = robot_of(first, options.robot)
    index = pack(scenes(), options.out, robots["robot"])
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    if options.json:
        print(strict_json({"out": str(options.out), "bytes": size, **index}))
        return 0
    licences = Counter(row["licence"] for row in index["assets"])
    print(f"{len(index['scenes'])} scenes with {len(index['assets'])} assets in {options.out}, {size / 1e6:.1f} MB")
    told = ", ".join(f"{name or 'none stated'} ({count})" for name, count in licences.items())
    print(f"  licences: {told}")
    return 0
