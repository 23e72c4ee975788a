"""The same stages as Ray actors, one per worker: the only file that imports ray."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import ray
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embodichain.engine import EngineReport
from embodichain.errors import ConfigError, EmbodiChainError, RingClosed, RingError, RingTimeout, TrajectoryForfeited
from embodichain.ring.contract import AnyRing
from embodichain.ring.gateway import Gateway, RemoteRing
from embodichain.ring.host import journal_path
from embodichain.ring.layout import AT_GENERATION
from embodichain.ring.open import attach_ring
from embodichain.ring.stats import Observer
from embodichain.stages import Fate, Produced, RolloutStage, SceneStage, produce
from embodichain.types import TrajectoryId
from embodichain.world import World

__all__ = [
    "Courier",
    "GatewayActor",
    "RayConfig",
    "RayEngine",
    "RingHome",
    "SimulationWorker",
    "start_ray",
]


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """How simulation is spread."""

    workers: int = 2
    address: str = ""
    """Of a running cluster; empty starts one on this machine."""
    max_deaths: int = 16
    """Workers that may die and be replaced before the run stops."""
    gateway_only: bool = False
    """Also workers on the ring's node write through the gateway: to test it, and to measure what it costs."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RingHome:
    """Which ring, and on which of Ray's nodes it lies."""

    path: Path
    generation: int
    node: str
    journal: Path
    """The gateway's journal, on the same node; the next ring that is created there clears away one that was left."""

    @classmethod
    def of(cls, ring: AnyRing) -> RingHome:
        """The home of a ring that lies on this process's node."""
        node = ray.get_runtime_context().get_node_id()
        generation = Observer.open(ring.path).header(AT_GENERATION)
        return cls(path=ring.path, generation=generation, node=node, journal=journal_path(ring.path))

    def is_here(self) -> bool:
        """Whether this process is on the ring's node and sees that very ring."""
        if ray.get_runtime_context().get_node_id() != self.node:
            return False
        try:
            return Observer.open(self.path).header(AT_GENERATION) == self.generation
        except RingError:
            return False


_WATCH_S = 0.5
"""How often the gateway is asked who it is."""
_LAST_WATCH_S = 20.0
"""How long the end of the stream waits for a gateway that is being replaced."""


class GatewayActor:
    """The gateway as an actor on the ring's node; Ray starts it again when it dies, and the journal tells it what was delivered."""

    def __init__(self, home: RingHome) -> None:
        self._ring = attach_ring(home.path, reads=False)
        self._gateway = Gateway(self._ring, home.journal)

    def pid(self) -> int:
        """The process id, once the gateway is ready."""
        return os.getpid()

    def deliver(self, arrays: Mapping[str, NDArray], packed: int, timeout_s: float) -> bool:
        """See `Gateway.deliver`."""
        return self._gateway.deliver(arrays, TrajectoryId.unpack(packed), timeout_s=timeout_s)


class Courier:
    """Carries trajectories to a `GatewayActor` through Ray's object store: a `Deliver`. One trajectory at a time."""

    def __init__(self, gateway: ray.actor.ActorHandle) -> None:
        self._gateway = gateway

    def __call__(self, arrays: Mapping[str, NDArray], identity: TrajectoryId, timeout_s: float) -> bool:
        """Tries again while the ring is full or the gateway is being replaced, `timeout_s` at most.

        Raises RingError when no gateway comes back, and what `Gateway.deliver` raises.
        """
        parcel = ray.put(dict(arrays))
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                # Short turns: the gateway serves one worker at a time.
                return ray.get(self._gateway.deliver.remote(parcel, identity.pack(), 1.0))
            except RingTimeout:
                if time.monotonic() > deadline:
                    raise
            except ray.exceptions.RayActorError as error:
                if time.monotonic() > deadline or getattr(error, "actor_init_failed", False):
                    raise RingError(f"the gateway to the ring has not come back: {error}") from error
                time.sleep(0.1)


