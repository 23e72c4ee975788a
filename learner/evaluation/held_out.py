"""Scenes that no training saw: other seeds of the training's world, or a world shifted in one thing, or in all of them.

In distribution only the arrangement is new: objects are instances that the training met. A shifted world goes where it never went:

instances   other instances of every object, under the training's looks
looks       light colder, dimmer and more slanted than any streamed; patterns that no surface had; tables and objects up to twice
            as far from their own colours; the training's instances
physics     objects heavier and smoother, joints stiffer, servos softer, weaker and later than any streamed
placement   task objects anywhere in ranges half as wide again
words       asked for in phrases that no streamed episode used; the scenes are those in distribution
all at once the five together
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from embodichain import tasks
from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.protocols import Expert, Grader, Task
from embodichain.scenes.sample import SceneSampler
from embodichain.tasks.variants import widened
from embodichain.types import Range, Robot, Scene, SceneRequest, Texture, WorldState
from embodichain.world import Split, World, scene_seed
from learner.evaluation.config import Shift

_OTHER_INSTANCES = 7_919
"""Added to the seed of the assets: a catalogue that shares no instance with the training's."""
_BEYOND = 1.6
"""How far a shifted range reaches beyond the edge of the training's: a factor."""


class _Varied:
    """A task that asks for other scenes; its expert and its grader are the task's own."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.name = task.name

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """The task's expert."""
        return self._task.expert(scene, robot, state, rng)

    def grader(self, scene: Scene) -> Grader:
        """The task's grader."""
        return self._task.grader(scene)


class Widened(_Varied):
    """A task whose objects lie in ranges half as wide again; everything else is the task's own."""

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """The task's wish, placed more widely."""
        return widened(self._task.request(rng))


class Reworded(_Varied):
    """A task that asks in the words of its held-out variant for the scene that it would ask for itself."""

    def __init__(self, task: Task, speaker: Task) -> None:
        super().__init__(task)
        self._speaker = speaker

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """The task's wish in the speaker's words; takes as much from `rng` as the task does."""
        said = self._speaker.request(deepcopy(rng)).instruction
        return replace(self._task.request(rng), instruction=said)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """A world to be judged in, and the variants of its tasks."""

    shift: Shift
    world: World
    tasks: tuple[Task, ...]


def held_out(config: WorldConfig, shift: Shift, progress: Callable[[str, int, int], None]) -> HeldOut:
    """Prepares the world that `shift` makes of the training's; new instances are built and kept as all assets are."""
    return of_world(prepare(shifted(config, shift), progress), shift)


def of_world(world: World, shift: Shift = Shift.NONE) -> HeldOut:
    """The held-out set of a world that is prepared already, its configuration shifted or not."""
    return HeldOut(shift=shift, world=world, tasks=tuple(_variant(name, shift) for name in world.config.tasks))


def shifted(config: WorldConfig, shift: Shift) -> WorldConfig:
    """The training's configuration with ranges, instances or neither moved to where it never went."""
    everything = shift is Shift.ALL
    if everything or shift is Shift.INSTANCES:
        config = replace(config, assets=other_instances(config.assets, config.tasks))
    if everything or shift is Shift.LOOKS:
        config = replace(config, visual=beyond_visual(config.visual))
    if everything or shift is Shift.PHYSICS:
        config = replace(config, physical=beyond_physical(config.physical))
    return config


def other_instances(assets: AssetsConfig, names: Iterable[str]) -> AssetsConfig:
    """As many assets of each category that the tasks called `names` ask for, none of them the training's."""
    asked = tasks.categories(tasks.make(name) for name in names)
    return replace(assets.serving(asked), seed=assets.seed + _OTHER_INSTANCES)


