"""The stages of the pipe as plain objects with one `step()`: the serial engine calls them in turn, actors wrap them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodichain.darkroom import Darkroom, posable
from embodichain.episode import Episode, Outcome, Reels, Snapshots
from embodichain.errors import ConfigError, MotionError, RingTimeout, SceneError
from embodichain.expand.diversity import FEATURES, Choice, Floats, Interaction
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Hosted, Physics, Shutter, Task
from embodichain.ring.contract import AnySlot, SlotSource
from embodichain.rollout import ExpertPilot, drive, write_provenance
from embodichain.scenes.sample import SceneSampler
from embodichain.stage import Stage
from embodichain.types import Asset, Drawn, Scene, Timings, TrajectoryId
from embodichain.types.reels import BETWEEN_NOTES, MOST_NUMBERS, NOTES, PICTURES, SCENE, STAGE, CameraMode
from embodichain.world import Split, World, scene_seed

if TYPE_CHECKING:
    from embodichain.scenes.saved import SavedScenes

__all__ = ["Fate", "Produced", "RolloutStage", "SceneStage", "Take", "produce"]


_CANDIDATES = 1 << 32
"""Numbers from here on are candidates for diversity; no run has that many scenes."""


class SceneStage:
    """Turns a number into a task and a valid scene of it."""

    def __init__(self, world: World, split: Split = Split.STREAM, physics: Physics | None = None) -> None:
        """Scenes settle in `physics`, best the one that plays them next, so that their world is built once; None makes one.

        Where scenes of the configured physics settle in another, that is made.
        """
        self._tasks = world.make_tasks(split)
        self._sampler = SceneSampler(
            world.robot,
            world.assets,
            world.reach,
            visual=world.config.visual,
            physical=world.config.physical,
            diversity=world.config.diversity,
            config=world.config.scenes,
            bounds=world.config.bounds,
            physics=world.make_beside(physics),
        )
        folder = world.config.scenes.folder
        self._saved = _saved(Path(folder)) if folder and split is Split.STREAM else None
        self._seed = world.config.seed
        self._split = split
        self._pool = world.pool
        self._diversity = world.config.diversity
        self._chosen: dict[tuple[int, int], Choice] = {}
        """The choices for the most recent blocks of each task's numbers. A task that is listed twice has two series of them."""

    def step(self, number: int) -> tuple[Task, Scene]:
        """Scene `number` of this run; raises SceneError when there is no valid scene for its seed, or its file cannot be read."""
        turn, index = divmod(number, len(self._tasks))
        task = self._tasks[index]
        if self._saved is not None:
            return task, self._saved.scene(task.name, turn)
        return task, self._sampler.sample(task, self._scene_seed(number), self._fresh(number))

    def _fresh(self, number: int) -> tuple[Asset, ...] | None:
        """The assets of the pool for scene `number`, made now if no actor has made them; None without a pool."""
        if self._pool is None:
            return None
        return tuple(fresh.asset for fresh in self._pool.assets(number, held_out=self._split is not Split.STREAM))

    def interaction(self, task: Task, scene: Scene) -> Interaction:
        """The demands of a scene on a hand, from which diversity is computed."""
        return self._sampler.interaction(task, scene)

    def _scene_seed(self, number: int) -> int:
        """The seed of scene `number`; with diversity, one of its block's candidates, which are numbered after all of the run's."""
        diversity = self._diversity
        if not diversity.enabled:
            return scene_seed(self._seed, self._split, number)
        row, index = divmod(number, len(self._tasks))
        block, place = divmod(row, diversity.block)
        return self._choice(index, block).seeds[place]

    def _choice(self, index: int, block: int) -> Choice:
        """The choice for a block of a task's numbers: scenes that differ from one another and from earlier blocks in the series."""
        key = (index, block)
        if key not in self._chosen:
            diversity = self._diversity
            earlier = range(block - block % diversity.series, block)
            archive = np.concatenate([np.empty((0, len(FEATURES))), *(self._choice(index, before).features for before in earlier)])
            size = diversity.block * diversity.candidates
            numbers = ((_CANDIDATES + (block * size + i) * len(self._tasks) + index) for i in range(size))
            seeds = [scene_seed(self._seed, self._split, number) for number in numbers]
            self._chosen[key] = self._sampler.choose(self._tasks[index], seeds, archive)
            while len(self._chosen) > (diversity.series + 1) * len(self._tasks):
                self._chosen.pop(next(iter(self._chosen)))
        return self._chosen[key]

    def features(self, number: int) -> Floats:
        """The demands of scene `number` on a hand, as numbers; raises SceneError when there is no valid scene for its seed."""
        task = self._tasks[number % len(self._tasks)]
        return self._sampler.features(task, self._scene_seed(number), self._fresh(number))


def _saved(folder: Path) -> SavedScenes:
    """The scenes of a folder; imported here because pxr comes with them, which sampled scenes do without."""
    from embodichain.scenes.saved import SavedScenes

    return SavedScenes(folder)


