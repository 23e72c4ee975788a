"""Actors that make assets ahead of the scenes that draw them: the same crew as that of simulation, with other work."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import ray
from ray.util.scheduling_strategies import NodeLabelSchedulingStrategy

from embodichain.errors import SceneError
from embodichain.processes import Identity
from embodichain.protocols import AssetPool
from embodichain.ray_engine.config import RayConfig
from embodichain.ray_engine.crew import Crew
from embodichain.ray_engine.doubts import Lost
from embodichain.ray_engine.hello import Hello, own_log
from embodichain.ray_engine.work import Raised, each
from embodichain.types import Instance
from embodichain.world import World

__all__ = ["AssetActor", "Made", "Workshop"]


class Made(NamedTuple):
    """An instance that is there now, and the sources that were refused in its place before; in its place too when none was left."""

    number: int
    refused: tuple[str, ...]


class AssetActor:
    """One process that makes assets: it answers as a `SimulationWorker` does, so that one crew keeps either."""

    def __init__(self, world: World) -> None:
        """For the pool of `world`, which has one."""
        for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
            os.environ.setdefault(name, "1")
        assert world.pool is not None
        self._pool = world.pool
        self._since = time.monotonic()

    def hello(self) -> Hello:
        """Who it is, once it is ready to work."""
        return Hello(Identity.own(), ray.get_runtime_context().get_node_id(), own_log())

    def sign(self) -> float:
        """Time since it began to work [s]; answered while `produce` goes on."""
        return time.monotonic() - self._since

    def leave(self) -> None:
        """Ends its process: it is not needed any more."""
        ray.actor.exit_actor()

    def produce(self, numbers: Sequence[int]) -> list[Made | Raised]:
        """Makes the instances that have these numbers."""
        return each(numbers, self._make)

    def _make(self, number: int) -> Made:
        """Makes an instance unless it is there; waits while another process makes it."""
        self._since = time.monotonic()
        try:
            return Made(number, self._pool.get(self._pool.ordered(number)).refused)
        except SceneError as error:  # all of its sources were refused: the scenes that ask for it say so
            return Made(number, (str(error),))


class Workshop:
    """Keeps asset actors busy with the instances that scenes draw next. Owned by the engine's thread; `pids` by any.

    Nothing depends on it: an instance that is not made when a scene needs it is made by whoever simulates that scene.
    """

    def __init__(self, world: ray.ObjectRef, pool: AssetPool, first: int, actors: int, config: RayConfig, *, home: str) -> None:
        """Actors of the `world` that `pool` is of, placed as workers are; scene `first` is the first that they work for."""
        self._pool, self._orders = pool, pool.orders(first)
        self._next = next(self._orders)
        actor_class = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(AssetActor)
        cores = config.cpus_per_worker if config.address else 0

        def hire(index: int, epoch: int, where: NodeLabelSchedulingStrategy) -> ray.actor.ActorHandle:
            return actor_class.options(num_cpus=cores, scheduling_strategy=where, max_concurrency=2).remote(world)

        self._crew = Crew(hire, actors, home=home, hang_s=config.hang_s, epoch=0)

    @property
    def pids(self) -> list[int]:
        """Process ids of the actors that are ready."""
        return [who.pid for worker in self._crew.workers if (who := worker.who) is not None]

    def instance(self, number: int) -> Instance:
        """The instance that an actor was given as this number."""
        return self._pool.ordered(number)

    def work(self, begun: int, end: int) -> Iterator[Made | Lost]:
        """Hands out what scenes before `end` draw; what has become of instances and actors since the last look.

        Scenes before `begun` are with the workers, who make what they need.
        """
        for actor in self._crew.idle():
            while self._next[0] < begun:
                self._next = next(self._orders)
            if self._next[0] >= end:
                break
            self._crew.submit(actor, (self._pool.number_of(self._next[1]),))
            self._next = next(self._orders)
        for outcome in self._crew.wait(0.0):
            assert isinstance(outcome, Made | Lost)
            yield outcome

    def dismiss(self) -> None:
        """Ends all actors."""
        self._crew.dismiss()
