"""Held-out scenes: other seeds of the training distribution, or a distribution that is shifted in one respect or in all.

In distribution only the arrangement is new: the objects are instances seen in training. The shifted distributions are:

instances   other instances of every object, with the visual variation of training
looks       light colder, dimmer and more slanted than any in training; textures that no surface had; tables and objects up to
            twice as far from their own colours; the instances of training
physics     objects heavier and smoother, joints stiffer, servos softer, weaker and later than any in training
placement   task objects in ranges 1.5 times as wide
words       instructions in phrases that no training episode used; the scenes are those in distribution
all at once all five together
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from embodichain import tasks
from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.setting import reserved
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.protocols import Task
from embodichain.scenes.sample import SceneSampler
from embodichain.tasks.held_out import Reworded, Widened, out_of_distribution
from embodichain.types import Range, Scene, Texture
from embodichain.world import Split, World, scene_seed
from learner.evaluation.config import Shift

_OTHER_INSTANCES = 7_919
"""Added to the seed of the assets, so that no instance is shared with training."""
_BEYOND = 1.6
"""Factor by which a shifted range reaches beyond the edge of the training range."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """The world of an evaluation, and the variants of its tasks."""

    shift: Shift
    world: World
    tasks: tuple[Task, ...]


def held_out(config: WorldConfig, shift: Shift, progress: Callable[[str, int, int], None]) -> HeldOut:
    """Prepares the training world shifted by `shift`; new instances are built and cached as all assets are."""
    return of_world(prepare(shifted(config, shift), progress), shift)


def of_world(world: World, shift: Shift = Shift.NONE) -> HeldOut:
    """The held-out set of an already prepared world."""
    return HeldOut(shift=shift, world=world, tasks=tuple(_variant(name, shift) for name in world.config.tasks))


def shifted(config: WorldConfig, shift: Shift) -> WorldConfig:
    """The configuration of the training world with its ranges or instances replaced as `shift` says."""
    everything = shift is Shift.ALL
    if everything or shift is Shift.INSTANCES:
        config = replace(config, assets=other_instances(config.assets, config.tasks))
    if everything or shift is Shift.LOOKS:
        config = replace(config, visual=beyond_visual(config.visual))
    if everything or shift is Shift.PHYSICS:
        config = replace(config, physical=beyond_physical(config.physical))
    return config


def other_instances(assets: AssetsConfig, names: Iterable[str]) -> AssetsConfig:
    """The same number of assets in each category that the tasks `names` use, but none of the training's instances."""
    asked = tasks.categories(tasks.make(name) for name in names)
    return replace(assets.serving(asked), seed=assets.seed + _OTHER_INSTANCES)


def beyond_visual(visual: VisualConfig) -> VisualConfig:
    """Light colder, dimmer and more slanted than in training, other textures, colours up to twice as far from the object's own."""
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
        setting=reserved(visual.setting) if visual.setting.enabled else visual.setting,
    )


def beyond_physical(physical: PhysicalConfig) -> PhysicalConfig:
    """Objects heavier, smoother and with stiffer joints, servos softer, weaker and later than in training.

    A parameter that training does not vary counts as the range 1 to 1.
    """
    heavier = ("density", "joint_damping", "joint_friction", "arm_damping", "damping_ratio")
    lighter = ("friction", "stiffness", "torque", "grip_friction")
    ranges: dict[str, Range] = {}
    for name in (*heavier, *lighter):
        low, high = getattr(physical, name) if physical.enabled else (1.0, 1.0)
        ranges[name] = (high, high * _mild(name)) if name in heavier else (low / _mild(name), low)
    share, delay = (physical.ballast[1], physical.delay_s[1]) if physical.enabled else (0.0, 0.0)
    ranges["scale"] = (1.0, 1.0)  # sizes are shifted by other instances, not by rescaling the same ones
    ranges |= {"ballast": (share, min(0.5, share + 0.15)), "delay_s": (delay, min(0.1, delay + 0.02))}
    return PhysicalConfig(enabled=True, **ranges)


def _mild(name: str) -> float:
    """Whether a parameter belongs to the robot, whose servos and fingers are shifted less than objects."""
    return 1.25 if name in ("stiffness", "torque", "grip_friction", "damping_ratio") else _BEYOND


def _variant(name: str, shift: Shift) -> Task:
    if shift is Shift.WORDS:
        return Reworded(tasks.make(name), tasks.make(name, held_out=True))
    if shift is Shift.ALL:
        return out_of_distribution(name)
    return Widened(tasks.make(name)) if shift is Shift.PLACEMENT else tasks.make(name)


def scenes(held: HeldOut, episodes: int) -> list[tuple[Task, Scene]]:
    """`episodes` scenes of each task, the same in every call; raises SceneError when more than half of the seeds give none."""
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