class Fate(StrEnum):
    """The result of one scene number."""

    PUBLISHED = "published"
    EXPOSED = "exposed"
    """A success whose reel is on its way to the darkroom. It counts as published only once the darkroom has developed it."""
    REJECTED = "rejected"
    """The grader found no success. An expert's failed attempt is not worth learning from."""
    REFUSED = "refused"
    """There was no valid scene, or no plan for it."""


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
    drawn: tuple[Drawn, ...] = ()
    """Instances of the pool in its scene."""


Note = Callable[[NDArray[np.float64]], None]
"""Writes what pictures of a world depend on now: `Posable.note`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """An episode that is played elsewhere, and the arrays it fills: those of a trajectory without pictures, and `notes`."""

    number: int
    task: Task
    scene: Scene
    out: dict[str, NDArray]
    episode: Episode


class RolloutStage:
    """Plays a scene with its task's expert and publishes the trajectory into the ring, or its reel into a ring of reels.

    `camera` says when pictures are drawn; with DARKROOM the ring has `reel_spec(world.stream_spec)`. `physics` plays and draws;
    None makes one. Raises ConfigError for a physics whose pictures can only be drawn at once, unless `camera` does that.
    """

    def __init__(
        self,
        world: World,
        ring: SlotSource,
        *,
        worker: int,
        epoch: int,
        camera: CameraMode = CameraMode.SNAPSHOTS,
        physics: Physics | None = None,
    ) -> None:
        if camera is CameraMode.DARKROOM and world.pool is not None:
            raise ConfigError(
                "a darkroom knows the assets of a fixed catalogue, and those of assets.pool are made while the run goes on: choose "
                "camera='reels', or assets.pool.live=0"
            )
        self._world = world
        self._ring = ring
        self._worker = worker
        self._epoch = epoch
        self._blocked_s = 0.0
        self._timings = Timings()
        """Of the episode that is played now, or was played last."""
        self.physics = world.make_physics() if physics is None else physics
        self.codec = ActionCodec(world.robot)
        self._spec = world.trajectory_spec
        self._camera = camera
        self._good = Fate.EXPOSED if camera is CameraMode.DARKROOM else Fate.PUBLISHED
        self._note = None if camera is CameraMode.SNAPSHOTS else posable(self.physics).note
        self._darkroom = Darkroom(world.config, self.physics) if camera is not CameraMode.DARKROOM else None
        self._stage = Stage(world.robot, world.assets) if camera is CameraMode.DARKROOM else None
        self._notes = self._blank_notes() if camera is CameraMode.REELS else {}

    def step(self, number: int, task: Task, scene: Scene, *, timeout_s: float) -> Produced:
        """Plays one episode, written in place. Blocks up to `timeout_s` [s] for a free slot; raises RingTimeout or RingClosed."""
        with self._reserve(timeout_s) as slot:
            try:
                outcome = self.play(task, scene, slot)
            except (MotionError, SceneError) as error:
                slot.abandon()
                return self._refused(number, task, scene, error, self._timings)
            if outcome.verdict.success:
                self._sign(number, scene, outcome, slot)
            else:
                slot.abandon()
        return self._produced(number, task, scene, outcome)

    def _blank_notes(self) -> dict[str, NDArray]:
        horizon, between = self._spec.horizon, self._spec.between
        inside = {BETWEEN_NOTES: np.zeros((horizon, between, MOST_NUMBERS))} if between else {}
        return {NOTES: np.zeros((horizon + 1, MOST_NUMBERS)), **inside}

    def begin(self, number: int, task: Task, scene: Scene, note: Note) -> Take:
        """An episode that is played in another physics than this stage's, whose `note` writes what its pictures depend on.

        It takes a slot only when it is a success; otherwise a batch of many worlds would hold as many slots. For stages with
        camera=REELS.
        """
        out = {field.name: field.allocate() for field in self._world.stream_spec.fields if field.name not in PICTURES}
        out |= self._blank_notes()
        return Take(number=number, task=task, scene=scene, out=out, episode=self._episode(task, scene, out, Reels(note)))

    def end(self, take: Take, error: MotionError | SceneError | None, *, timeout_s: float) -> Produced:
        """Publishes a finished episode, with pictures drawn here, if it is a success; `error` is the one that ended it early.

        Blocks up to `timeout_s` [s] for a free slot; raises RingTimeout, after which it may be called again, or RingClosed.
        """
        try:
            if error is not None:
                raise error
            outcome = take.episode.finish()
            if outcome.verdict.success:
                with self._reserve(timeout_s) as slot:
                    for name, values in take.out.items():
                        if name not in (NOTES, BETWEEN_NOTES):
                            slot[name][...] = values
                    before = time.perf_counter()
                    self.physics.reset(take.scene)
                    outcome.timings.render_s += time.perf_counter() - before
                    assert self._darkroom is not None
                    notes = {name: take.out[name] for name in (NOTES, BETWEEN_NOTES) if name in take.out}
                    self._complete(take.scene, outcome, self._darkroom.canvas(slot) | notes, slot)
                    self._sign(take.number, take.scene, outcome, slot)
        except (MotionError, SceneError) as refusal:
            return self._refused(take.number, take.task, take.scene, refusal, take.episode.timings)
        return self._produced(take.number, take.task, take.scene, outcome)

    def _reserve(self, timeout_s: float) -> AnySlot:
        before = time.perf_counter()
        try:
            return self._ring.reserve(timeout_s=timeout_s)
        finally:
            self._blocked_s += time.perf_counter() - before  # includes earlier attempts at the same number

    def _sign(self, number: int, scene: Scene, outcome: Outcome, slot: AnySlot) -> None:
        identity = TrajectoryId(worker=self._worker, epoch=self._epoch, sequence=number)
        robot, physics = self._world.robot.name, self._world.config.physics
        versions = self.physics.versions if isinstance(self.physics, Hosted) else ""
        known = {drawn.name: drawn.instance for drawn in self._drawn(scene)}
        instances = {one.role: known[one.asset.name] for one in scene.objects if one.asset.name in known}
        write_provenance(
            slot,
            scene,
            outcome,
            identity=identity,
            robot=robot,
            physics=physics,
            versions=versions,
            instances=instances,
            origin=self._world.origin(number),
        )

    def _drawn(self, scene: Scene) -> tuple[Drawn, ...]:
        return () if self._world.pool is None else tuple(map(Drawn.of, self._world.pool.drawn(scene)))

    def _produced(self, number: int, task: Task, scene: Scene, outcome: Outcome) -> Produced:
        outcome.timings.blocked_s, self._blocked_s = self._blocked_s, 0.0
        return Produced(
            number=number,
            task=task.name,
            fate=self._good if outcome.verdict.success else Fate.REJECTED,
            reason=outcome.verdict.reason,
            num_chunks=outcome.num_chunks,
            recovered=outcome.recovered,
            timings=outcome.timings,
            drawn=self._drawn(scene),
        )

    def _refused(self, number: int, task: Task, scene: Scene, error: MotionError | SceneError, timings: Timings) -> Produced:
        """The report of an episode that ended in an error; the time that it took until then counts like that of others."""
        timings.blocked_s, self._blocked_s = self._blocked_s, 0.0
        drawn = self._drawn(scene)
        return Produced(number=number, task=task.name, fate=Fate.REFUSED, reason=str(error), timings=timings, drawn=drawn)

    def play(self, task: Task, scene: Scene, out: Mapping[str, NDArray]) -> Outcome:
        """Plays one expert episode into any arrays of the ring's spec. With reels, a failed episode gets no pictures."""
        canvas = dict(out) if self._darkroom is None else self._darkroom.canvas(out)
        canvas |= self._notes
        shutter = Snapshots(self.physics.render) if self._note is None else Reels(self._note)
        episode = self._episode(task, scene, canvas, shutter)
        self._timings = episode.timings
        for _ in drive(self.physics, scene, episode):
            pass
        outcome = episode.finish()
        if outcome.verdict.success:  # a failed episode is not published
            self._complete(scene, outcome, canvas, out)
        return outcome

    def _episode(self, task: Task, scene: Scene, out: Mapping[str, NDArray], shutter: Shutter) -> Episode:
        pilot = ExpertPilot(task, scene, self.physics, np.random.default_rng(scene.seed))
        return Episode(scene, pilot, task.grader(scene), self.codec, shutter, out, self._spec)

    def _complete(self, scene: Scene, outcome: Outcome, canvas: Mapping[str, NDArray], out: Mapping[str, NDArray]) -> None:
        """Adds the pictures and latents of a success, or its scene for the process that draws them."""
        num_frames = outcome.num_chunks + 1
        if self._stage is not None:
            self._stage.write(scene, out[SCENE])
            out[STAGE][()] = self._stage.key
        if self._darkroom is not None:
            if self._camera is CameraMode.REELS:
                self._darkroom.draw(canvas, canvas[NOTES], num_frames, outcome.timings, canvas.get(BETWEEN_NOTES))
            self._darkroom.encode(canvas, out, num_frames, outcome.timings)

    def close(self) -> None:
        """Frees the physics; the ring belongs to the caller."""
        self.physics.close()


def _impatient() -> bool:
    return False


def produce(
    number: int, scenes: SceneStage, rollouts: RolloutStage, *, timeout_s: float, patient: Callable[[], bool] = _impatient
) -> Produced:
    """Runs both stages for one number; a scene that cannot be sampled is reported, not raised.

    When the ring stays full for `timeout_s` [s], `patient` says whether to keep waiting with the same scene; otherwise RingTimeout
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
