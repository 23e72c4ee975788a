"""The map of the engine: its stages in order, in this process; `ray_engine` runs the same stages on many workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import TracebackType
from typing import Any, Protocol

from embodichain.errors import ConfigError
from embodichain.ring.contract import AnyRing
from embodichain.stages import Fate, Produced, RolloutStage, SceneStage, produce
from embodichain.types import Timings
from embodichain.types.reels import CameraMode
from embodichain.world import World

__all__ = [
    "WHOLE",
    "AnyEngine",
    "Engine",
    "EngineReport",
    "Numbers",
    "Share",
    "Start",
]


_COUNTERS = ("fates", "reasons", "published_by_task", "attempts_by_task", "deaths", "asset_deaths", "assets_refused")


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
    """Numbers whose worker was lost while it worked on them. They are not repeated, because the worker may have published them."""
    deaths: Counter[str] = field(default_factory=Counter)
    """Workers that were lost and replaced, by cause (`ray_engine.weather.Cause`)."""
    gateway_deaths: int = 0
    """How often the gateway to the ring died and was replaced."""
    darkroom_deaths: int = 0
    """How often the darkroom died and was replaced; the reels it had in hand are among `crashed`."""
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Instances of the pool of assets that scenes drew: the record of each, and how many scenes it has served ("scenes")."""
    assets_ahead: int = 0
    """Number of instances that asset actors made, or found made."""
    assets_refused: Counter[str] = field(default_factory=Counter)
    """Sources of instances that the chain refused, with the reason; each counts once."""
    asset_deaths: Counter[str] = field(default_factory=Counter)
    """Asset actors that were lost and replaced, by cause."""
    assets_lost: tuple[str, ...] = ()
    """Instances whose asset actor was lost while it made them. Workers that need one make it."""
    timings: Timings = field(default_factory=Timings)

    @property
    def published(self) -> int:
        """Trajectories that reached the ring."""
        return self.fates[Fate.PUBLISHED]

    def plain(self) -> dict[str, Any]:
        """The report as values that a checkpoint can hold; `of` is the inverse."""
        counters = {name: {str(key): count for key, count in getattr(self, name).items()} for name in _COUNTERS}
        return asdict(self) | counters | {"crashed": list(self.crashed), "assets_lost": list(self.assets_lost)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> EngineReport:
        """The report that `plain` came from. Fields that an earlier version lacked have their initial values."""
        known = {name: value for name, value in plain.items() if name in cls.__dataclass_fields__}
        counters = {name: Counter(known.pop(name, {})) for name in _COUNTERS}
        crashed, timings = tuple(known.pop("crashed", ())), Timings(**known.pop("timings", {}))
        lost = tuple(known.pop("assets_lost", ()))
        return cls(**counters, crashed=crashed, timings=timings, assets_lost=lost, **known)

    def add(self, produced: Produced) -> None:
        """Adds the result of one number."""
        self.fates[produced.fate] += 1
        self.timings.add(produced.timings)
        if produced.task:
            self.attempts_by_task[produced.task] += 1
        for drawn in produced.drawn:
            known = self.instances.setdefault(drawn.instance, {"scenes": 0})
            told = asdict(drawn)
            self.refuse(told.pop("refused"))
            known |= told | {"scenes": known["scenes"] + 1}
        if produced.fate is Fate.PUBLISHED:
            self.published_by_task[produced.task] += 1
            self.chunks += produced.num_chunks
            self.recovered += produced.recovered
        else:
            self.reasons[f"{produced.task or 'scene'}: {produced.reason}"] += 1

    def refuse(self, sources: Iterable[str]) -> None:
        """Adds sources of instances that the chain refused. Several workers report the same one, which is counted once."""
        for source in sources:
            self.assets_refused[source] = 1

    @property
    def most_scenes(self) -> int:
        """The largest number of scenes that one instance has served; 0 without a pool."""
        return max((known["scenes"] for known in self.instances.values()), default=0)

    @classmethod
    def together(cls, reports: Sequence[EngineReport]) -> EngineReport:
        """What several engines of one run have done so far."""
        whole = cls()
        for report in reports:
            for entry in fields(cls):
                before, more = getattr(whole, entry.name), getattr(report, entry.name)
                if isinstance(before, Timings):
                    before.add(more)
                elif isinstance(before, Counter):
                    before.update(more)
                elif isinstance(before, dict):
                    for name, known in more.items():
                        scenes = known["scenes"] + before.get(name, {"scenes": 0})["scenes"]
                        before[name] = {**known, "scenes": scenes}
                else:
                    setattr(whole, entry.name, before + more)
        return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where an engine begins: at 0, or where an earlier life of the same run left off."""

    next_number: int = 0
    """The first number that was not begun."""
    again: tuple[int, ...] = ()
    """Smaller numbers to make first, which an earlier life began and lost."""
    skip: frozenset[int] = frozenset()
    """Numbers from `next_number` on that are made already."""
    epoch: int = 0
    """The first epoch of ids that no earlier life has used."""
    report: EngineReport = field(default_factory=EngineReport)
    """The report of earlier lives, to which the engine adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The numbers of a stream that one of several engines makes: those that leave `index` when they are divided by `of`."""

    index: int = 0
    of: int = 1

    def __contains__(self, number: int) -> bool:
        return number % self.of == self.index


WHOLE = Share()
"""All numbers of a stream."""


class Numbers:
    """Hands out the numbers of a stream, each once, and tracks those that are begun and not accounted for.

    The end of a limited stream is a number, not a count, so it is the same for a resumed run. Several engines of one stream have a
    `share` of its numbers each, so that the set of scenes depends on neither their number nor their pace. Used by one thread at a
    time.
    """

    def __init__(self, start: Start, limit: int | None, share: Share = WHOLE) -> None:
        self._share = share
        self._again = [number for number in start.again if number in self._share and (limit is None or number < limit)]
        self._skip = start.skip
        self._end = limit
        self._open: set[int] = set()
        self._next = start.next_number
        self._pass_over()

    @property
    def exhausted(self) -> bool:
        """Whether every number was handed out."""
        return not self._again and self._end is not None and self._next >= self._end

    @property
    def next_number(self) -> int:
        """The first number that was not begun."""
        return self._next

    @property
    def end(self) -> int | None:
        """The stream ends before this number; None has no end."""
        return self._end

    @property
    def settled(self) -> bool:
        """Whether every number that was handed out is accounted for."""
        return not self._open

    def take(self) -> int | None:
        """The next number; None when all were handed out."""
        if self.exhausted:
            return None
        if self._again:
            number = self._again.pop(0)
            self._open.add(number)
        else:
            number = self._next
            self._open.add(number)
            self._next += 1
            self._pass_over()
        return number

    def settle(self, number: int) -> None:
        """Accounts for a number that was taken: it was published, refused, rejected or given up."""
        self._open.discard(number)

    def put_back(self, number: int) -> None:
        """Takes back a number that could not be made now; it is handed out again next."""
        self._again.insert(0, number)
        self._open.discard(number)

    def state(self) -> dict[str, Any]:
        """The state for the next life: the first number not begun, and those that are begun or waiting and not accounted for."""
        return {"next_number": self._next, "unfinished": sorted({*self._open, *self._again})}

    def _pass_over(self) -> None:
        while self._next in self._skip or self._next not in self._share:
            self._next += 1


class AnyEngine(Protocol):
    """Produces trajectories for a learner. Implementations: `Engine` in this process, `ray_engine.RayEngine` on workers."""

    report: EngineReport
    poll_s: float
    """Longest that a learner may wait for a batch before it calls `feed` [s]: 0 where production takes turns with learning."""

    def state(self) -> dict[str, Any]:
        """The state from which the next life of the run continues: `Numbers.state`, and the report so far under "report"."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will be published."""
        ...

    @property
    def workers(self) -> int:
        """Number of processes that simulate now."""
        ...

    @property
    def health(self) -> str:
        """Describes what produces trajectories."""
        ...

    def feed(self) -> None:
        """Called when the learner found the ring empty."""
        ...

    def check(self) -> None:
        """Raises when production has failed."""
        ...

    def tell(self, unique_pairs: float) -> None:
        """Called regularly by the learner with its recent E: state-action pairs per iteration that are read for the first time."""
        ...

    def __enter__(self) -> AnyEngine: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Engine:
    """Makes trajectories one after another in the calling process, for tests, debugging and machines without Ray.

    A learner that finds the ring empty calls `feed()`, so that production and learning take turns.
    """

    poll_s = 0.0

    def __init__(
        self,
        world: World,
        ring: AnyRing,
        *,
        start: Start | None = None,
        limit: int | None = None,
        camera: CameraMode = CameraMode.SNAPSHOTS,
    ) -> None:
        """The stream ends before number `limit`; None has no end. Raises ConfigError for camera=DARKROOM."""
        if camera is CameraMode.DARKROOM:
            raise ConfigError(
                "a darkroom is a process beside the workers, and this engine has none: choose camera='reels', or the engine 'ray'"
            )
        start = start or Start()
        self.report = start.report
        self._numbers = Numbers(start, limit)
        self._rollouts = RolloutStage(world, ring, worker=0, epoch=start.epoch, camera=camera)
        self._scenes = SceneStage(world, physics=self._rollouts.physics)

    @property
    def exhausted(self) -> bool:
        """Whether the limit of numbers is used up: nothing more will be published."""
        return self._numbers.exhausted

    @property
    def workers(self) -> int:
        """One: this process."""
        return 1

    @property
    def health(self) -> str:
        """Describes what produces trajectories."""
        return "this process simulates between training steps"

    def state(self) -> dict[str, Any]:
        """The state from which the next life of the run continues: `Numbers.state`, and the report so far under "report"."""
        return {**self._numbers.state(), "report": self.report.plain()}

    def step(self, *, timeout_s: float = 0.0) -> Produced | None:
        """Makes the next number: scene → physics and expert → trajectory → ring; None when there is none left.

        Raises RingTimeout when the ring stays full, and any error of an episode; the next call then makes the same number.
        """
        number = self._numbers.take()
        if number is None:
            return None
        try:
            produced = produce(number, self._scenes, self._rollouts, timeout_s=timeout_s)
        except BaseException:
            self._numbers.put_back(number)
            raise
        self._numbers.settle(number)
        self.report.add(produced)
        return produced

    def feed(self) -> None:
        """Makes numbers until one is published or none is left."""
        while (produced := self.step()) is not None and produced.fate is not Fate.PUBLISHED:
            pass

    def check(self) -> None:
        """Does nothing: the serial engine raises an error where it happens."""

    def tell(self, unique_pairs: float) -> None:
        """Does nothing: this engine does not use it."""

    def close(self) -> None:
        """Frees the physics; safe to call twice."""
        self._rollouts.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
