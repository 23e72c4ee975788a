"""What runs on other processes and nodes: simulating workers, and the gateway to the ring."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ray
from numpy.typing import NDArray

from embodichain.errors import RingClosed, RingError, RingTimeout, TrajectoryForfeited
from embodichain.ring.contract import AnyRing
from embodichain.ring.gateway import Gateway, RemoteRing
from embodichain.ring.host import journal_path
from embodichain.ring.layout import AT_GENERATION
from embodichain.ring.open import attach_ring
from embodichain.ring.stats import Observer
from embodichain.stages import Fate, Produced, RolloutStage, SceneStage, produce
from embodichain.types import TrajectoryId
from embodichain.world import World


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


class Hello(NamedTuple):
    """Who a worker is."""

    pid: int
    node: str
    log: str
    """The file that its standard error goes to, on its node; empty when that is no file."""


def _own_log() -> str:
    """The file behind this process's standard error."""
    try:
        path = Path("/proc/self/fd/2").readlink()
    except OSError:
        return ""
    return str(path) if path.is_file() else ""


def last_words(log: str) -> str:
    """The end of a log file on this node."""
    try:
        with Path(log).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


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
        self._since = time.monotonic()
        if gateway is not None and (far or not home.is_here()):
            self._ring = RemoteRing(world.stream_spec, Courier(gateway))
        else:
            self._ring = attach_ring(home.path, world.stream_spec, reads=False)
        self._rollouts = RolloutStage(world, self._ring, worker=worker, epoch=epoch)
        self._scenes = SceneStage(world, physics=self._rollouts.physics)

    def hello(self) -> Hello:
        """Who it is, once it is ready to work."""
        return Hello(os.getpid(), ray.get_runtime_context().get_node_id(), _own_log())

    def sign(self) -> float:
        """Time since it began to work without waiting [s]; answered while `produce` goes on."""
        return time.monotonic() - self._since

    def produce(self, number: int) -> Produced | None:
        """Makes one number; waits for a free slot as long as the ring lives. None when the ring was closed."""
        self._since = time.monotonic()
        try:
            return produce(number, self._scenes, self._rollouts, timeout_s=1.0, patient=self._waited)
        except RingClosed:
            return None
        except TrajectoryForfeited as error:
            return Produced(number=number, task="", fate=Fate.REFUSED, reason=str(error))

    def _waited(self) -> bool:
        """Waits on for a free slot; to wait is to live."""
        self._since = time.monotonic()
        return True
