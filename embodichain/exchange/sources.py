"""Where exported trajectories come from: scenes simulated here, or the ring of a running job, whose bound on reads applies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import MotionError, RingClosed, RingTimeout, SceneError
from embodichain.exchange.recorded import Recorded
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Physics
from embodichain.ring.contract import AnyRing
from embodichain.ring.ledger import Ledger, last_step
from embodichain.ring.stats import Observer
from embodichain.rollout import ExpertPilot, rollout, write_provenance
from embodichain.stages import SceneStage
from embodichain.types import Robot, TrajectoryId
from embodichain.world import World

__all__ = ["Told", "from_ring", "from_scenes"]

_HOPELESS = 100
"""Scenes in a row without an episode after which it is given up."""
_POLL_S = 0.2
_PATIENCE_S = 10.0
"""Longest wait for enough unseen trajectories in the ring [s]; after it, the few that are there are drawn."""
_NEWS = 0.5
"""Share of the ring's trajectories that must be unseen before one is drawn, as a draw of a seen trajectory wastes a read."""


@dataclass(slots=True, kw_only=True)
class Told:
    """Counters of a source."""

    refused: Counter[str] = field(default_factory=Counter)
    """Scenes that gave no episode, by reason."""
    reads: int = 0
    """Draws from the ring, all recorded in the ledger."""
    seen_before: int = 0
    """Draws that returned a trajectory exported before."""


def from_scenes(world: World, first: int, told: Told, between: Callable[[], None]) -> Iterator[Recorded]:
    """Simulates scenes `first`, `first + 1` ... with their tasks' experts, without end; yields the episodes that succeeded.

    A scene number gives the same episode as in a run of the same world. `between` is called before each scene and may raise.

    Raises SceneError after `_HOPELESS` scenes in a row without an episode: a task that never succeeds would go on for ever.
    """
    physics = world.make_physics()
    in_vain: Counter[str] = Counter()
    try:
        scenes, out = SceneStage(world, physics=physics), world.trajectory_spec.allocate()
        for number in count(first):
            between()
            made = _played(number, world, physics, scenes, out)
            if isinstance(made, Recorded):
                in_vain.clear()
                yield made
                continue
            told.refused[made] += 1
            in_vain[made] += 1
            if in_vain.total() >= _HOPELESS:
                often, times = in_vain.most_common(1)[0]
                raise SceneError(
                    f"no episode in {_HOPELESS} scenes in a row, {number - _HOPELESS + 1} to {number}; {times} of them: {often}"
                )
    finally:
        physics.close()


def _played(number: int, world: World, physics: Physics, scenes: SceneStage, out: dict[str, NDArray]) -> Recorded | str:
    """The episode of scene `number`, recorded in `out`; why there is none, where it did not succeed."""
    codec = ActionCodec(world.robot)
    try:
        task, scene = scenes.step(number)
        pilot = ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))
        outcome = rollout(physics, codec, scene, pilot, task.grader(scene), out, world.trajectory_spec)
    except (SceneError, MotionError) as error:
        return str(error)
    if not outcome.verdict.success:
        return outcome.verdict.reason
    identity = TrajectoryId(worker=0, epoch=0, sequence=number)
    write_provenance(out, scene, outcome, identity=identity, robot=world.robot.name, physics=world.config.physics)
    return Recorded.of(out, codec)


def from_ring(
    ring: AnyRing, robot: Robot, ledger: Path, seen: Collection[int], told: Told, between: Callable[[], None]
) -> Iterator[Recorded]:
    """Draws trajectories that are not in `seen` from a running job's ring until the ring closes, or its owner has died.

    Each draw uses one of the K reads of a trajectory, which the learner then lacks. It is recorded in the file `ledger`, with the
    learner's present iteration, before the trajectory is used. The ring's contents can be listed without a read, so that few
    draws are wasted. `between` is called before each look at the ring, also while nothing new arrives, and may raise.
    """
    codec, known = ActionCodec(robot), set(seen)
    observer, rng = Observer.open(ring.path), np.random.default_rng()
    since = time.monotonic()
    with Ledger.open(ledger) as book:
        while True:
            between()
            try:
                there = observer.ready().keys()
                news = len(there - known)
                if ring.closed or observer.stats().closed:
                    return
                patient = time.monotonic() - since < _PATIENCE_S
                if not news or (news < _NEWS * len(there) and patient):
                    if not observer.witness.owner_alive():  # a job that was killed has closed nothing, and nothing new comes
                        return
                    time.sleep(_POLL_S)
                    continue
                with ring.sample(1, timeout_s=1.0, rng=rng) as lease:
                    book.read(lease, step=last_step(ledger))
                    book.flush()
                    told.reads += 1
                    sample = lease[0]
                    if sample.trajectory_id in known:
                        told.seen_before += 1
                        continue
                    recorded = Recorded.of(sample, codec)
            except RingTimeout:
                continue
            except RingClosed:
                return
            known.add(recorded.trajectory_id)
            since = time.monotonic()
            yield recorded
