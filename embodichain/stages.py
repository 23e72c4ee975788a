"""The stages of the pipe as plain objects with one `step()`: the serial engine calls them in turn, actors wrap them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from embodichain.episode import Outcome
from embodichain.errors import MotionError, RingTimeout, SceneError
from embodichain.expand.diversity import FEATURES, Choice, Floats, Interaction
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Physics, Task
from embodichain.ring.contract import SlotSource
from embodichain.rollout import ExpertPilot, rollout, write_provenance
from embodichain.scenes.sample import SceneSampler
from embodichain.types import Scene, Timings, TrajectoryId
from embodichain.world import Split, World, scene_seed

__all__ = ["Fate", "Produced", "RolloutStage", "SceneStage", "produce"]


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
            bounds=world.config.bounds,
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
        self._blocked_s = 0.0
        self.physics = world.make_physics()
        self.codec = ActionCodec(world.robot)
        self._spec = world.trajectory_spec
        self._encoder = world.config.encode.make() if world.config.encode.factory else None
        self._pixels = self._spec.field("rgb").allocate() if self._encoder is not None else None
        encodes_depth = self._encoder is not None and world.config.depth and self._encoder.encodes_depth
        self._depths = self._spec.field("depth").allocate() if encodes_depth else None

    def step(self, number: int, task: Task, scene: Scene, *, timeout_s: float) -> Produced:
        """One episode, written in place. Blocks up to `timeout_s` for a free slot; raises RingTimeout or RingClosed."""
        before = time.perf_counter()
        try:
            reserved = self._ring.reserve(timeout_s=timeout_s)
        finally:
            self._blocked_s += time.perf_counter() - before  # of a number that is tried again, all of it
        with reserved as slot:
            try:
                outcome = self.play(task, scene, slot)
            except (MotionError, SceneError) as error:
                slot.abandon()
                return Produced(number=number, task=task.name, fate=Fate.REFUSED, reason=str(error))
            outcome.timings.blocked_s, self._blocked_s = self._blocked_s, 0.0
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
        arrays = {name: out[name] for name in out if name not in ("latents", "depth_latents")} | {"rgb": self._pixels}
        if self._depths is not None:
            arrays["depth"] = self._depths
        outcome = rollout(self.physics, self.codec, scene, pilot, task.grader(scene), arrays, self._spec)
        if outcome.verdict.success:  # what failed is not published: nobody will look
            before = time.perf_counter()
            frames = outcome.num_chunks + 1
            out["latents"][:frames] = self._encoder.encode(self._pixels[:frames])
            out["latents"][frames:] = 0
            if self._depths is not None:
                out["depth_latents"][:frames] = self._encoder.encode_depth(self._depths[:frames])
                out["depth_latents"][frames:] = 0
            outcome.timings.encode_s += time.perf_counter() - before
        return outcome

    def close(self) -> None:
        """Frees the physics; the ring belongs to the caller."""
        self.physics.close()


def _impatient() -> bool:
    return False


def produce(
    number: int, scenes: SceneStage, rollouts: RolloutStage, *, timeout_s: float, patient: Callable[[], bool] = _impatient
) -> Produced:
    """Both stages for one number; a scene that cannot be sampled is reported, not raised.

    When the ring stays full for `timeout_s` [s], `patient` says whether to go on waiting with the same scene; else RingTimeout
    is raised.
    """
    try:
        task, scene = scenes.step(number)
    except SceneError as error:
        return Produced(number=number, task="", fate=Fate.REFUSED, reason=str(error))
    while True:
        try:
            return rollouts.step(number, task, scene, timeout_s=timeout_s)
        except RingTimeout:
            if not patient():
                raise
