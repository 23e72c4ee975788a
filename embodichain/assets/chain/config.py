"""Which procedural assets a run has. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from embodichain.assets.chain.pool_config import PoolConfig
from embodichain.assets.families.catalog import FAMILIES
from embodichain.errors import ConfigError


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
    pool: PoolConfig = field(default_factory=PoolConfig)
    """Instead of a fixed catalogue, for what tasks ask for: instances that are made while the run goes on, and retire."""

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
