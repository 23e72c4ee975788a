"""The stages of the pipe as plain objects with one `step()`: the serial engine calls them in turn, actors wrap them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain import physics as physics_room
from embodichain import robots, tasks
from embodichain.assets.chain.catalog import build_catalog
from embodichain.config import WorldConfig
from embodichain.episode import Outcome
from embodichain.errors import MotionError, SceneError
from embodichain.expand.diversity import FEATURES, Choice, Floats, Interaction
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Physics, Task
from embodichain.ring import SlotSource
from embodichain.rollout import ExpertPilot, rollout, write_provenance
from embodichain.scenes.reach import ReachTable
from embodichain.scenes.sample import SceneSampler
from embodichain.types import Asset, Robot, Scene, Timings, TrajectoryId, TrajectorySpec

__all__ = [
    "Fate",
    "Produced",
    "Progress",
    "RolloutStage",
    "SceneStage",
    "Split",
    "World",
    "cache_dir",
    "check_names",
    "prepare",
    "produce",
    "scene_seed",
]

Progress = Callable[[str, int, int], None]
"""Called with (what is being worked on, done, total)."""


class Split(StrEnum):
    """Which family of scenes a seed belongs to: held-out scenes share no seed with those streamed."""

    STREAM = "stream"
    HELD_OUT = "held_out"


def scene_seed(run_seed: int, split: Split, number: int) -> int:
    """The 63-bit seed of scene `number`: the same whatever worker makes it, different between splits."""
    sequence = np.random.SeedSequence((run_seed, list(Split).index(split), number))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """The prepared parts that all workers share: built once, read only."""

    config: WorldConfig
    robot: Robot
    assets: tuple[Asset, ...]
    reach: ReachTable | None
    """None when no task places anything."""

    @property
    def trajectory_spec(self) -> TrajectorySpec:
        """The schema of this world's trajectories as they are played, with pixels."""
        return self.config.trajectory_spec(self.robot)

    @property
    def stream_spec(self) -> TrajectorySpec:
        """The schema of what goes into the ring."""
        return self.config.stream_spec(self.robot)

    def make_physics(self) -> Physics:
        """A fresh physics of the configured kind."""
        return physics_room.make(self.config.physics, robot=self.robot, width=self.config.width, height=self.config.height)

    def make_tasks(self) -> tuple[Task, ...]:
        """The configured tasks, in order."""
        return tuple(tasks.make(name, recovery=self.config.recovery) for name in self.config.tasks)


def cache_dir() -> Path:
    """Where derived data (assets, reachability tables) is kept: $EMBODICHAIN_CACHE or ~/.cache/embodichain."""
    return Path(os.environ.get("EMBODICHAIN_CACHE") or Path.home() / ".cache" / "embodichain")


def check_names(config: WorldConfig) -> tuple[Robot, tuple[Task, ...]]:
    """Looks up robot, tasks and physics; raises ConfigError or RobotError before anything long has begun."""
    physics_room.check(config.physics)
    return robots.get(config.robot), tuple(tasks.make(name, recovery=config.recovery) for name in config.tasks)


def _silent(what: str, done: int, total: int) -> None:
    """Shows no progress."""


def prepare(config: WorldConfig, progress: Progress = _silent) -> World:
    """Builds or loads everything that workers share: robot, assets and reachability table, the last two kept in `cache_dir()`.

    Of the catalogue only what the tasks ask for is built, unless there are distractors.

    Raises ConfigError or RobotError before anything long has begun, AssetError when an asset cannot be built.
    """
    robot, chosen = check_names(config)
    needed = tasks.categories(chosen)
    if not needed:
        return World(config=config, robot=robot, assets=(), reach=None)
    everything = config.scenes.distractors > 0  # which may be of any category
    assets = build_catalog(
        config.assets.serving(needed, others=everything),
        cache_dir() / "assets",
        progress=lambda done, total, name: progress("assets", done, total),
    )
    progress("compile renderer", 0, 1)
    physics_room.warm_up(config.physics)
    progress("compile renderer", 1, 1)
    reach = ReachTable.load_or_build(robot, cache_dir=cache_dir(), progress=lambda done, total: progress("reach", done, total))
    return World(config=config, robot=robot, assets=assets, reach=reach)


_CANDIDATES = 1 << 32
"""Numbers from here on are candidates for diversity: no run counts so far."""


