"""How a pool of assets turns over while a run goes on, and which instance a scene may draw: by numbers alone. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from embodichain.assets.families.catalog import FAMILIES
from embodichain.errors import ConfigError

__all__ = ["GENERATE", "PoolConfig", "Turnover"]

GENERATE = "generate:"
"""How a source begins that is a prompt for the generator."""
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
    """Where instances of a category come from, in turns, with ";" between: "family", a file or folder of things, or
    "generate:PROMPT". A category that is not mentioned comes from its family, and so does what a folder has no more things for."""
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
                f"assets.pool takes most_scenes, ahead and most_mb of 1 or more, got {self.most_scenes}, {self.ahead}, {self.most_mb}"
            )
        for category, text in self.sources.items():
            FAMILIES.check(category)
            if any(source.startswith(GENERATE) for source in named(text)) and not self.generator:
                raise ConfigError(
                    f"assets.pool.sources of {category!r} has a prompt, {text!r}, and assets.pool.generator is empty: say who answers"
                )
        if self.live:
            Turnover(self)  # refuses what no scene could keep to

    @property
    def enabled(self) -> bool:
        """Whether there is a pool at all."""
        return self.live > 0


def named(text: str) -> tuple[str, ...]:
    """The sources that a text names."""
    return tuple(part.strip() for part in text.split(";") if part.strip()) or ("family",)


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
