"""A pool of assets that are made while a run goes on: which one a scene draws, how it is made, and where it is kept.

An instance is identified by a category, a split of scenes and an index, which decide it whichever process makes it. It is made
under a lock and kept on disk. A process that needs a missing instance makes it, or waits for the process that is making it, so
that no scene depends on which process was first.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from embodichain.assets.chain import batch, finished, jobs
from embodichain.assets.chain.config import FAMILY, SOURCES, AssetsConfig, Things, Turnover, named
from embodichain.assets.chain.settings import ChainConfig
from embodichain.assets.chain.starved import starved_s
from embodichain.errors import AssetError, ConfigError, SceneError
from embodichain.processes import Child
from embodichain.types import Asset, Fresh, Instance, Scene

__all__ = ["Demand", "Pool"]

_TRIES = 10
"""Number of sources that are tried for one instance until the chain accepts one; refusals are the same in every process."""
_MOST_INDEX = 10**7
_IN_MEMORY = 32
"""Number of assets that a process keeps in memory."""
_LONGEST_S = 900.0
"""Longest time for making one asset [s], without the time in which its process waits for a core."""
_PASSING = ("deliver:", "generate:")
"""Beginnings of error messages that do not blame the source: a full disk, or a generator that does not answer. These are raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The requirements of scenes for a category: which of the alternating tasks ask for it, which affordances, and how many."""

    category: str
    tasks: tuple[int, ...]
    """Positions of these tasks in the order of all tasks, ascending."""
    reach: frozenset[str] = frozenset()
    ranked: int = 1
    """Largest number of objects in one scene that must differ in size."""


class Pool:
    """The instances of all scenes. It is sent to workers; each process reads and makes assets itself. For one thread at a time."""

    def __init__(self, config: AssetsConfig, demands: Sequence[Demand], *, turns: int, folder: Path) -> None:
        """`turns` is the number of tasks that alternate over the scene numbers, `folder` where instances are kept.

        Raises ConfigError for demands that the pool cannot meet, AssetError for a source or a folder that cannot be used.
        """
        self.config, self._turns, self._folder = config.pool, turns, folder
        self._turnover = Turnover(config.pool)
        self._demands = {demand.category: demand for demand in demands}
        for demand in demands:
            if demand.ranked > self._turnover.size:
                raise ConfigError(
                    f"scenes ask for {demand.ranked} of {demand.category!r} that differ in size, and are dealt "
                    f"{self._turnover.size} of {self._turnover.live}: raise assets.pool.live or most_scenes"
                )
        digest = hashlib.sha256(f"pool {config.seed}".encode()).digest()
        self._seed = int.from_bytes(digest[:4], "little") % 10**9
        self._things = {demand.category: self._sources(demand.category) for demand in demands}
        self._made: OrderedDict[Instance, Fresh] = OrderedDict()
        self._builder: Child | None = None
        batch.check_writable(folder)

    def __getstate__(self) -> dict[str, object]:
        """Leaves out assets in memory and the build process: the receiving process reads what it needs."""
        return self.__dict__ | {"_made": OrderedDict(), "_builder": None}

    # ---------------------------------------------------------------------------------------------------------- numbers

    def hand(self, number: int, *, held_out: bool = False) -> tuple[Instance, ...]:
        """The instances that scene `number` may draw from, of every category that its task may ask for."""
        turn, place = divmod(number, self._turns)
        found: list[Instance] = []
        for category, demand in self._demands.items():
            if place in demand.tasks:
                k = turn * len(demand.tasks) + demand.tasks.index(place)
                found += [Instance(category, held_out, index) for index in self._turnover.hand(k)]
        return tuple(found)

    def orders(self, first: int) -> Iterator[tuple[int, Instance]]:
        """Every instance of the stream from scene `first` on, once each, with the first scene that may draw it."""
        seen: dict[str, set[int]] = {category: set() for category in self._demands}
        for number in itertools.count(first):
            for instance in self.hand(number):
                known = seen[instance.category]
                if instance.index not in known:
                    yield number, instance
                    known.add(instance.index)
            if number % 1000 == 0:  # instances far behind the window do not come again
                for category, known in seen.items():
                    seen[category] = {index for index in known if index > max(known) - 4 * self._turnover.live}

    def number_of(self, instance: Instance) -> int:
        """A number that identifies an instance of the stream when work is handed out; `ordered` is the inverse."""
        return instance.index * len(self._demands) + list(self._demands).index(instance.category)

    def ordered(self, number: int) -> Instance:
        """The instance of the stream with this number."""
        index, place = divmod(number, len(self._demands))
        return Instance(list(self._demands)[place], False, index)

    # ----------------------------------------------------------------------------------------------------------- assets

    def assets(self, number: int, *, held_out: bool = False) -> tuple[Fresh, ...]:
        """The assets that scene `number` may draw, made if missing; raises SceneError when one cannot be made."""
        return tuple(self.get(instance) for instance in self.hand(number, held_out=held_out))

    def get(self, instance: Instance) -> Fresh:
        """Reads an instance, or makes it if it is missing.

        Blocks while another process makes it. Raises SceneError, the same in every process, when all of its sources were refused;
        AssetError for a folder that cannot be written, or a generator that does not answer.
        """
        if instance in self._made:
            self._made.move_to_end(instance)
            return self._made[instance]
        refused: list[str] = []
        for job in self._jobs(instance):
            made = self._read(job)
            if made is None:
                with self._locked(job.name):
                    made = self._read(job) or self._make(job)
                self._make_room()
            if isinstance(made, Asset) and (lacking := self._demands[instance.category].reach - made.affordances.keys()):
                made = f"it has no {' and no '.join(sorted(lacking))}, which scenes reach for"
            if isinstance(made, Asset):
                # An object of a folder has the category that its file states; here it gets the one that it was requested for.
                fresh = Fresh(instance, replace(made, category=instance.category), tuple(refused))
                self._made[instance] = fresh
                if len(self._made) > max(_IN_MEMORY, 2 * self._turnover.live * len(self._demands)):
                    self._made.popitem(last=False)
                return fresh
            refused.append(f"{job.name}: {made}")
        raise SceneError(f"instance {instance} cannot be made: {_TRIES} sources were refused, the last: {refused[-1]}")

    def drawn(self, scene: Scene) -> tuple[Fresh, ...]:
        """The instances that occur in a scene that was drawn just now, once each."""
        names = {placement.asset.name for placement in scene.objects}
        return tuple(fresh for fresh in self._made.values() if fresh.asset.name in names)

    # ---------------------------------------------------------------------------------------------------------- sources

    def _sources(self, category: str) -> tuple[Things | None, ...]:
        """The sources of a category in the order of their turns; None stands for its family."""
        found: list[Things | None] = []
        for source in named(self.config.sources.get(category, "")):
            kind, _, text = source.partition(":")
            asked = (self.config.generator, self.config.generator_licence)
            found.append(None if source == FAMILY else SOURCES.get(kind)(text.strip(), category, *asked))
        return tuple(found)

    def _jobs(self, instance: Instance) -> Iterator[jobs.Job]:
        """The jobs to try for an instance: first the source whose turn it is, then instances of the family."""
        if not 0 <= instance.index < _MOST_INDEX:
            raise SceneError(f"a pool has {_MOST_INDEX} instances of a category, and {instance} is not among them")
        base = (((1 + instance.held_out) * 10**9 + self._seed) * _MOST_INDEX + instance.index) * _TRIES
        sources = self._things[instance.category]
        turn, place = divmod(instance.index, len(sources))
        things = sources[place]
        for attempt in range(_TRIES):
            job = things.job(turn, base, held_out=instance.held_out) if things is not None and attempt == 0 else None
            yield job or jobs.ProceduralJob(category=instance.category, seed=base + attempt)

    # ---------------------------------------------------------------------------------------------------------- keeping

    def _read(self, job: jobs.Job) -> Asset | str | None:
        """The asset of a job, or the reason of its refusal; None when it was not made yet or is damaged."""
        key, file = jobs.key(job, ChainConfig()), jobs.file_of(job, self._folder)
        try:
            if finished.unharmed(file, key):
                asset = finished.read(file)
                os.utime(file.parent)  # `_make_room` deletes by this time
                return asset
        except (OSError, AssetError):
            return None  # another process deleted it just now to make room
        try:
            told = json.loads(self._hole(job).read_text(encoding="utf-8"))
            return str(told["reason"]) if told["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _make(self, job: jobs.Job) -> Asset | str:
        """Makes the asset in a process of its own, so that a mesh that crashes a library does not end this process."""
        for _ in range(2):  # a second attempt, because something else may have killed the process
            kind, told = self._built(job)
            if kind == "built":
                return finished.read(Path(told))
            if told.startswith(_PASSING):
                raise AssetError(told)
            if kind == "failed":
                break
        record = {"name": job.name, "key": jobs.key(job, ChainConfig()), "reason": told}
        hole = self._hole(job)
        hole.parent.mkdir(parents=True, exist_ok=True)
        partial = hole.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(record), encoding="utf-8")
        partial.replace(hole)
        return told

    def _built(self, job: jobs.Job) -> tuple[str, str]:
        """The result of a job: ("built", file), ("failed", reason) or ("died", how)."""
        if self._builder is None:
            self._builder = Child("embodichain.assets.chain.worker:serve", name="asset builder")
        builder = self._builder
        try:
            builder.pipe.send((job, self._folder, ChainConfig()))
            end = time.monotonic() - starved_s(builder.pid) + _LONGEST_S
            while (left := end - time.monotonic() + starved_s(builder.pid)) > 0.0:
                if not builder.pipe.poll(left):
                    continue  # part of the time the process waited for a core, which does not count
                kind, *rest = builder.pipe.recv()
                if kind != "stage":
                    return kind, str(rest[0])
            ended = f"not finished after {_LONGEST_S:.0f} s"
        except (EOFError, ConnectionResetError, BrokenPipeError):
            ended = f"its process ended with {builder.join()}"
        builder.kill()
        self._builder = None
        return "died", f"build: {ended}"

    def _hole(self, job: jobs.Job) -> Path:
        return self._folder / ".refused" / f"{job.name}.json"

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """A lock for making this asset. The kernel releases it when its holder dies."""
        place = self._folder / ".locks"
        place.mkdir(parents=True, exist_ok=True)
        # A fixed number of lock files, so that they do not accumulate; two assets that share one may wait for each other.
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "little") % 1024
        descriptor = os.open(place / f"{number}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make_room(self) -> None:
        """Deletes the least recently used instances while all together take more room than allowed."""
        with self._locked("room"):
            rows: list[tuple[float, int, Path]] = []
            for report in self._folder.glob("*/*/*.json"):
                try:
                    used = sum(path.stat().st_size for path in report.parent.rglob("*") if path.is_file())
                    rows.append((report.parent.stat().st_mtime, used, report.parent))
                except OSError:
                    continue
            rows.sort()
            total = sum(used for _, used, _ in rows)
            kept = self._turnover.live * len(self._demands)
            for _, used, folder in rows[: max(0, len(rows) - kept)]:
                if total <= self.config.most_mb << 20:
                    break
                aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
                try:
                    folder.rename(aside)
                except OSError:
                    continue
                shutil.rmtree(aside, ignore_errors=True)
                total -= used
