"""The loops: an episode drives a scene in a physics, or many do in a batch of worlds, and the recorded data goes into a slot."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from embodichain import __version__
from embodichain.episode import Episode, Outcome, Replay, Snapshots
from embodichain.errors import MotionError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.protocols import BatchPhysics, Driver, Expert, Grader, Physics, Pilot, Shutter, Task
from embodichain.types import (
    Failed,
    Origin,
    Push,
    Pushed,
    Scene,
    Step,
    TrajectoryId,
    TrajectoryInfo,
    TrajectorySpec,
    WorldState,
    write_text,
)

__all__ = ["Drives", "Ended", "ExpertPilot", "drive", "drive_batch", "replay", "rollout", "write_provenance"]


class ExpertPilot:
    """Drives with a task's scripted expert, which observes the true state at every control step."""

    def __init__(self, task: Task, scene: Scene, physics: Physics, rng: np.random.Generator) -> None:
        self._start = lambda state: task.expert(scene, physics.robot, state, rng)
        self._expert: Expert | None = None

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """Does nothing, because an expert needs no pictures."""

    def command(self, state: WorldState) -> Step | None:
        """The expert's next step; None once it has returned."""
        try:
            if self._expert is None:
                self._expert = self._start(state)
                return next(self._expert)
            return self._expert.send(state)
        except StopIteration:
            return None


# --------------------------------------------------------------------------------------------------------------- loops


def drive(physics: Physics, scene: Scene, driver: Driver) -> Iterator[WorldState]:
    """The main loop: plays `scene` in `physics` with `driver`, and yields the initial state and the state after every control step.

    A caller that needs more of an episode than its driver records can look at the physics between two states. Time spent in the
    physics is added to the driver's timings. Raises whatever driver and physics raise (MotionError, SceneError).
    """
    clock, timings = time.perf_counter, driver.timings
    before = clock()
    state = physics.reset(scene)
    timings.physics_s += clock() - before
    driver.begin(state)
    yield state
    while (order := driver.command()) is not None:
        before = clock()
        state = physics.step(order.command, order.pushes)
        timings.physics_s += clock() - before
        driver.observe(state)
        yield state


Drives = TypeVar("Drives", bound=Driver)


class Ended(NamedTuple, Generic[Drives]):
    """An episode of a batch that is over: its driver, the world it was played in, and the error that ended it, if any."""

    world: int
    driver: Drives
    error: MotionError | SceneError | None


def drive_batch(batch: BatchPhysics, take: Callable[[int], tuple[Scene, Drives] | None]) -> Iterator[Ended[Drives]]:
    """The same loop for many worlds: each world plays one episode after another, and each episode is yielded when it is over.

    `take(world)` gives the next scene and its driver for a free world, or None if there is nothing at the moment. It is asked again
    after every control step; the loop ends once nothing is played anywhere. While an episode is yielded, its world still has the
    episode's last state. The time of the physics is shared out evenly among the episodes in progress.
    """
    playing: dict[int, Drives] = {}
    command = np.tile(batch.robot.home, (batch.num_worlds, 1))
    while True:
        over: list[Ended[Drives]] = []
        free = (world for world in range(batch.num_worlds) if world not in playing)
        taken = {world: play for world in free if (play := take(world)) is not None}
        if taken:
            with suppress(SceneError):  # the tape reports the world, and reading its state raises the error again
                batch.load(list(taken), [scene for scene, _ in taken.values()])
            tape = batch.look()
            for world, (_, driver) in taken.items():
                try:
                    driver.begin(tape.state(world))
                    playing[world] = driver
                except (MotionError, SceneError) as error:
                    over.append(Ended(world, driver, error))
        pushes: dict[int, tuple[Push, ...]] = {}
        for world, driver in playing.items():
            try:
                order = driver.command()
            except (MotionError, SceneError) as error:
                over.append(Ended(world, driver, error))
                continue
            if order is None:
                over.append(Ended(world, driver, None))
            else:
                command[world], pushes[world] = order
        for ended in over:
            playing.pop(ended.world, None)
            yield ended
        if not playing and not over and not taken:
            return
        if not playing:
            continue
        before = time.perf_counter()
        tape = batch.step(command, pushes)
        share = (time.perf_counter() - before) / len(playing)
        for world, driver in list(playing.items()):
            driver.timings.physics_s += share
            try:
                driver.observe(tape.state(world))
            except (MotionError, SceneError) as error:
                del playing[world]
                yield Ended(world, driver, error)


def rollout(
    physics: Physics,
    codec: ActionCodec,
    scene: Scene,
    pilot: Pilot,
    grader: Grader,
    out: Mapping[str, NDArray],
    spec: TrajectorySpec,
    *,
    until_success: bool = False,
    shutter: Shutter | None = None,
) -> Outcome:
    """Plays `scene` once and writes the trajectory into `out`, the writable arrays of `spec`'s fields; see `Episode`.

    Frames are drawn at once by the physics unless another `shutter` takes them. Raises whatever the pilot or physics raises
    (MotionError, SceneError); `out` is then incomplete and must not be published.
    """
    episode = Episode(scene, pilot, grader, codec, shutter or Snapshots(physics.render), out, spec, until_success=until_success)
    for _ in drive(physics, scene, episode):
        pass
    return episode.finish()


def replay(
    physics: Physics,
    codec: ActionCodec,
    scene: Scene,
    actions: NDArray[np.float32],
    grader: Grader | None = None,
    *,
    failed: Sequence[Failed] = (),
    pushed: Sequence[Pushed] = (),
) -> WorldState:
    """Plays stored actions, shape [F, K, A], in the scene they were recorded in, and returns the final state.

    The inverse of `rollout`: with the same physics and the same external forces, that state is bitwise the final state of the
    recording. A `grader` observes every step, so that a stored label can be checked, and pardons the failed attempts.
    """
    return deque(drive(physics, scene, Replay(codec, actions, grader, failed=failed, pushed=pushed)), maxlen=1).pop()


def write_provenance(
    out: Mapping[str, NDArray],
    scene: Scene,
    outcome: Outcome,
    *,
    identity: TrajectoryId,
    robot: str,
    physics: str,
    versions: str = "",
    instances: Mapping[str, str] | None = None,
    origin: Origin | None = None,
) -> None:
    """Writes id and provenance of a finished episode into its slot, so that any sample can be traced and simulated again."""
    info = TrajectoryInfo(
        task=scene.task,
        robot=robot,
        physics=physics,
        scene_seed=scene.seed,
        worker=identity.worker,
        engine_version=__version__,
        assets={placement.role: placement.asset.content_hash for placement in scene.objects},
        expansion=scene.expansion,
        success=outcome.verdict.success,
        reason=outcome.verdict.reason,
        recovered=outcome.recovered,
        failed=outcome.failed,
        pushed=outcome.pushed,
        versions=versions,
        instances=instances or {},
        origin=origin,
    )
    write_text(out["info"], info.encode())
    out["trajectory_id"][()] = identity.pack()
