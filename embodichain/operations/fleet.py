"""A discrete-event simulation of many machines: workers, gateway, ring with replay bound, learners; based on measured rates.

Only the trajectories of each batch are random. Workers on a node share its cores. Trajectories from other nodes cross the network
and pass the gateway, which serves one at a time. A full ring blocks workers and an empty ring the learner, which is the same
waiting time that the real ring measures (`ring.waiting`).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from embodichain.errors import ConfigError
from embodichain.ring.layout import MAX_PARTICIPANTS
from embodichain.ring.waiting import Waiting

__all__ = ["Fleet", "SteadyState", "simulate"]

_TURNS = 3
"""Number of times that the whole ring is replaced before measuring, and while measuring, to reach a steady mixture of ages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Machines and rates. Times are those of one otherwise idle core."""

    workers: int
    make_s: float
    """Time in which a worker produces a trajectory, without waiting, on its own core [s]."""
    cores: int
    """CPU cores of a node; as many workers run at full speed."""
    workers_per_node: int
    """Workers on each node. The first node is the ring's, where workers write in place."""
    learners: int = 1
    """Number of learner nodes, each with its own ring and share of the workers."""
    batch_size: int = 16
    step_s: float = 0.3
    max_reads: int = 10
    num_slots: int = 128
    trajectory_bytes: float = 1e6
    network_bytes_per_s: float = 1.25e9
    """Network bandwidth into the learner's node [B/s]; the default is 10 Gbit/s."""
    deliver_s: float = 1e-3
    """Time of the gateway for a trajectory, besides copying [s]."""
    deliver_bytes_per_s: float = 2e9
    """Speed at which the gateway copies into the ring [B/s]."""

    def __post_init__(self) -> None:
        least = min(self.workers, self.cores, self.workers_per_node, self.learners, self.batch_size, self.max_reads)
        if least < 1 or self.num_slots < self.batch_size or min(self.make_s, self.step_s) <= 0:
            raise ConfigError(f"a fleet has at least one of everything, times above 0 and slots for a batch, got {self}")
        if self.learners > self.workers:
            raise ConfigError(f"{self.learners} learner nodes cannot share {self.workers} workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """The steady state of a fleet, all learner nodes together."""

    published_per_s: float
    steps_per_s: float
    """Training steps a second; all learners step together."""
    reads_per_trajectory: float
    new_per_step: float
    """Trajectories that a step of all learners uses up."""
    waiting: Waiting
    gateway_busy: float
    """Share of time in which a gateway is busy."""
    limit: str
    """The bottleneck."""


@dataclass(slots=True)
class _Node:
    """The state of one learner node during the simulation."""

    fleet: Fleet
    local: int
    remote: int
    rng: np.random.Generator
    at_s: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    tick: int = 0
    left: list[int] = field(default_factory=list)
    """Reads left of each ready trajectory."""
    reserved: int = 0
    queue: deque[tuple[float | None, Callable[[], None]]] = field(default_factory=deque)
    """Writers waiting for a slot: since when, and their next action. For the gateway, the waiting worker is counted instead."""
    parcels: deque[tuple[float, float]] = field(default_factory=deque)
    """Remote trajectories waiting for the gateway: since when, and the time their worker takes for the next one [s]."""
    gateway_free: bool = True
    hungry_since: float | None = None
    published: int = 0
    steps: int = 0
    blocked_s: float = 0.0
    starved_s: float = 0.0
    gateway_s: float = 0.0
    retired: int = 0

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        self.tick += 1
        heapq.heappush(self.events, (self.at_s + delay_s, self.tick, what))

    def run(self, until: Callable[[], bool]) -> None:
        while self.events and not until():
            self.at_s, _, what = heapq.heappop(self.events)
            what()

    def begin(self) -> None:
        crowded = self.fleet.make_s * max(1.0, (self.local + 1) / self.fleet.cores)
        far = self.fleet.make_s * max(1.0, min(self.fleet.workers_per_node, self.remote) / self.fleet.cores)
        for index in range(self.local):
            self.later(crowded * (index + 1) / self.local, lambda: self._write(crowded))
        for index in range(self.remote):
            self.later(far * (index + 1) / self.remote, lambda: self._send(far))
        self.hungry_since = 0.0

    # A local worker reserves a slot first, then produces the trajectory in it.

    def _write(self, make_s: float) -> None:
        def made() -> None:
            self._publish()
            self._write(make_s)

        self._want_slot(lambda: self.later(make_s, made))

    # A remote worker produces a trajectory, sends it, and waits until the gateway has received it.

    def _send(self, make_s: float) -> None:
        fleet = self.fleet
        wire_s = fleet.trajectory_bytes / fleet.network_bytes_per_s  # this transfer alone; `_limit` checks the total bandwidth

        def arrived() -> None:
            self.parcels.append((self.at_s, make_s))
            self._serve()

        self.later(wire_s, arrived)

    def _serve(self) -> None:
        if not self.gateway_free or not self.parcels:
            return
        self.gateway_free, fleet = False, self.fleet
        since, make_s = self.parcels.popleft()
        work_s = fleet.deliver_s + fleet.trajectory_bytes / fleet.deliver_bytes_per_s

        def taken() -> None:
            self.blocked_s += self.at_s - work_s - since
            self.gateway_s += work_s
            self._publish()
            self.gateway_free = True
            self.later(make_s, lambda: self._send(make_s))
            self._serve()

        self._want_slot(lambda: self.later(work_s, taken), counts=False)

    def waited(self) -> tuple[float, float]:
        """Total waiting time so far of all workers, and of the learner [s], including present waits."""
        since = [at for at, _ in self.queue if at is not None] + [at for at, _ in self.parcels]
        standing = sum(self.at_s - at for at in since)
        hungry = 0.0 if self.hungry_since is None else self.at_s - self.hungry_since
        return self.blocked_s + standing, self.starved_s + hungry

    def _want_slot(self, go: Callable[[], None], *, counts: bool = True) -> None:
        if self.reserved + len(self.left) < self.fleet.num_slots:
            self.reserved += 1
            go()
        else:
            self.queue.append((self.at_s if counts else None, go))

    def _publish(self) -> None:
        self.reserved -= 1
        self.left.append(self.fleet.max_reads)
        self.published += 1
        self._learn()

    def _learn(self) -> None:
        """Starts a training step if the learner is idle and there are enough trajectories."""
        if self.hungry_since is None or len(self.left) < self.fleet.batch_size:
            return
        self.starved_s += self.at_s - self.hungry_since
        self.hungry_since = None
        for index in sorted(self.rng.choice(len(self.left), self.fleet.batch_size, replace=False).tolist(), reverse=True):
            self.left[index] -= 1
            if not self.left[index]:
                self.left[index] = self.left[-1]
                self.left.pop()
                self.retired += 1
        while self.queue and self.reserved + len(self.left) < self.fleet.num_slots:
            since, go = self.queue.popleft()
            self.blocked_s += 0.0 if since is None else self.at_s - since
            self.reserved += 1
            go()
        self.later(self.fleet.step_s, self._stepped)

    def _stepped(self) -> None:
        self.steps += 1
        self.hungry_since = self.at_s
        self._learn()


def simulate(fleet: Fleet, *, steps: int = 400, most: int = 40_000, seed: int = 0) -> SteadyState:
    """Simulates one learner node, as all are alike, over at least `steps` steps after as many to settle.

    Args:
        fleet: machines and rates.
        steps: training steps that are measured.
        most: number of trajectories at which the measurement ends too.
        seed: seed of the draws of batches.
    """
    mine = math.ceil(fleet.workers / fleet.learners)
    local = min(mine, fleet.workers_per_node, MAX_PARTICIPANTS - 2)
    node = _Node(fleet=fleet, local=local, remote=mine - local, rng=np.random.default_rng(seed))
    node.begin()
    turns = _TURNS * math.ceil(fleet.num_slots * fleet.max_reads / fleet.batch_size)
    steps = max(steps, turns)
    node.run(lambda: node.steps >= steps or node.published >= most)
    before = (node.at_s, node.published, node.steps, *node.waited(), node.gateway_s, node.retired)
    node.run(lambda: node.steps >= 2 * steps or node.published >= 2 * most)
    at_s, published, made, blocked_s, starved_s, gateway_s, retired = before
    span = max(node.at_s - at_s, 1e-9)
    blocked_then, starved_then = node.waited()
    waiting = Waiting.over(span, blocked_writer_s=blocked_then - blocked_s, blocked_reader_s=starved_then - starved_s, writers=mine)
    rate, step_rate = (node.published - published) / span, (node.steps - made) / span
    busy = (node.gateway_s - gateway_s) / span
    return SteadyState(
        published_per_s=rate * fleet.learners,
        steps_per_s=step_rate,
        reads_per_trajectory=fleet.batch_size * step_rate / max(rate, 1e-9),
        new_per_step=fleet.learners * (node.retired - retired) / max(1, node.steps - made),
        waiting=waiting,
        gateway_busy=min(1.0, busy),
        limit=_limit(fleet, waiting, busy),
    )


def _limit(fleet: Fleet, waiting: Waiting, gateway_busy: float) -> str:
    """The bottleneck, as text."""
    if waiting.learner < 0.05:
        return "the learner: it never waits, and workers do" if waiting.workers > 0.05 else "nothing: both sides keep up"
    if gateway_busy > 0.95:
        return "the gateway of a learner node: more learner nodes, or workers on the ring's node"
    if fleet.trajectory_bytes * 0.95 > fleet.network_bytes_per_s * fleet.make_s:
        return "the network into a learner node"
    return "workers: the learner waits for them"
