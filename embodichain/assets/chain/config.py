"""The assets of a run: a fixed catalogue, or a pool whose instances change with the scene numbers. Imports nothing heavy."""

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
"""The source that every category has; it is never used up."""
SOURCES: Registry[Callable[[str, str, str, str], Things]] = Registry(
    "source of assets",
    "embodichain.sources",
    {"folder": "embodichain.assets.chain.pool_sources:Folder", "generate": "embodichain.assets.chain.pool_sources:Prompt"},
    "or family",
)
"""Further sources of instances, by the word before the colon. Each is called with the text after the colon, the category, the
pool's generator and its licence."""


class Things(Protocol):
    """A source of assets, in an order that is the same on every machine."""

    def job(self, turn: int, seed: int, *, held_out: bool) -> Any:
        """The job (`chain.jobs.Job`) of the `turn`-th instance of this source, made by `seed`; None when it is used up."""
        ...


_FINEST = 1_000_000
"""Rates are rounded to fractions with at most this denominator, so that every machine counts alike."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Fresh assets in the stream: scenes draw from instances that are made while the run goes on, and that later retire.

    The number of a scene decides everything, so scenes do not depend on which process builds an instance, or when.
    """

    live: int = 0
    """Instances of each category that scenes draw from at a time; 0 disables the pool and keeps the fixed catalogue."""
    new_per_scene: float = 0.25
    """New instances of a category for each scene that asks for it: 0.25 is one in every fourth scene."""
    most_scenes: int = 4
    """Most scenes that an instance may serve: the replay bound of assets."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Sources of each category's instances, used in turns, separated by ";": "family", "folder:PATH" or "generate:PROMPT". A
    category without an entry uses its family, and so does a category whose folder is used up."""
    generator: str = ""
    """The generator that answers prompts: an address (http://...) or a command with {prompt} and {out}; see docs/generators.md."""
    generator_licence: str = ""
    """Licence of generated assets for which the generator states none."""
    actors: int = 1
    """Processes that only make assets, ahead of the scenes; with 0 the workers make them. Not used by the serial engine."""
    ahead: int = 32
    """For how many scenes beyond the next one these processes make assets."""
    most_mb: int = 2048
    """Room on disk [MiB]: above it, the least recently used instances are deleted. They are made again when they are needed."""

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
            Turnover(self)  # raises for settings that no scene could satisfy

    @property
    def enabled(self) -> bool:
        """Whether the pool is used."""
        return self.live > 0


def named(text: str) -> tuple[str, ...]:
    """The sources that a text of `PoolConfig.sources` lists."""
    return tuple(part.strip() for part in text.split(";") if part.strip()) or (FAMILY,)


class Turnover:
    """Computes from which instances the k-th scene that asks for a category may draw.

    A window of `live` instances advances by `new_per_scene` with each scene. A scene may draw from a part of the window, its hand.
    Hands go round the window and are as large as `most_scenes` allows, so that no instance is in more hands than that.
    """

    def __init__(self, config: PoolConfig) -> None:
        """Raises ConfigError when new instances come too slowly to keep the bound."""
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
        """Number of instances in a hand."""
        return max(size for size in range(1, self.live + 1) if self._served(size) <= self._most)

    def _served(self, size: int) -> int:
        """Most hands of this size that contain the same instance while it is in the window; its turn comes at even intervals."""
        return math.ceil(math.ceil(self.live / self._rate) * Fraction(size, self.live))

    def first(self, k: int) -> int:
        """Index of the oldest instance in the window of scene k; older ones have retired."""
        return int(k * self._rate)

    def hand(self, k: int) -> tuple[int, ...]:
        """Indices of the instances that scene k may draw from, in order."""
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
    """Number of build processes; 0 is one per core, at most 4."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    """Replaces the fixed catalogue by instances that are made while the run goes on, and that later retire."""

    def __post_init__(self) -> None:
        for category, count in self.counts.items():
            FAMILIES.check(category)
            if count < 0:
                raise ConfigError(f"count of {category!r} must not be negative, got {count}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed of the catalogue must be 0..{2**31 - 1}, got {self.seed}")

    def serving(self, categories: Collection[str], *, others: bool = False) -> AssetsConfig:
        """The catalogue for scenes that ask for these categories: only those, or all with `others` on the table as well.

        A category that `counts` does not mention, such as one of an installed distribution, gets two instances.
        """
        wanted = {category: count for category, count in self.counts.items() if others or category in categories}
        return replace(self, counts=wanted | {category: 2 for category in sorted(categories) if category not in self.counts})

    @property
    def instances(self) -> tuple[tuple[str, int], ...]:
        """Category and seed of every asset, in order."""
        return tuple((category, self.seed * 1000 + i) for category, count in self.counts.items() for i in range(count))
