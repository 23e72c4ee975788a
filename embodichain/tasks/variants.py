"""Variants of a task: the streamed scenes, and held-out scenes that separate generalisation from memorisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from embodichain.errors import ConfigError
from embodichain.types import Range, SceneRequest

_WIDER = 0.5
"""Share by which held-out scenes widen every placement range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """Instructions with one meaning, as format strings: those of streamed episodes, and others that only held-out scenes use."""

    streamed: Sequence[str]
    held_out: Sequence[str]

    def __post_init__(self) -> None:
        if not self.streamed or not self.held_out or set(self.streamed) & set(self.held_out):
            raise ConfigError("phrases must be given for streamed and for held-out scenes, and none for both")

    def draw(self, rng: np.random.Generator, held_out: bool, **words: str) -> str:
        """One of the phrases with its words filled in."""
        phrases = self.held_out if held_out else self.streamed
        return phrases[int(rng.integers(len(phrases)))].format(**words)


def widened(request: SceneRequest) -> SceneRequest:
    """The same request with every object's placement ranges half as wide again, about the same centre."""

    def wider(limits: Range) -> Range:
        more = _WIDER / 2 * (limits[1] - limits[0])
        return limits[0] - more, limits[1] + more

    return replace(request, objects=tuple(replace(wanted, x=wider(wanted.x), y=wider(wanted.y)) for wanted in request.objects))
