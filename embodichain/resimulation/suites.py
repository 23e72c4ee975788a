"""Suites: sets of scenes frozen by their numbers and by what does not depend on the kind of processor, with an expert's rate.

A suite is a small YAML file. Its scenes are made again from their numbers, and each is compared with what was frozen: the task's
words, the instances and what was drawn by a hash, and the places of objects to half a millimetre, because the last bits of meshes
and of settled poses differ between kinds of processors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from embodichain.config import WorldConfig
from embodichain.episode import NoPictures, Outcome, Snapshots
from embodichain.errors import ConfigError, EmbodiChainError, MotionError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Physics, Pilot, Task
from embodichain.rollout import rollout
from embodichain.stages import SceneStage
from embodichain.types import Scene, Verdict
from embodichain.types.plain import as_plain, content_hash, differing, from_plain
from embodichain.types.poses import wrap, yaw_of
from embodichain.world import Split, World

__all__ = ["FrozenScene", "PilotFactory", "Rate", "Suite", "SuiteEpisode", "freeze", "play", "scenes_of"]

PilotFactory = Callable[[Task, Scene, Physics], Pilot]
"""Makes the pilot of one episode."""
_PLACE = 1e-4
"""Unit of frozen places [m]."""
_YAW = 1e-3
"""Unit of frozen yaws [rad]."""
_NEAR = (5, 5, 10)
"""Largest difference of x, y and yaw from what was frozen, in these units: half a millimetre, and 0.01 rad."""
_OF_MESHES = ("com_shift_m",)
"""Draws that depend on the vertices of meshes, whose order may depend on the kind of processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenScene:
    """A scene of a suite: its number, the hash of what was drawn, and the place of each object (x, y [0.1 mm], yaw [mrad])."""

    number: int
    drawn: str
    places: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, number: int, scene: Scene) -> FrozenScene:
        """What is frozen of a scene."""
        places = []
        for placement in scene.objects:
            x, y, _ = placement.pose.position
            places.append((round(x / _PLACE), round(y / _PLACE), round(yaw_of(placement.pose.quaternion) / _YAW)))
        return cls(number=number, drawn=_drawn(scene), places=tuple(places))

    def check(self, scene: Scene) -> None:
        """Raises SceneError that says in what a scene is not the frozen one."""
        here = FrozenScene.of(self.number, scene)
        wrong = [] if here.drawn == self.drawn else [f"drawn: frozen {self.drawn}, here {here.drawn}"]
        if len(here.places) == len(self.places):
            for placement, then, now in zip(scene.objects, self.places, here.places, strict=True):
                turn = abs(wrap((then[2] - now[2]) * _YAW)) / _YAW
                apart = (abs(then[0] - now[0]), abs(then[1] - now[1]), turn)
                if any(difference > most for difference, most in zip(apart, _NEAR, strict=True)):
                    wrong.append(f"{placement.role} at (x, y [0.1 mm], yaw [mrad]): frozen {then}, here {now}")
        else:
            wrong.append(f"objects: frozen {len(self.places)}, here {len(here.places)}")
        if wrong:
            raise SceneError(f"scene {self.number} of {scene.task!r} is not the one that was frozen: {'; '.join(wrong)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often a pilot succeeded in a number of scenes."""

    successes: int
    episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A frozen set of scenes of one task."""

    name: str
    task: str
    split: Split
    config: WorldConfig
    scenes: tuple[FrozenScene, ...]
    expert: Rate | None = None
    """The expert's rate in the first scenes, as it was measured; None where it was not."""

    @classmethod
    def read(cls, path: Path) -> Suite:
        """The suite in a file; raises ConfigError for anything else."""
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            config = from_plain(WorldConfig, {**found["world"], "tasks": [found["task"]], "robot": found["robot"]})
            scenes = (
                FrozenScene(
                    number=int(number), drawn=str(entry[0]), places=tuple((int(x), int(y), int(yaw)) for x, y, yaw in entry[1:])
                )
                for number, entry in found["scenes"].items()
            )
            return cls(
                name=_named(path),
                task=found["task"],
                split=Split(found["split"]),
                config=config,
                scenes=tuple(scenes),
                expert=Rate(**found["expert"]) if found["expert"] else None,
            )
        except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, EmbodiChainError) as error:
            raise ConfigError(
                f"{path} is no suite of scenes ({type(error).__name__}: {error}); those that ship are in the folder scenes/, and "
                "`python scenes/freeze.py` writes them"
            ) from error

    def write(self, path: Path) -> Path:
        """Writes the suite as YAML, one line for each scene."""
        world = differing(self.config, WorldConfig())
        head: dict[str, Any] = {
            "task": self.task,
            "split": str(self.split),
            "robot": self.config.robot,
            "expert": {"successes": self.expert.successes, "episodes": self.expert.episodes} if self.expert else None,
            "world": {name: value for name, value in world.items() if name not in ("tasks", "robot")},
        }
        rows = [
            f'  {scene.number}: ["{scene.drawn}", {", ".join(str(list(place)) for place in scene.places)}]\n'
            for scene in self.scenes
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(head, sort_keys=False) + "scenes:\n" + "".join(rows), encoding="utf-8")
        return path


