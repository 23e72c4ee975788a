"""The Ray engine: distributes consecutive scene numbers to workers and handles failures; and the actor classes."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import ray
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy

from embodichain.darkroom_stage import DarkroomStage, Developed
from embodichain.engine import WHOLE, Numbers, Share, Start
from embodichain.errors import EmbodiChainError, RingClosed, RingError, RingTimeout, TrajectoryForfeited
from embodichain.processes import Identity
from embodichain.ray_engine.breath import Breath
from embodichain.ray_engine.config import RayConfig
from embodichain.ray_engine.courier import Courier
from embodichain.ray_engine.crew import Crew
from embodichain.ray_engine.doubts import Lost, write_down
from embodichain.ray_engine.hello import Hello, own_log
from embodichain.ray_engine.home import RingHome
from embodichain.ray_engine.lab import Answer, Lab, LostReel
from embodichain.ray_engine.start import start_ray
from embodichain.ray_engine.weather import Cause, Deaths
from embodichain.ray_engine.work import Raised, each
from embodichain.ray_engine.workshop import Workshop
from embodichain.ring.contract import AnyRing
from embodichain.ring.gateway import DeliveryResult, Gateway, Parcel
from embodichain.ring.open import attach_ring, create_ring
from embodichain.ring.remote import RemoteRing
from embodichain.stages import Fate, Produced, RolloutStage, SceneStage, produce
from embodichain.types import RingSpec, TrajectoryId, TrajectorySpec
from embodichain.types.reels import CameraMode, DarkroomPlace, reel_spec
from embodichain.world import World

_WATCH_S = 0.5
"""Interval at which the gateway is checked [s]."""
_LAST_WATCH_S = 20.0
"""How long the end of the stream waits for a gateway that is being replaced."""
_DELIVERIES = 4
"""Number of trajectories that the gateway receives concurrently; one more concurrent call is reserved for checks."""
_REELS = 4
"""Reels that may wait for the darkroom, in addition to two for each worker."""
_TURN_S = 0.5
"""Duration of one call to a darkroom [s]: it renders, or waits for a reel or for room in the ring."""
_START_S = 30.0
"""How long the start waits for the other workers after the first is ready [s]; workers without a core start later."""


class GatewayActor:
    """The gateway as an actor on the ring's node. Ray restarts it when it dies; its journal says what was delivered."""

    def __init__(self, home: RingHome) -> None:
        self._ring = attach_ring(home.path, reads=False, generation=home.generation)
        self._gateway = Gateway(self._ring, home.journal)

    def process(self) -> Identity:
        """Which process it is; answered once the gateway is ready."""
        return Identity.own()

    def deliver(self, batch: Sequence[tuple[Mapping[str, NDArray], int]], timeout_s: float) -> list[DeliveryResult]:
        """See `Gateway.deliver_all`; `batch` has the arrays and the packed id of each trajectory."""
        parcels = [Parcel(arrays, TrajectoryId.unpack(packed)) for arrays, packed in batch]
        return self._gateway.deliver_all(parcels, timeout_s=timeout_s)