class SimulationWorker:
    """One simulating process: writes in place where it shares the ring's node, through the gateway elsewhere."""

    def __init__(
        self, world: World, home: RingHome, gateway: ray.actor.ActorHandle | None, worker: int, epoch: int, far: bool = False
    ) -> None:
        os.environ.setdefault("NUMBA_NUM_THREADS", "1")
        if gateway is not None and (far or not home.is_here()):
            self._ring = RemoteRing(world.stream_spec, Courier(gateway))
        else:
            self._ring = attach_ring(home.path, world.stream_spec, reads=False)
        self._rollouts = RolloutStage(world, self._ring, worker=worker, epoch=epoch)
        self._scenes = SceneStage(world, physics=self._rollouts.physics)

    def pid(self) -> int:
        """The process id, once the worker is ready."""
        return os.getpid()

    def produce(self, number: int) -> Produced | None:
        """Makes one number; waits for a free slot as long as the ring lives. None when the ring was closed."""
        while True:
            try:
                return produce(number, self._scenes, self._rollouts, timeout_s=1.0)
            except RingTimeout:
                continue
            except RingClosed:
                return None
            except TrajectoryForfeited as error:
                return Produced(number=number, task="", fate=Fate.REFUSED, reason=str(error))


class RayEngine:
    """Keeps `workers` actors busy with consecutive numbers, replaces those that die, and counts.

    A thread of the learner's process hands out numbers, so that the set of scenes does not depend on the number of workers. A
    worker's death forfeits its number: retrying could publish twice.
    """

    poll_s = 0.5

    def __init__(
        self,
        world: World,
        ring: AnyRing,
        config: RayConfig,
        *,
        first: int = 0,
        limit: int | None = None,
        on_produced: Callable[[Produced], None] = lambda produced: None,
    ) -> None:
        self.report = EngineReport()
        self._config = config
        self._ring = ring
        self._next = first
        self._end = None if limit is None else first + limit
        self._on_produced = on_produced
        self._stop = threading.Event()
        self._done = threading.Event()
        self._failure: BaseException | None = None
        self._started_ray = start_ray(config)
        self._world = ray.put(world)
        self._home = RingHome.of(ring)
        self._gateway = self._open_gateway()
        # Spread: by default Ray would put actors that ask for no CPU on one node.
        self._actor_class = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")(
            SimulationWorker
        )
        self._workers = [self._spawn(worker, epoch=0) for worker in range(config.workers)]
        self._epochs = [0] * config.workers
        self.gateway_pid = 0 if self._gateway is None else int(ray.get(self._gateway.pid.remote()))
        """Process of the gateway; 0 when all workers are on the ring's node."""
        self._asked: ray.ObjectRef | None = None
        self._look_at = 0.0
        self.pids: list[int] = ray.get([actor.pid.remote() for actor in self._workers])
        self._thread = threading.Thread(target=self._supervise, name="ray-engine", daemon=True)
        self._thread.start()

    @property
    def next_number(self) -> int:
        """The first number not yet handed out: where a resumed run goes on."""
        return self._next

    @property
    def exhausted(self) -> bool:
        """Whether every number up to the limit is accounted for: nothing will be published any more."""
        return self._done.is_set()

    def feed(self) -> None:
        """What a starved learner calls: workers fill the ring by themselves, so this only makes sure that they live."""
        self.check()

    def check(self) -> None:
        """Raises in the caller's thread what stopped production, if anything did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Ends the workers and, when this engine started it, Ray. A number in progress is dropped. Safe to call twice."""
        self._stop.set()
        self._thread.join(timeout=30.0)
        for actor in self._workers:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                ray.kill(actor, no_restart=True)
        if self._gateway is not None:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                ray.kill(self._gateway, no_restart=True)
            self._home.journal.unlink(missing_ok=True)
        if self._started_ray:
            self._started_ray = False
            ray.shutdown()

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _spawn(self, worker: int, epoch: int) -> ray.actor.ActorHandle:
        return self._actor_class.remote(self._world, self._home, self._gateway, worker, epoch, self._config.gateway_only)

    def _open_gateway(self) -> ray.actor.ActorHandle | None:
        """A gateway beside the ring when workers may be elsewhere: a cluster was named, or Ray has several nodes."""
        several = sum(bool(node["Alive"]) for node in ray.nodes()) > 1
        if not (self._config.address or several or self._config.gateway_only):
            return None
        actor_class = ray.remote(num_cpus=0, max_restarts=self._config.max_deaths, max_task_retries=0)(GatewayActor)
        here = NodeAffinitySchedulingStrategy(self._home.node, soft=False)
        return actor_class.options(scheduling_strategy=here).remote(self._home)

    def _supervise(self) -> None:
        pending: dict[ray.ObjectRef, tuple[int, int]] = {}

        def submit(worker: int) -> None:
            if self._end is None or self._next < self._end:
                pending[self._workers[worker].produce.remote(self._next)] = (worker, self._next)
                self._next += 1

        try:
            for worker in range(self._config.workers):
                submit(worker)
            while pending and not self._stop.is_set():
                self._watch_gateway()
                for reference in ray.wait(list(pending), timeout=0.2)[0]:
                    worker, number = pending.pop(reference)
                    try:
                        produced: Produced | None = ray.get(reference)
                    except ray.exceptions.RayActorError as error:
                        if error.actor_init_failed:  # it never began to work: another one would fail alike
                            raise
                        self._replace(worker, number)
                    else:
                        if produced is None:
                            return
                        self.report.add(produced)
                        self._on_produced(produced)
                    submit(worker)
            self._watch_gateway_to_the_end()
        except BaseException as error:
            self._failure = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        finally:
            self._done.set()

    def _watch_gateway(self) -> None:
        """Counts the gateway's deaths: Ray replaces it in silence, and workers only wait a little."""
        if self._gateway is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _WATCH_S
        if self._asked is None:
            self._asked = self._gateway.pid.remote()
        elif ray.wait([self._asked], timeout=0)[0]:
            self._hear_gateway(self._asked)
            self._asked = self._gateway.pid.remote()

    def _watch_gateway_to_the_end(self) -> None:
        """Asks once more when all is accounted for, and waits for the answer: a death since the last look counts too."""
        if self._gateway is None:
            return
        deadline = time.monotonic() + _LAST_WATCH_S
        while not self._stop.is_set() and time.monotonic() < deadline:
            asked = self._gateway.pid.remote()  # anew: an older question may have been answered by one that died since
            if ray.wait([asked], timeout=max(0.0, deadline - time.monotonic()))[0] and self._hear_gateway(asked):
                return
            time.sleep(0.1)

    def _hear_gateway(self, asked: ray.ObjectRef) -> bool:
        """Counts a death when another process answers than last time; False when none answers because it is being replaced."""
        try:
            pid = int(ray.get(asked))
        except ray.exceptions.RayError:
            return False
        self.report.gateway_deaths += pid != self.gateway_pid
        self.gateway_pid = pid
        return True

    def _replace(self, worker: int, number: int) -> None:
        """A new actor in the place of a dead one; its life gets the next epoch, so that ids never repeat."""
        self.report.crashed = (*self.report.crashed, number)
        if len(self.report.crashed) > self._config.max_deaths:
            raise EmbodiChainError(
                f"{len(self.report.crashed)} simulation workers died (limit {self._config.max_deaths}); the last worked on scene "
                f"{number}; see Ray's logs for its traceback, or run it alone with --engine serial"
            )
        self._epochs[worker] += 1
        self._workers[worker] = self._spawn(worker, self._epochs[worker])


def start_ray(config: RayConfig) -> bool:
    """Joins the cluster at `config.address` or starts Ray on this machine; True when it was started here."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    environment = {"env_vars": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}}
    if config.address:
        try:
            ray.init(address=config.address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise ConfigError(
                f"no Ray cluster answers at {config.address!r}; start one with `ray start --head`, or leave the address empty to "
                "start Ray on this machine"
            ) from error
        return True
    ray.init(
        address="local",  # without it Ray joins whatever cluster somebody else has running here
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        runtime_env=environment,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return True