def beyond_visual(visual: VisualConfig) -> VisualConfig:
    """Light colder, dimmer and more slanted than the training's, other patterns; colours up to twice as far from their own."""
    low, high = visual.intensity
    unseen = tuple(texture for texture in Texture if texture not in (*visual.textures, Texture.PLAIN))
    tilt = visual.tilt[1]
    return replace(
        visual,
        enabled=True,
        temperature=(visual.temperature[1], _BEYOND * visual.temperature[1]),
        intensity=(low / _BEYOND, low) if low > 0 else (high, 1.0),
        tilt=(min(tilt, 1.0), min(max(_BEYOND * tilt, 0.4), 1.2)),
        textures=unseen or visual.textures,
        patterned=1.0,
        table_shade=min(1.0, 2.0 * visual.table_shade),
        object_shade=min(1.0, 2.0 * visual.object_shade),
    )


def beyond_physical(physical: PhysicalConfig) -> PhysicalConfig:
    """Heavier, smoother, stiffer joints; softer, weaker, later servos than any of the training's, which is 1 when it draws none."""
    heavier = ("density", "joint_damping", "joint_friction", "arm_damping", "damping_ratio")
    lighter = ("friction", "stiffness", "torque", "grip_friction")
    ranges: dict[str, Range] = {}
    for name in (*heavier, *lighter):
        low, high = getattr(physical, name) if physical.enabled else (1.0, 1.0)
        ranges[name] = (high, high * _mild(name)) if name in heavier else (low / _mild(name), low)
    share, delay = (physical.ballast[1], physical.delay_s[1]) if physical.enabled else (0.0, 0.0)
    ranges["scale"] = (1.0, 1.0)  # held-out sets swap instances, not the sizes of those there are
    ranges |= {"ballast": (share, min(0.5, share + 0.15)), "delay_s": (delay, min(0.1, delay + 0.02))}
    return PhysicalConfig(enabled=True, **ranges)


def _mild(name: str) -> float:
    """Servos and fingers are the robot's own and vary less than what lies on the table."""
    return 1.25 if name in ("stiffness", "torque", "grip_friction", "damping_ratio") else _BEYOND


def _variant(name: str, shift: Shift) -> Task:
    if shift is Shift.WORDS:
        return Reworded(tasks.make(name), tasks.make(name, held_out=True))
    if shift is Shift.ALL:
        task, plain = tasks.make(name, held_out=True), tasks.make(name)
        if _ranges(task) != _ranges(plain):
            return task  # the task widens its own ranges, and asks in words of its own
        return Widened(task)
    return Widened(tasks.make(name)) if shift is Shift.PLACEMENT else tasks.make(name)


def _ranges(task: Task) -> list[tuple[Range, Range]]:
    return [(wanted.x, wanted.y) for wanted in task.request(np.random.default_rng(0)).objects]


def scenes(held: HeldOut, episodes: int) -> list[tuple[Task, Scene]]:
    """`episodes` scenes of each task, the same whenever asked; raises SceneError when more than half of the seeds have none."""
    world, config = held.world, held.world.config
    robot, assets, physics = world.robot, world.assets, world.make_physics()
    sampler = SceneSampler(
        robot, assets, world.reach, visual=config.visual, physical=config.physical, bounds=config.bounds, physics=physics
    )
    found: dict[str, list[tuple[Task, Scene]]] = {task.name: [] for task in held.tasks}
    if len(found) < len(held.tasks):
        raise ConfigError(f"tasks must differ, got {', '.join(task.name for task in held.tasks)}")
    reasons: list[str] = []
    for number in range(2 * episodes * len(held.tasks)):
        task = held.tasks[number % len(held.tasks)]
        rows = found[task.name]
        if len(rows) == episodes:
            continue
        try:
            fresh = None if world.pool is None else [one.asset for one in world.pool.assets(number, held_out=True)]
            rows.append((task, sampler.sample(task, scene_seed(config.seed, Split.HELD_OUT, number), fresh)))
        except SceneError as error:
            reasons.append(str(error))
    if any(len(rows) < episodes for rows in found.values()):
        raise SceneError(f"too few held-out scenes could be sampled; last reason: {reasons[-1] if reasons else 'none'}")
    return [row for rows in found.values() for row in rows]