class SimulationWorker:
    """A simulating process. On the ring's node it writes into the ring in place, on other nodes through the gateway."""

    def __init__(
        self,
        world: World,
        home: RingHome,
        spec: TrajectorySpec,
        gateway: ray.actor.ActorHandle | None,
        worker: int,
        epoch: int,
        *,
        camera: CameraMode = CameraMode.SNAPSHOTS,
        far: bool = False,
        together: int = 1,
    ) -> None:
        """`home` is that of the ring to write into, `spec` the schema of its trajectories."""
        os.environ.setdefault("NUMBA_NUM_THREADS", "1")
        self._since = time.monotonic()
        if gateway is not None and (far or not home.is_here()):
            self._far = RemoteRing(spec, Courier(gateway, self._waited), together=together)
            self._ring = self._far
        else:
            self._far, self._ring = None, attach_ring(home.path, spec, reads=False, generation=home.generation)
        self._rollouts = RolloutStage(world, self._ring, worker=worker, epoch=epoch, camera=camera)
        self._scenes = SceneStage(world, physics=self._rollouts.physics)

    def hello(self) -> Hello:
        """Its identity; answered once it is ready to work."""
        return Hello(Identity.own(), ray.get_runtime_context().get_node_id(), own_log(), far=self._far is not None)

    def sign(self) -> float:
        """Time since it last began to work or waited [s]; answered concurrently with `produce`."""
        return time.monotonic() - self._since

    def leave(self) -> None:
        """Leaves the ring and ends the process."""
        self._rollouts.close()
        self._ring.close()
        ray.actor.exit_actor()

    def produce(self, numbers: Sequence[int]) -> list[Produced | Raised] | None:
        """Produces numbers; waits for free slots while the ring lives. None when the ring was closed."""
        try:
            made = each(numbers, self._make)
            lost = self._far.flush() if self._far is not None else {}
            for error in lost.values():
                if not isinstance(error, TrajectoryForfeited):
                    raise error
        except RingClosed:
            return None
        forfeited = {identity.sequence: _forfeited(identity.sequence, error) for identity, error in lost.items()}
        return [forfeited.get(one.number, one) for one in made]

    def _make(self, number: int) -> Produced:
        self._since = time.monotonic()
        try:
            return produce(number, self._scenes, self._rollouts, timeout_s=1.0, patient=self._waited)
        except TrajectoryForfeited as error:
            return _forfeited(number, error)

    def _waited(self) -> bool:
        """Called while it waits for a free slot, which counts as a heartbeat."""
        self._since = time.monotonic()
        return True


def _forfeited(number: int, error: RingError) -> Produced:
    return Produced(number=number, task="", fate=Fate.REFUSED, reason=str(error))


class LabActor:
    """A `DarkroomStage` as an actor on the ring's node."""

    def __init__(self, world: World, reels: RingHome, reel: TrajectorySpec, home: RingHome, place: DarkroomPlace) -> None:
        os.environ.setdefault("NUMBA_NUM_THREADS", "1")
        self._rings = (
            attach_ring(reels.path, reel, generation=reels.generation),
            attach_ring(home.path, world.stream_spec, reads=False, generation=home.generation),
        )
        self._stage = DarkroomStage(world, *self._rings, place=place)

    def pid(self) -> int:
        """The process id; answered once the darkroom is ready."""
        return os.getpid()

    def develop(self) -> Answer:
        """Renders the reels that come within one call."""
        developed: list[Developed] = []
        end = time.monotonic() + _TURN_S
        while (left_s := end - time.monotonic()) > 0.0:
            try:
                made = self._stage.step(timeout_s=left_s)
            except RingTimeout:
                break
            except RingClosed:
                return Answer(tuple(developed), closed=True)
            if made is None:
                return Answer(tuple(developed), idle=True)
            developed.append(made)
        return Answer(tuple(developed))


