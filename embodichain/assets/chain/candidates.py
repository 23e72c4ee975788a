"""Candidates and scores of the search for the best asset. They are plain values, because they are part of a build's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from embodichain.errors import ConfigError, unknown

VARIED = ("scale", "material", "collision", "support")
"""The properties that a search may vary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Settings of the search for the best simulation-readiness score: `budget` candidates, the first of them the plain chain's.

    The score is the weighted geometric mean of its terms, so a term near zero is not made up for by the others.
    """

    budget: int = 0
    """Number of candidates; 0 does not search."""
    seed: int = 0
    over: tuple[str, ...] = VARIED
    fidelity: float = 3.0
    stability: float = 2.0
    graspability: float = 2.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if self.budget < 0:
            raise ConfigError(f"the search budget must not be negative, got {self.budget}")
        for name in self.over:
            if name not in VARIED:
                raise unknown("thing to search over", name, VARIED)
        if not min(self.fidelity, self.stability, self.graspability, self.speed) >= 0.0 or not sum(self.weights.values()) > 0.0:
            raise ConfigError(f"weights of the score must be positive, got {self.weights}")

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each term of the score."""
        return {name: getattr(self, name) for name in ("fidelity", "stability", "graspability", "speed")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One point of the search: a factor on all lengths, the main body's material ("" keeps it), the collision budget, and the
    index of the stable pose in which the object stands (0 keeps it).
    """

    scale: float = 1.0
    material: str = ""
    hull_cost: float = 0.003
    max_vertices: int = 64
    support: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Readiness of an asset for simulation, 0 to 1: the terms, and their weighted geometric mean."""

    fidelity: float
    stability: float
    graspability: float
    speed: float
    total: float

    @property
    def terms(self) -> Mapping[str, float]:
        """The terms by name."""
        return {name: getattr(self, name) for name in ("fidelity", "stability", "graspability", "speed")}
