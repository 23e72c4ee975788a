"""Fault injection on this machine: kills and stops workers, removes nodes, kills the gateway, fills shared memory.

Meanwhile counting physics verifies every byte of every read. `Arena` is the system under test, `Fault` a kind of fault, and `storm`
injects many faults one after another and measures the time of recovery.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from embodichain.config import WorldConfig
from embodichain.errors import EmbodiChainError, IntegrityError, RingTimeout
from embodichain.operations.faults import Fault
from embodichain.physics import counting
from embodichain.prepare import prepare
from embodichain.ray_engine.config import RayConfig
from embodichain.ray_engine.engine import RayEngine
from embodichain.ray_engine.nodes import Nodes
from embodichain.ray_engine.weather import Budgets
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, Robot

_HEAL_S = 120.0
"""Longest time of recovery from one fault before the test fails [s]."""
SLOWED_S = 2.0
"""How long a worker is stopped, or memory filled, in faults that end by themselves [s]; less than what counts as hung."""
_ENDLESS = 1_000_000
"""A budget of losses that is never used up."""


class Reader(threading.Thread):
    """A thread that reads trajectories until it is told to stop, and checks every byte of those it checks: all, by default."""

    def __init__(self, ring: Ring, robot: Robot, *, pause_s: float = 0.0) -> None:
        """`pause_s` is the time between two reads [s]."""
        super().__init__(daemon=True)
        self._ring, self._robot, self.pause_s = ring, robot, pause_s
        self.check_every = 1
        """One of so many reads is checked; the others are only counted, so that the reader keeps up with more writers."""
        self.reads: Counter[int] = Counter()
        self.torn: list[str] = []
        """Error messages of torn trajectories."""
        self.ended = threading.Event()

    def run(self) -> None:
        """Reads until `ended` is set and nothing is left."""
        for number in itertools.count():
            last = self.ended.is_set()
            try:
                with self._ring.sample(1, timeout_s=0.2) as batch:
                    if number % self.check_every == 0:
                        self._check(batch[0])
                    self.reads[int(batch[0].trajectory_id)] += 1
                if self.pause_s and not last:
                    time.sleep(self.pause_s)
            except RingTimeout:
                if last:
                    return

    def _check(self, trajectory: counting.Arrays) -> None:
        try:
            counting.verify(trajectory, robot=self._robot)
        except IntegrityError as error:
            self.torn.append(str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class StormReport:
    """The result of a storm."""

    faults: Counter[str]
    healed_s: dict[str, list[float]]
    """Time from each fault until all workers were working again [s], by kind."""
    published: int
    torn: int
    over_k: int
    short: int
    """Number of trajectories that were not read exactly K times in the end."""
    lost: int
    """Number of trajectories that were published but never read."""
    calm_rate: float
    """Rate of published trajectories before the first fault [1/s]."""
    storm_rate: float
    """Rate of published trajectories from the first fault to the last [1/s]."""
    deaths: Counter[str]

    @property
    def intact(self) -> bool:
        """Whether no trajectory was torn, lost, or not read exactly K times."""
        return not (self.torn or self.over_k or self.short or self.lost)

    @property
    def experience_lost(self) -> float:
        """Share of the undisturbed rate of experience that the storm cost, 0 to 1."""
        return max(0.0, 1.0 - self.storm_rate / self.calm_rate) if self.calm_rate else 0.0

    def recovery_s(self) -> dict[str, float]:
        """Median time of recovery [s], by kind of fault."""
        return {kind: round(statistics.median(times), 2) for kind, times in self.healed_s.items() if times}


@dataclass(kw_only=True)
class Arena:
    """The system under test: workers with counting physics on nodes of this machine, and a reader that checks all trajectories."""

    engine: RayEngine
    ring: Ring
    reader: Reader
    nodes: Nodes
    workers: int
    healed_s: dict[str, list[float]] = field(default_factory=dict)

    def until(self, holds: Callable[[], bool], timeout_s: float = _HEAL_S) -> float:
        """Waits until a condition holds; returns the time taken [s]. Raises EmbodiChainError on timeout."""
        began = time.monotonic()
        while not holds():
            self.engine.check()
            if time.monotonic() > began + timeout_s:
                raise EmbodiChainError(f"not healed within {timeout_s:g} s: {self.engine.health}")
            time.sleep(0.02)
        return time.monotonic() - began

    def all_there(self) -> bool:
        """Whether every worker is working."""
        return len(self.engine.pids) == self.workers

    def strike(self, fault: Fault, rng: np.random.Generator) -> float:
        """Injects one fault; returns the time of recovery [s]."""
        began = time.monotonic()
        match fault:
            case Fault.CRASH | Fault.HANG:
                deaths = self.deaths
                os.kill(self._somebody(rng), signal.SIGKILL if fault is Fault.CRASH else signal.SIGSTOP)
                self.until(lambda: self.deaths > deaths)
            case Fault.SLOW:
                pid = self._somebody(rng)
                slowed(lambda number: os.kill(pid, number))
            case Fault.GATEWAY:
                deaths = self.engine.report.gateway_deaths
                os.kill(self.engine.gateway_pid, signal.SIGKILL)
                self.until(lambda: self.engine.report.gateway_deaths > deaths)
            case Fault.NODE:
                self.nodes.take()
                self.until(lambda: not self.all_there())
                self.nodes.give()
            case Fault.MEMORY:
                with filled(Path("/dev/shm")):
                    time.sleep(SLOWED_S)
        published = self.engine.report.published
        self.until(self.all_there)
        self.until(lambda: self.engine.report.published > published)
        took = time.monotonic() - began
        self.healed_s.setdefault(fault.value, []).append(took)
        return took

    @property
    def deaths(self) -> int:
        """Number of workers lost so far."""
        return sum(self.engine.report.deaths.values())

    def _somebody(self, rng: np.random.Generator) -> int:
        self.until(self.all_there)
        return self.engine.pids[int(rng.integers(self.workers))]


@contextmanager
def arena(*, workers: int = 3, max_reads: int = 2, far: bool = True, hang_s: float = 5.0, slots: int = 8) -> Iterator[Arena]:
    """A context with an arena whose workers are all working; at its end, workers, nodes and ring are removed.

    Args:
        workers: number of workers, one on the ring's node and the others on a second node.
        max_reads: K.
        far: whether there is a second node; otherwise all workers are on the ring's node.
        hang_s: time without a heartbeat after which a worker counts as hung [s].
        slots: number of slots of the ring.
    """
    world = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12), lambda name, done, total: None)
    budgets = Budgets(crash=_ENDLESS, node=_ENDLESS, hang=_ENDLESS, memory=_ENDLESS)
    spec = RingSpec(trajectory=world.trajectory_spec, num_slots=slots, max_reads=max_reads)
    with Nodes(at_home=1 if far else workers, far=workers - 1 if far else 0) as nodes, Ring.create(spec) as ring:
        reader = Reader(ring, world.robot)
        config = RayConfig(workers=workers, address=nodes.address, budgets=budgets, hang_s=hang_s)
        with RayEngine(world, ring, config) as engine:
            found = Arena(engine=engine, ring=ring, reader=reader, nodes=nodes, workers=workers)
            found.until(found.all_there)
            reader.start()
            try:
                yield found
            finally:
                reader.ended.set()
        reader.join()


def storm(faults: Iterator[Fault], *, workers: int = 3, calm_s: float = 5.0, pause_s: float = 0.5, seed: int = 0) -> StormReport:
    """Injects all faults into an arena; raises EmbodiChainError if it does not recover from one."""
    rng, struck = np.random.default_rng(seed), Counter[str]()
    with arena(workers=workers) as place:
        first, at_s = place.engine.report.published, time.monotonic()
        time.sleep(calm_s)
        calm = (place.engine.report.published - first) / (time.monotonic() - at_s)
        before, began = place.engine.report.published, time.monotonic()
        for fault in faults:
            place.strike(fault, rng)
            struck[fault.value] += 1
            time.sleep(pause_s)
        stormy = (place.engine.report.published - before) / max(time.monotonic() - began, 1e-9)
        over = place.ring.stats().over_reads
    reads, report, bound = place.reader.reads, place.engine.report, place.ring.spec.max_reads
    return StormReport(
        faults=struck,
        healed_s=place.healed_s,
        published=report.published,
        torn=len(place.reader.torn),
        over_k=over + sum(count > bound for count in reads.values()),
        short=sum(count != bound for count in reads.values()),
        lost=max(0, report.published - len(reads)),
        calm_rate=calm,
        storm_rate=stormy,
        deaths=Counter({str(cause): count for cause, count in report.deaths.items()}),
    )


def for_minutes(minutes: float, kinds: tuple[Fault, ...], seed: int = 0) -> Iterator[Fault]:
    """Yields faults of these kinds, each once and then at random, until the time is over."""
    rng, end = np.random.default_rng(seed), time.monotonic() + 60.0 * minutes
    yield from (kind for kind in kinds if time.monotonic() < end)
    while time.monotonic() < end:
        yield kinds[int(rng.integers(len(kinds)))]


def slowed(send: Callable[[int], object]) -> None:
    """Stops a process for `SLOWED_S` by the signals that `send` sends it; it goes on however this ends, by Ctrl-C for example."""
    try:
        send(signal.SIGSTOP)
        time.sleep(SLOWED_S)
    finally:
        send(signal.SIGCONT)


@contextmanager
def filled(folder: Path, leave_bytes: int = 64 << 20, most_bytes: int = 4 << 30) -> Iterator[None]:
    """A context that fills shared memory except for `leave_bytes`, with at most `most_bytes`.

    It takes at most a quarter of the machine's available memory: the fault is a full file system, not a machine without memory.
    The file has no name, so that none is left behind by a process that is killed meanwhile.
    """
    usage = os.statvfs(folder)
    size = min(usage.f_bavail * usage.f_frsize - leave_bytes, most_bytes, psutil.virtual_memory().available // 4)
    with tempfile.TemporaryFile(dir=folder) as file:
        if size > 0:
            os.posix_fallocate(file.fileno(), 0, size)
        yield
