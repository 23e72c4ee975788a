"""Which assets a run has: a fixed catalogue, or a pool that turns over by the numbers of scenes. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Protocol

from embodichain.assets.families.catalog import FAMILIES
from embodichain.errors import ConfigError
from embodichain.registry import Registry

FAMILY = "family"
"""The source that every category has, and that never ends."""
SOURCES: Registry[Callable[[str, str, str, str], Things]] = Registry(
    "source of assets",
    "embodichain.sources",
    {"folder": "embodichain.assets.chain.pool_sources:Folder", "generate": "embodichain.assets.chain.pool_sources:Prompt"},
    "or family",
)
"""What else instances come from, by the word before the colon: called with what follows it, the category, and the pool's generator
and its licence."""


class Things(Protocol):
    """What a source is: things to make instances of, in an order that is the same everywhere."""

    def job(self, turn: int, seed: int, *, held_out: bool) -> Any:
        """The job (`chain.jobs.Job`) of the `turn`-th instance of this source, made by `seed`; None when it is used up."""
        ...


_FINEST = 1_000_000
"""Rates are fractions of at most this denominator, so that every machine counts alike."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Fresh assets in the stream: scenes draw from instances that are made while the run goes on, and that retire.

    Everything is decided by a scene's number, so that the scenes do not depend on who builds what, or when.
    """

    live: int = 0
    """Instances of each category that scenes draw from at a time; 0 has none of this, but a fixed catalogue."""
    new_per_scene: float = 0.25
    """New instances of a category that each scene brings which asks for it: 0.25 is one in every fourth."""
    most_scenes: int = 4
    """Most scenes that an instance may serve: the replay bound of assets."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where instances of a category come from, in turns, with ";" between: "family", "folder:PATH" or "generate:PROMPT". A category
    that is not mentioned comes from its family, and so does what a folder has no more things for."""
    generator: str = ""
    """What answers prompts: an address (http://...) or a command with {prompt} and {out}, as in docs/generators.md."""
    generator_licence: str = ""
    """Of what the generator makes, where it does not say so itself."""
    actors: int = 1
    """Processes that only make assets, ahead of the scenes; 0 leaves that to the workers. Not used by the serial engine."""
    ahead: int = 32
    """For how many scenes beyond the next one these make assets."""
    most_mb: int = 2048
    """Room on disk [MiB]: above it, instances that were used least recently are deleted. They are made again when asked for."""

    def __post_init__(self) -> None:
        if self.live < 0 or self.actors < 0:
            raise ConfigError(f"assets.pool takes live and actors of 0 or more, got {self.live} and {self.actors}")
        if not 1.0 / _FINEST <= self.new_per_scene <= 100.0:
            raise ConfigError(f"assets.pool.new_per_scene must be above 0 and at most 100, got {self.new_per_scene}")
        if self.most_scenes < 1 or self.ahead < 1 or self.most_mb < 1:
            raise ConfigError(
                "assets.pool takes most_scenes, ahead and most_mb of 1 or more, "
                f"got {self.most_scenes}, {self.ahead} and {self.most_mb}"
            )
        for category, text in self.sources.items():
            FAMILIES.check(category)
            for source in named(text):
                if source != FAMILY:
                    SOURCES.check(source.partition(":")[0])
        if self.live:
            Turnover(self)  # refuses what no scene could keep to

    @property
    def enabled(self) -> bool:
        """Whether there is a pool at all."""
        return self.live > 0


def named(text: str) -> tuple[str, ...]:
    """The sources that a text names."""
    return tuple(part.strip() for part in text.split(";") if part.strip()) or (FAMILY,)


class Turnover:
    """Which instances the k-th scene that asks for a category may draw from.

    A window of `live` instances moves on by `new_per_scene`. Of these a scene is dealt a hand, and the hands go round the window,
    as large as `most_scenes` allows: while it is in the window, an instance is in no more hands than that.
    """

    def __init__(self, config: PoolConfig) -> None:
        """Raises ConfigError when instances come too slowly for the bound."""
        self.live = config.live
        self._rate = Fraction(config.new_per_scene).limit_denominator(_FINEST)
        self._most = config.most_scenes
        if self._served(1) > config.most_scenes:
            raise ConfigError(
                f"assets.pool.most_scenes={config.most_scenes} cannot be kept: with new_per_scene={config.new_per_scene:g} and "
                f"live={config.live} an instance serves {self._served(1)} scenes; ask for more new ones, or allow more scenes"
            )

    @cached_property
    def size(self) -> int:
        """Instances in a hand."""
        return max(size for size in range(1, self.live + 1) if self._served(size) <= self._most)

    def _served(self, size: int) -> int:
        """Most hands of this size that an instance is in: it is in the window for so many scenes, and its turn comes evenly."""
        return math.ceil(math.ceil(self.live / self._rate) * Fraction(size, self.live))

    def first(self, k: int) -> int:
        """The oldest instance in the window of scene k: older ones have retired."""
        return int(k * self._rate)

    def hand(self, k: int) -> tuple[int, ...]:
        """The instances that scene k may draw from, in order."""
        first = self.first(k)
        places = ((k * self.size + turn) % self.live for turn in range(self.size))
        return tuple(sorted(first + (place - first) % self.live for place in places))


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