class SuiteEpisode(NamedTuple):
    """One episode in a scene of a suite."""

    number: int
    scene: Scene
    outcome: Outcome


def freeze(name: str, world: World, split: Split, count: int) -> Suite:
    """The first `count` scenes of a split of a world with one task; numbers that have no valid scene are left out.

    Raises SceneError when more than half of the numbers have none.
    """
    stage, found = SceneStage(world, split), []
    refusal = ""
    for number in range(2 * count):
        try:
            found.append(FrozenScene.of(number, stage.step(number)[1]))
        except SceneError as error:
            refusal = str(error)
        if len(found) == count:
            (task,) = world.config.tasks
            return Suite(name=name, task=task, split=split, config=world.config, scenes=tuple(found))
    raise SceneError(f"only {len(found)} of {2 * count} numbers have a scene for suite {name!r}; the last reason: {refusal}")


def scenes_of(
    suite: Suite, world: World, count: int | None = None, physics: Physics | None = None
) -> Iterator[tuple[int, Task, Scene]]:
    """The first `count` scenes of a suite, by default all, each with its number and task; `world` is prepared from its config.

    Raises SceneError for the first scene that is not as it was frozen.
    """
    stage = SceneStage(world, suite.split, physics)
    for frozen in suite.scenes[:count]:
        task, scene = stage.step(frozen.number)
        frozen.check(scene)
        yield frozen.number, task, scene


def play(suite: Suite, world: World, pilot: PilotFactory, *, pictures: bool, count: int | None = None) -> Iterator[SuiteEpisode]:
    """Plays the first `count` scenes of a suite, by default all, each until success, the pilot's end or the horizon.

    A pilot that finds no way fails the episode. Without `pictures` none are drawn, for pilots that see the true state.
    """
    physics = world.make_physics()
    codec, spec = ActionCodec(world.robot), world.trajectory_spec
    out = spec.allocate()
    try:
        for number, task, scene in scenes_of(suite, world, count, physics):
            shutter = Snapshots(physics.render) if pictures else NoPictures()
            driver = pilot(task, scene, physics)
            try:
                outcome = rollout(physics, codec, scene, driver, task.grader(scene), out, spec, until_success=True, shutter=shutter)
            except (MotionError, SceneError) as error:
                outcome = Outcome(verdict=Verdict(success=False, reason=str(error)), num_chunks=0, recovered=False)
            yield SuiteEpisode(number, scene, outcome)
    finally:
        physics.close()


def _named(path: Path) -> str:
    """A suite's name: its folder and file, as in turn_switch/in."""
    return f"{path.resolve().parent.name}/{path.stem}"


def _drawn(scene: Scene) -> str:
    """A hash of what a scene's random draws decided, without anything that was computed from meshes or settled in physics."""
    drawn: dict[str, Any] = {
        "task": scene.task,
        "seed": scene.seed,
        "instruction": scene.instruction,
        "objects": [[one.role, one.asset.category, one.asset.name, float(f"{one.asset.scale:.4g}")] for one in scene.objects],
        "textures": {role: str(texture) for role, texture in sorted(scene.looks.textures.items())},
        "expansion": {name: value for name, value in scene.expansion.items() if not name.endswith(_OF_MESHES)},
        "grains": len(scene.grains.positions),
        "pushes": len(scene.happening),
    }
    # Only where they are there, so that suites that were frozen before keep their hashes.
    seen = {"setting": scene.looks.setting, "sensor": scene.looks.sensor}
    drawn |= {name: as_plain(part) for name, part in seen.items() if part is not None}
    return content_hash(drawn)
