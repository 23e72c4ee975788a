"""What `embodichain scene` takes scenes from: suites, folders and files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.commands.pictures import prepare, progress
from embodichain.errors import ConfigError, SceneError

if TYPE_CHECKING:
    from embodichain.types import Robot, Scene
    from embodichain.world import World

LIBRARY = Path(__file__).parents[2] / "scenes"
"""The suites that ship, in a checkout."""
SOURCES = "a suite (a YAML file, or its name below scenes/, as turn_switch/in), a folder of scenes, or a scene's .usda file"


def suite(text: str) -> Path:
    """The file of a suite, by path or by name; raises ConfigError, which lists the suites that ship."""
    for path in (Path(text), LIBRARY / f"{text}.yaml"):
        if path.suffix == ".yaml" and path.is_file():
            return path
    known = sorted(f"{path.parent.name}/{path.stem}" for path in LIBRARY.glob("*/*.yaml"))
    raise ConfigError(f"there is no suite {text!r}; available: {', '.join(known) or 'none'}, or the path of a YAML file")


def source(text: str) -> Path:
    """A suite, a folder or a file of scenes."""
    path = Path(text)
    return path if path.is_dir() or (path.suffix == ".usda" and path.is_file()) else suite(text)


def scenes(source: Path, count: int | None, robot_name: str | None, *, quiet: bool) -> Iterator[tuple[str, Scene, World]]:
    """Scenes of a suite, a folder or a file: the name that each has as a file, itself, and a world that shows it."""
    from embodichain.resimulation.suites import Suite, scenes_of
    from embodichain.scenes import usd
    from embodichain.scenes.saved import SavedScenes

    if source.suffix == ".yaml":
        frozen = Suite.read(source)
        world = prepare(frozen.config, quiet=quiet)
        made = scenes_of(frozen, world, count, world.make_physics())
        for number, _, found in progress(made, frozen.name, quiet=quiet, total=len(frozen.scenes[:count])):
            yield f"{frozen.name.replace('/', '_')}_{number:05d}.usda", found, world
        return
    files = SavedScenes(source).paths if source.is_dir() else (source,)
    for path in progress(files[:count], source.name, quiet=quiet):
        yield path.name, usd.read(path), saved_world(usd.heading(path), robot_name)


def saved_world(heading: Any, robot_name: str | None) -> World:
    """A world for a scene that was read from a file, with the robot that it was saved with."""
    from embodichain import robots
    from embodichain.config import WorldConfig
    from embodichain.world import World

    told = heading.get("robot", {"name": robot_name or "dual_piper", "content_hash": ""})
    found = robots.get(robot_name or told["name"])
    if told["content_hash"] not in ("", found.content_hash):
        raise SceneError(
            f"the scene was saved with robot {told['name']!r} ({told['content_hash']}), and {found.name!r} here is "
            f"{found.content_hash}: give the file of that robot with --robot"
        )
    return World(config=WorldConfig(robot=robot_name or told["name"], tasks=(heading["task"],)), robot=found, assets=(), reach=None)


def robot_of(source: Path, robot_name: str | None) -> Robot:
    """The robot of the first scene of a source."""
    from embodichain import robots
    from embodichain.resimulation.suites import Suite
    from embodichain.scenes import usd
    from embodichain.scenes.saved import SavedScenes

    if source.suffix == ".yaml":
        return robots.get(Suite.read(source).config.robot)
    file = SavedScenes(source).paths[0] if source.is_dir() else source
    return saved_world(usd.heading(file), robot_name).robot
