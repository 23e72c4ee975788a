"""The catalogue of procedural assets that a run asks for: built once, kept, and read back from its files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from embodichain.assets.chain import batch, jobs, optimize
from embodichain.assets.chain.stages import ChainConfig
from embodichain.assets.families.catalog import FAMILIES
from embodichain.errors import AssetError, ConfigError
from embodichain.types import Asset

Progress = Callable[[int, int, str], None]
"""Called with assets done, assets in all, and the name of the one that was just finished."""

_SLOWEST_FIRST = ("mug", "bowl", "bottle", "switch", "mouse")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetsConfig:
    """A catalogue: how many instances of each procedural family, and the seed of their parameters."""

    counts: Mapping[str, int] = field(
        default_factory=lambda: {
            "mug": 2,
            "bowl": 2,
            "block": 3,
            "switch": 2,
            "pad": 2,
            "bottle": 1,
            "mouse": 2,
            "basket": 2,
            "rack": 2,
            "plate": 2,
            "fork": 2,
            "knife": 2,
            "spoon": 2,
            "pan": 2,
            "lid": 2,
            "carafe": 2,
            "cup": 2,
        }
    )
    seed: int = 0
    jobs: int = 0
    """Processes; 0 is one per core, at most 4."""

    def __post_init__(self) -> None:
        for category, count in self.counts.items():
            FAMILIES.check(category)
            if count < 0:
                raise ConfigError(f"count of {category!r} must not be negative, got {count}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed of the catalogue must be 0..{2**31 - 1}, got {self.seed}")

    def serving(self, categories: Collection[str], *, others: bool = False) -> AssetsConfig:
        """What scenes that ask for these categories need: those alone, unless there are `others` on the table as well.

        Of a category that `counts` does not mention, such as one that an installed distribution adds, two instances are made.
        """
        wanted = {category: count for category, count in self.counts.items() if others or category in categories}
        return replace(self, counts=wanted | {category: 2 for category in sorted(categories) if category not in self.counts})

    @property
    def instances(self) -> tuple[tuple[str, int], ...]:
        """(category, seed) of every asset, in order."""
        return tuple((category, self.seed * 1000 + i) for category, count in self.counts.items() for i in range(count))


def build_catalog(config: AssetsConfig, out_dir: Path, progress: Progress | None = None) -> tuple[Asset, ...]:
    """Builds what is missing of a catalogue under `out_dir` and returns all of it, in the order of the configuration.

    Raises:
        AssetError: an asset was refused, or `out_dir` cannot be written.
    """
    wanted = tuple(jobs.ProceduralJob(category=category, seed=seed) for category, seed in config.instances)
    total, done = len(wanted), 0

    def finished(name: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total, name)

    def listener(outcome: batch.Outcome) -> None:
        if outcome.state in ("built", "kept"):
            finished(outcome.name)

    settings = batch.BatchConfig(jobs=config.jobs)
    missing = [o.name for o in batch.plan(wanted, out_dir, settings) if o.state != "kept"]
    if settings.processes(len(missing)) > 1:
        # The slowest families first, so that no process ends long after the others.
        order = {category: rank for rank, category in enumerate(_SLOWEST_FIRST)}
        for outcome in batch.run(sorted(wanted, key=lambda job: order.get(job.category, 99)), out_dir, settings, listener=listener):
            if outcome.state == "failed":
                raise AssetError(f"{outcome.name}: {outcome.reason}")
        return tuple(optimize.read(jobs.file_of(job, out_dir)) for job in wanted)
    assets = []
    for job in wanted:  # in this process: starting another costs more than it saves
        assets.append(optimize.build_job(job, out_dir, config=ChainConfig()))
        finished(job.name)
    return tuple(assets)
