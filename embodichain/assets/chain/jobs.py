"""What a batch is made of: a job says which asset it makes, how its source is had, and by what it is known again."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import embodichain
from embodichain.assets.chain.finished import shelf
from embodichain.assets.chain.settings import ChainConfig
from embodichain.assets.families import parts, source
from embodichain.assets.families.catalog import FAMILIES
from embodichain.assets.families.design import Family
from embodichain.assets.geometry.corrupt import MessConfig
from embodichain.errors import ConfigError


class Job(Protocol):
    """One asset to build; a plain value, for it travels to another process."""

    @property
    def name(self) -> str:
        """The asset's name, unique in its batch."""
        ...

    @property
    def category(self) -> str:
        """The folder it goes to."""
        ...

    def identity(self) -> Mapping[str, object]:
        """Everything but settings and code that decides the result, as plain values."""
        ...

    def source(self) -> parts.Source:
        """The unoptimised asset; raises AssetError or ConfigError when it cannot be had."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProceduralJob:
    """An instance of a procedural family by seed, made imperfect as generators' meshes are unless `clean`."""

    category: str
    seed: int
    clean: bool = False

    def __post_init__(self) -> None:
        FAMILIES.check(self.category)

    @property
    def name(self) -> str:
        """Family and seed."""
        return source.instance_name(self.category, self.seed)

    def identity(self) -> Mapping[str, object]:
        """Family, seed and how it is broken; of a family from elsewhere also its code, which `code_digest` does not cover."""
        mess = None if self.clean else asdict(MessConfig())
        known = {"category": self.category, "seed": self.seed, "mess": mess}
        return known if self.category in FAMILIES.built_in else known | {"code": digest_around(FAMILIES.get(self.category))}

    def source(self) -> parts.Source:
        """The family's design."""
        return source.procedural(self.category, self.seed, None if self.clean else MessConfig())


def key(job: Job, config: ChainConfig) -> str:
    """Hash of everything that decides a job's asset: what it is made from, the settings and the code of this package."""
    values = [type(job).__name__, job.name, dict(job.identity()), asdict(config), embodichain.__version__, code_digest()]
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_of(job: Job, out_dir: Path) -> Path:
    """Where the asset of a job is delivered.

    The shelf's name is part of the asset's name, as the SimReady profile asks of the folder two levels above a file.
    """
    return shelf(out_dir, job.category, job.name) / job.name / f"{job.name}.usd"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedJob:
    """Another job under a name of its own, for two files of one name in one batch."""

    job: Job
    name: str

    @property
    def category(self) -> str:
        """The other job's."""
        return self.job.category

    def identity(self) -> Mapping[str, object]:
        """The other job's."""
        return self.job.identity()

    def source(self) -> parts.Source:
        """The other job's."""
        return self.job.source()


def unique(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """The jobs with a number behind every name that came before; raises ConfigError when one and the same job is there twice."""
    taken: set[str] = set()
    known: dict[str, list[Job]] = {}  # those so far by their own names: a batch may have very many, and few of one name
    result: list[Job] = []
    for job in jobs:
        alike = known.setdefault(job.name, [])
        if job in alike:
            raise ConfigError(f"{job.name!r} is asked for twice: {job}")
        name, number = job.name, 2 + max(len(alike) - 1, 0)
        while name in taken:
            name, number = f"{job.name}_{number}", number + 1
        alike.append(job)
        taken.add(name)
        result.append(job if name == job.name else NamedJob(job=job, name=name))
    return tuple(result)


@cache
def code_digest() -> str:
    """Hash of this package's code and tables: an asset of an older engine is built again."""
    return _digest(Path(__file__).parents[1])


@cache
def digest_around(family: Family) -> str:
    """Hash of the code and tables of the package, or the single module, that a family from elsewhere lives in."""
    top = sys.modules[family.__module__.partition(".")[0]]
    files = [Path(place) for place in getattr(top, "__path__", ())] or [Path(str(top.__file__))]
    return "".join(map(_digest, files))


def _digest(place: Path) -> str:
    """Hash of a file, or of all code and tables below a folder."""
    digest = hashlib.sha256()
    for file in [place] if place.is_file() else sorted(place.rglob("*")):
        if file.suffix in (".py", ".json"):
            digest.update(str(file.relative_to(place)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
