"""The map of the engine: its stages in a row, in this process; `ray_engine` runs the same ones on many workers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from embodichain.ring.contract import AnyRing
from embodichain.stages import Fate, Produced, RolloutStage, SceneStage, produce
from embodichain.types import Timings
from embodichain.world import World

__all__ = [
    "AnyEngine",
    "Engine",
    "EngineReport",
]


@dataclass(slots=True, kw_only=True)
class EngineReport:
    """What an engine has done so far."""

    fates: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why scenes were refused or episodes rejected."""
    published_by_task: Counter[str] = field(default_factory=Counter)
    attempts_by_task: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    recovered: int = 0
    crashed: tuple[int, ...] = ()
    """Numbers whose worker died while it worked on them: replaced, counted, not repeated."""
    gateway_deaths: int = 0
    """How often the gateway to the ring died and was replaced."""
    timings: Timings = field(default_factory=Timings)

    @property
    def published(self) -> int:
        """Trajectories that reached the ring."""
        return self.fates[Fate.PUBLISHED]

    def add(self, produced: Produced) -> None:
        """Takes in the report of one number."""
        self.fates[produced.fate] += 1
        self.timings.add(produced.timings)
        if produced.task:
            self.attempts_by_task[produced.task] += 1
        if produced.fate is Fate.PUBLISHED:
            self.published_by_task[produced.task] += 1
            self.chunks += produced.num_chunks
            self.recovered += produced.recovered
        else:
            self.reasons[f"{produced.task or 'scene'}: {produced.reason}"] += 1


class AnyEngine(Protocol):
    """What produces trajectories for a learner. Implementations: `Engine` in this process, `ray_engine.RayEngine` on workers."""

    report: EngineReport
    poll_s: float
    """Longest that a learner may wait for a batch before it calls `feed` [s]: 0 where producing takes turns with learning."""

    @property
    def next_number(self) -> int:
        """The first number not yet begun: where a resumed run goes on."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether nothing will be published any more."""
        ...

    def feed(self) -> None:
        """Called when the learner found the ring empty."""
        ...

    def check(self) -> None:
        """Raises when production has failed."""
        ...

    def __enter__(self) -> AnyEngine: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Engine:
    """Makes trajectories one after another in the calling process, for tests, debugging and machines without Ray.

    A learner that finds the ring empty calls `feed()`, so that producing and learning take turns.
    """

    poll_s = 0.0

    def __init__(self, world: World, ring: AnyRing, *, first: int = 0, limit: int | None = None) -> None:
        self.report = EngineReport()
        self._rollouts = RolloutStage(world, ring, worker=0, epoch=0)
        self._scenes = SceneStage(world, physics=self._rollouts.physics)
        self._next = first
        self._end = None if limit is None else first + limit

    @property
    def next_number(self) -> int:
        """The first number not yet begun: where a resumed run goes on."""
        return self._next

    @property
    def exhausted(self) -> bool:
        """Whether the limit of numbers is used up: nothing will be published any more."""
        return self._end is not None and self._next >= self._end

    def step(self, *, timeout_s: float = 0.0) -> Produced:
        """Makes the next number: scene → physics and expert → trajectory → ring."""
        produced = produce(self._next, self._scenes, self._rollouts, timeout_s=timeout_s)
        self._next += 1
        self.report.add(produced)
        return produced

    def feed(self) -> None:
        """Makes numbers until one is published or none is left."""
        while not self.exhausted and self.step().fate is not Fate.PUBLISHED:
            pass

    def check(self) -> None:
        """Raises when production has failed; the serial engine raises where it happens."""

    def close(self) -> None:
        """Frees the physics; safe to call twice."""
        self._rollouts.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