class RayEngine:
    """Keeps workers busy with consecutive scene numbers, replaces lost workers, and counts results.

    A thread of the learner's process hands out numbers, so that the set of scenes does not depend on the number of workers. If a
    worker dies, its numbers are lost, because a retry could publish them twice. The run ends when losses of a cause exceed their
    budget.
    """

    poll_s = 0.5

    def __init__(
        self,
        world: World,
        ring: AnyRing,
        config: RayConfig,
        *,
        start: Start | None = None,
        limit: int | None = None,
        share: Share = WHOLE,
        on_produced: Callable[[Produced], None] = lambda produced: None,
    ) -> None:
        start = start or Start()
        self.report = start.report
        self._numbers = Numbers(start, limit, share)
        self._config = config
        self._on_produced = on_produced
        self._deaths = Deaths(config.budgets)
        self._breath = Breath(ring, config.elastic) if config.elastic is not None else None
        self._stop, self._done, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._failure: BaseException | None = None
        self._gateway: ray.actor.ActorHandle | None = None
        self._gateway_process: Identity | None = None
        self._crew: Crew | None = None
        self._lab: Lab | None = None
        self._workshop: Workshop | None = None
        self._reels: AnyRing | None = None
        self._thread: threading.Thread | None = None
        self._started_ray = start_ray(config)
        try:
            self._spec = world.stream_spec
            self._ahead = world.config.assets.pool.ahead
            self._home = home = RingHome.of(ring)
            self._world = ray.put(world)
            if config.camera is CameraMode.DARKROOM:
                self._spec = reel_spec(world.stream_spec)
                self._reels = create_ring(RingSpec(trajectory=self._spec, num_slots=_REELS + 2 * config.workers, max_reads=1))
                self._home = RingHome.of(self._reels)
                self._lab = self._open_lab(self._home, home)
            self._gateway = self._open_gateway()
            self._actor_class = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(SimulationWorker)
            self._crew = Crew(self._hire, config.workers, home=self._home.node, hang_s=config.hang_s, epoch=start.epoch)
            if world.pool is not None and (actors := world.config.assets.pool.actors):
                self._workshop = Workshop(self._world, world.pool, start.next_number, actors, config, home=self._home.node)
            if self._gateway is not None:
                self._gateway_process = ray.get(self._gateway.process.remote())
            self._asked: ray.ObjectRef | None = None
            self._asked_at = 0.0
            self._look_at = 0.0
            self._thread = threading.Thread(target=self._supervise, args=(self._crew,), name="ray-engine", daemon=True)
            self._thread.start()
            self._await_workers()
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready, in order."""
        workers = self._crew.workers if self._crew is not None else ()
        return [who.pid for worker in workers if (who := worker.who) is not None]

    @property
    def asset_pids(self) -> list[int]:
        """Process ids of the asset actors that are ready; none where assets are of a fixed catalogue."""
        return self._workshop.pids if self._workshop is not None else []

    @property
    def gateway_pid(self) -> int:
        """Process id of the gateway; 0 when all workers are on the ring's node."""
        return self._gateway_process.pid if self._gateway_process is not None else 0

    @property
    def darkroom_pid(self) -> int:
        """Process id of the darkroom, once it is ready; 0 without one."""
        return self._lab.pid if self._lab is not None else 0

    @property
    def workers(self) -> int:
        """Number of workers that are ready."""
        return len(self.pids)

    @property
    def health(self) -> str:
        """A text about what the workers are doing."""
        return self._crew.told() if self._crew is not None else "no worker is there yet"

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint: `Numbers.state`, and the report so far under "report"."""
        with self._lock:
            return {**self._numbers.state(), "report": self.report.plain()}

    @property
    def exhausted(self) -> bool:
        """Whether all numbers are finished or production has failed, so that nothing more will be published."""
        return self._done.is_set()

    def feed(self) -> None:
        """Raises if production has failed; otherwise does nothing, as workers produce by themselves."""
        self.check()

    def tell(self, unique_pairs: float) -> None:
        """Receives the learner's recent E, which an elastic engine uses."""
        if self._breath is not None:
            self._breath.unique_pairs = unique_pairs

    def check(self) -> None:
        """Raises the error that made production fail."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stops the workers, and Ray if this engine started it. Numbers in progress are dropped. Safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30.0)
        if self._crew is not None:
            self._crew.dismiss()
        if self._workshop is not None:
            self._workshop.dismiss()
        if self._lab is not None:
            self._lab.close()
        if self._gateway is not None:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(self._gateway, no_restart=True)
            self._home.journal.unlink(missing_ok=True)
        if self._reels is not None:
            self._reels.close()
        if self._started_ray:
            self._started_ray = False
            ray.shutdown()

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _await_workers(self) -> None:
        """Returns when all workers are ready, when they take their time, or when it is clear that none will be.

        The learner then waits for trajectories, says for what, and may be asked to stop.
        """
        until, first = time.monotonic() + 3 * _START_S, True
        while not self._done.is_set():
            ready = len(self.pids)
            if ready and first:
                until, first = time.monotonic() + _START_S, False
            if ready == self._config.workers or time.monotonic() > until:
                return
            time.sleep(0.02)
        self.check()

    def _hire(self, index: int, epoch: int, where: NodeLabelSchedulingStrategy) -> ray.actor.ActorHandle:
        """Starts a worker that can answer `sign` while it produces a number."""
        cores = self._config.cpus_per_worker if self._config.address else 0
        return self._actor_class.options(num_cpus=cores, scheduling_strategy=where, max_concurrency=2).remote(
            self._world,
            self._home,
            self._spec,
            self._gateway,
            index,
            epoch,
            camera=self._config.camera,
            far=self._config.gateway_only,
            together=self._config.together,
        )

    def _open_lab(self, reels: RingHome, home: RingHome) -> Lab:
        """Starts a darkroom on the ring's node."""
        actor_class = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(LabActor)
        here = NodeAffinitySchedulingStrategy(home.node, soft=False)
        there = actor_class.options(scheduling_strategy=here)
        place = self._config.darkroom
        return Lab(lambda: there.remote(self._world, reels, self._spec, home, place), hang_s=self._config.hang_s)

    def _open_gateway(self) -> ray.actor.ActorHandle | None:
        """Starts a gateway on the ring's node if workers may be on other nodes: a cluster was named, or Ray has several nodes."""
        several = sum(bool(node["Alive"]) for node in ray.nodes()) > 1
        if not (self._config.address or several or self._config.gateway_only):
            return None
        actor_class = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(GatewayActor)
        here = NodeAffinitySchedulingStrategy(self._home.node, soft=False)
        return actor_class.options(scheduling_strategy=here, max_concurrency=_DELIVERIES + 1).remote(self._home)

    # ------------------------------------------------------------------------------------------------------ the thread

    def _supervise(self, crew: Crew) -> None:
        try:
            while not self._stop.is_set():
                self._watch_gateway()
                if self._breath is not None and not self._numbers.exhausted:
                    crew.resize(self._breath.size(crew.size, len(self.pids)))
                for worker in crew.idle():
                    at_most = self._config.together if worker.who is not None and worker.who.far else 1
                    with self._lock:
                        numbers = tuple(itertools.islice(iter(self._numbers.take, None), at_most))
                    if numbers:
                        crew.submit(worker, numbers)
                if self._numbers.exhausted and self._numbers.settled:
                    break
                for outcome in crew.wait(0.2):
                    if isinstance(outcome, Lost):
                        self._mourn(outcome)
                    elif outcome is None:
                        return  # the ring was closed
                    elif self._lab is not None and outcome.fate is Fate.EXPOSED:
                        self._lab.expect(outcome)
                    else:
                        self._account(outcome)
                if self._workshop is not None:
                    self._look_after(self._workshop)
                if self._lab is not None and not self._attend(self._lab):
                    return
            self._watch_gateway_to_the_end()
        except BaseException as error:
            self._failure = error
        finally:
            self._done.set()

    def _attend(self, lab: Lab) -> bool:
        """Processes results of the darkroom; False when the ring was closed."""
        for outcome in lab.work():
            if isinstance(outcome, Produced):
                self._account(outcome)
            elif isinstance(outcome, LostReel):
                with self._lock:
                    self.report.crashed = (*self.report.crashed, outcome.number)
                    self._numbers.settle(outcome.number)
            else:
                with self._lock:
                    self.report.darkroom_deaths += 1
                what = f"the darkroom: {' '.join(str(outcome).split())[:300]}"
                cause = Cause.HANG if isinstance(outcome, TimeoutError) else Cause.CRASH
                self._deaths.count(cause, now_s=time.monotonic(), node=self._home.node, what=what)
        return not lab.closed

    def _look_after(self, workshop: Workshop) -> None:
        """Has assets made ahead of the scenes, and takes in what has become of them and of who makes them."""
        begun = self._numbers.next_number
        end = begun + self._ahead
        for outcome in workshop.work(begun, end if self._numbers.end is None else min(end, self._numbers.end)):
            with self._lock:
                if not isinstance(outcome, Lost):
                    self.report.assets_ahead += 1
                    self.report.refuse(outcome.refused)
                    continue
                lost = (str(workshop.instance(number)) for number in outcome.numbers)
                self.report.assets_lost = (*self.report.assets_lost, *lost)
                self.report.asset_deaths[outcome.cause] += 1
            where, what = write_down(outcome, self._config.log, maker="asset actor"), f"an asset actor: {outcome.what}"
            if outcome.fatal:
                raise EmbodiChainError(f"asset actor {outcome.worker} could not start: {outcome.what}{where}")
            self._deaths.count(outcome.cause, now_s=time.monotonic(), node=outcome.node, what=what + where)

    def _account(self, produced: Produced) -> None:
        with self._lock:
            self._numbers.settle(produced.number)
            self.report.add(produced)
        self._on_produced(produced)

    def _mourn(self, lost: Lost) -> None:
        """Counts and records a loss, and ends the run when there were too many."""
        if lost.cause is Cause.SCENE:
            for number in lost.numbers:
                self._account(Produced(number=number, task="", fate=Fate.REFUSED, reason=f"raised {lost.what}"))
        else:
            with self._lock:
                self.report.crashed = (*self.report.crashed, *lost.numbers)
                for number in lost.numbers:
                    self._numbers.settle(number)
                self.report.deaths[lost.cause] += 1
        where = write_down(lost, self._config.log)
        if lost.fatal:
            raise EmbodiChainError(f"worker {lost.worker} could not start: {lost.what}{where}")
        scenes = f" (scene {', '.join(map(str, lost.numbers))})" if lost.numbers else ""
        self._deaths.count(lost.cause, now_s=time.monotonic(), node=lost.node, what=f"{lost.what}{scenes}{where}")

    def _watch_gateway(self) -> None:
        """Counts deaths of the gateway, which Ray replaces silently, while workers only wait."""
        if self._gateway is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _WATCH_S
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            self._hear_gateway(self._asked)
            self._asked = None
        if self._asked is None:
            self._asked, self._asked_at = self._gateway.process.remote(), time.monotonic()
        elif time.monotonic() > self._asked_at + self._config.hang_s and self._gateway_process is not None:
            # It stands on this node. Ray starts another, and whatever was being delivered is delivered again, at most once.
            with suppress(PermissionError):
                self._gateway_process.send_signal(signal.SIGKILL)
            self._asked = None

    def _watch_gateway_to_the_end(self) -> None:
        """Checks the gateway a last time at the end and waits for its answer, to also count a death since the last check."""
        if self._gateway is None:
            return
        deadline = time.monotonic() + _LAST_WATCH_S
        while not self._stop.is_set() and time.monotonic() < deadline:
            asked = self._gateway.process.remote()  # a new question, because an old one may have been answered before a death
            if ray.wait([asked], timeout=max(0.0, deadline - time.monotonic()))[0] and self._hear_gateway(asked):
                return
            time.sleep(0.1)

    def _hear_gateway(self, asked: ray.ObjectRef) -> bool:
        """Counts a death if it is another process; False if there is no answer because the gateway is being replaced."""
        try:
            process: Identity = ray.get(asked)
        except ray.exceptions.RayError:
            return False
        self.report.gateway_deaths += process != self._gateway_process
        self._gateway_process = process
        return True