class SceneStage:
    """Turns a number into a task and a valid scene of it."""

    def __init__(self, world: World, split: Split = Split.STREAM, physics: Physics | None = None) -> None:
        """Scenes settle in `physics`, best the one that plays them next, whose world is then built once; None makes one."""
        self._tasks = world.make_tasks()
        self._sampler = SceneSampler(
            world.robot,
            world.assets,
            world.reach,
            visual=world.config.visual,
            physical=world.config.physical,
            diversity=world.config.diversity,
            config=world.config.scenes,
            physics=world.make_physics() if physics is None else physics,
        )
        self._seed = world.config.seed
        self._split = split
        self._diversity = world.config.diversity
        self._chosen: dict[tuple[str, int], Choice] = {}
        """What was chosen for the blocks of a task's numbers that were met last."""

    def step(self, number: int) -> tuple[Task, Scene]:
        """Scene `number` of this run; raises SceneError when its seed has none."""
        task = self._tasks[number % len(self._tasks)]
        return task, self._sampler.sample(task, self._scene_seed(task, number))

    def interaction(self, task: Task, scene: Scene) -> Interaction:
        """What a scene asks of a hand: what diversity is told by."""
        return self._sampler.interaction(task, scene)

    def _scene_seed(self, task: Task, number: int) -> int:
        """The seed of scene `number`; with diversity one of its block's candidates, which are numbered after all of the run's."""
        diversity = self._diversity
        if not diversity.enabled:
            return scene_seed(self._seed, self._split, number)
        block, place = divmod(number // len(self._tasks), diversity.block)
        return self._choice(task, block).seeds[place]

    def _choice(self, task: Task, block: int) -> Choice:
        """What is chosen for a block of a task's numbers: to differ among themselves and from the blocks before in its series."""
        key = (task.name, block)
        if key not in self._chosen:
            diversity = self._diversity
            earlier = range(block - block % diversity.series, block)
            archive = np.concatenate([np.empty((0, len(FEATURES))), *(self._choice(task, before).features for before in earlier)])
            index = self._tasks.index(task)
            size = diversity.block * diversity.candidates
            numbers = ((_CANDIDATES + (block * size + i) * len(self._tasks) + index) for i in range(size))
            seeds = [scene_seed(self._seed, self._split, number) for number in numbers]
            self._chosen[key] = self._sampler.choose(task, seeds, archive)
            while len(self._chosen) > (diversity.series + 1) * len(self._tasks):
                self._chosen.pop(next(iter(self._chosen)))
        return self._chosen[key]

    def features(self, number: int) -> Floats:
        """What scene `number` asks of a hand, as numbers; raises SceneError when its seed has none."""
        task = self._tasks[number % len(self._tasks)]
        return self._sampler.features(task, self._scene_seed(task, number))


class Fate(StrEnum):
    """What became of one scene number."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    """The grader found no success: an expert's failed attempt is not experience worth learning from."""
    REFUSED = "refused"
    """No valid scene or no plan for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """The report of one `RolloutStage.step`: small, sent from workers to the engine."""

    number: int
    task: str
    fate: Fate
    reason: str
    num_chunks: int = 0
    recovered: bool = False
    timings: Timings = field(default_factory=Timings)


class RolloutStage:
    """Plays a scene with its task's expert and publishes the trajectory into the ring."""

    def __init__(self, world: World, ring: SlotSource, *, worker: int, epoch: int) -> None:
        self._world = world
        self._ring = ring
        self._worker = worker
        self._epoch = epoch
        self.physics = world.make_physics()
        self.codec = ActionCodec(world.robot)
        self._spec = world.trajectory_spec
        self._encoder = world.config.encode.make() if world.config.encode.factory else None
        self._pixels = self._spec.field("rgb").allocate() if self._encoder is not None else None

    def step(self, number: int, task: Task, scene: Scene, *, timeout_s: float) -> Produced:
        """One episode, written in place. Blocks up to `timeout_s` for a free slot; raises RingTimeout or RingClosed."""
        with self._ring.reserve(timeout_s=timeout_s) as slot:
            try:
                outcome = self.play(task, scene, slot)
            except (MotionError, SceneError) as error:
                slot.abandon()
                return Produced(number=number, task=task.name, fate=Fate.REFUSED, reason=str(error))
            if outcome.verdict.success:
                identity = TrajectoryId(worker=self._worker, epoch=self._epoch, sequence=number)
                robot, physics = self._world.robot.name, self._world.config.physics
                write_provenance(slot, scene, outcome, identity=identity, robot=robot, physics=physics)
            else:
                slot.abandon()
        return Produced(
            number=number,
            task=task.name,
            fate=Fate.PUBLISHED if outcome.verdict.success else Fate.REJECTED,
            reason=outcome.verdict.reason,
            num_chunks=outcome.num_chunks,
            recovered=outcome.recovered,
            timings=outcome.timings,
        )

    def play(self, task: Task, scene: Scene, out: Mapping[str, NDArray]) -> Outcome:
        """One expert episode into any arrays of the stream's spec."""
        pilot = ExpertPilot(task, scene, self.physics, np.random.default_rng(scene.seed))
        if self._encoder is None or self._pixels is None:
            return rollout(self.physics, self.codec, scene, pilot, task.grader(scene), out, self._spec)
        arrays = {name: out[name] for name in out if name != "latents"} | {"rgb": self._pixels}
        outcome = rollout(self.physics, self.codec, scene, pilot, task.grader(scene), arrays, self._spec)
        if outcome.verdict.success:  # what failed is not published: nobody will look
            before = time.perf_counter()
            frames = outcome.num_chunks + 1
            out["latents"][:frames] = self._encoder.encode(self._pixels[:frames])
            out["latents"][frames:] = 0
            outcome.timings.encode_s += time.perf_counter() - before
        return outcome

    def close(self) -> None:
        """Frees the physics; the ring belongs to the caller."""
        self.physics.close()


def produce(number: int, scenes: SceneStage, rollouts: RolloutStage, *, timeout_s: float) -> Produced:
    """Both stages for one number; a scene that cannot be sampled is reported, not raised."""
    try:
        task, scene = scenes.step(number)
    except SceneError as error:
        return Produced(number=number, task="", fate=Fate.REFUSED, reason=str(error))
    return rollouts.step(number, task, scene, timeout_s=timeout_s)
