"""The jobs of a batch: which asset a job makes, how its source is obtained, and the key by which a finished asset is recognised."""

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
    """One asset to build; a plain value, because it is sent to another process."""

    @property
    def name(self) -> str:
        """The asset's name, unique in its batch."""
        ...

    @property
    def category(self) -> str:
        """Name of the folder for the asset."""
        ...

    def identity(self) -> Mapping[str, object]:
        """Everything except settings and code that decides the result, as plain values."""
        ...

    def source(self) -> parts.Source:
        """The unoptimised asset; raises AssetError or ConfigError when it is not available."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProceduralJob:
    """An instance of a procedural family by seed. Unless `clean`, its meshes get the faults that generators make."""

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
        """Family, seed and mesh faults; for a family of another package also its code, which `code_digest` does not cover."""
        mess = None if self.clean else asdict(MessConfig())
        known = {"category": self.category, "seed": self.seed, "mess": mess}
        return known if self.category in FAMILIES.built_in else known | {"code": digest_around(FAMILIES.get(self.category))}

    def source(self) -> parts.Source:
        """The family's design."""
        return source.procedural(self.category, self.seed, None if self.clean else MessConfig())


def key(job: Job, config: ChainConfig) -> str:
    """Hash of everything that decides a job's asset: its source, the settings and the code of this package."""
    values = [type(job).__name__, job.name, dict(job.identity()), asdict(config), embodichain.__version__, code_digest()]
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_of(job: Job, out_dir: Path) -> Path:
    """The file that the asset of a job is delivered to.

    The name of the folder above the asset's is part of the asset's name, as the SimReady profile requires.
    """
    return shelf(out_dir, job.category, job.name) / job.name / f"{job.name}.usd"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedJob:
    """Another job under a different name, for two files of the same name in one batch."""

    job: Job
    name: str

    @property
    def category(self) -> str:
        """The category of the other job."""
        return self.job.category

    def identity(self) -> Mapping[str, object]:
        """The identity of the other job."""
        return self.job.identity()

    def source(self) -> parts.Source:
        """The source of the other job."""
        return self.job.source()


def unique(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Makes names unique by appending a number to repeated ones; raises ConfigError when the same job occurs twice."""
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
    """Hash of this package's code and tables. An asset that an older version built is therefore built again."""
    return _digest(Path(__file__).parents[1])


@cache
def digest_around(family: Family) -> str:
    """Hash of the code and tables of the package, or of the single module, that contains a family of somebody else."""
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
