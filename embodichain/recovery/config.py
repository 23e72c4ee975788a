"""Settings of provoked failures: how often, of which kind, and how strong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum

import numpy as np

from embodichain.errors import ConfigError
from embodichain.types import Asset, Mishap, Range, Scene, Vec3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvocationConfig:
    """Strength of provocations. Lengths in m, durations in s, speeds in m/s; each is drawn from its range.

    Slip: when the object is lifted by `slip_rise`, the gripper opens by `slip_gap` beyond the object for `slip_s`. Out of bounds:
    an object is pushed aside by `knock` when a hand is `near`. Collision: a hand that is `near` is moved down at `led_speed`.
    Time-out: the arms stop `stall_after` the start of the attempt.
    """

    slip_rise: Range = (0.004, 0.012)
    slip_gap: Range = (0.004, 0.010)
    slip_s: Range = (0.10, 0.24)
    knock: Range = (0.04, 0.08)
    near: Range = (0.06, 0.16)
    led_speed: Range = (0.03, 0.06)
    stall_after: Range = (0.1, 0.7)


class Miss(StrEnum):
    """Where a disturbed attempt goes instead of its goal."""

    NOWHERE = "nowhere"
    """It is not disturbed."""
    ASIDE = "aside"
    """Past the object, across the direction in which it is held or pushed."""
    ABOVE = "above"
    """Short of the object, against the approach."""
    ASTRAY = "astray"
    """To a point near the goal, where it gives up without having touched anything, so that the way back becomes training data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """By how much [m] an attempt misses the object, and on which side (+1 or -1) for a miss aside."""

    miss: Miss = Miss.NOWHERE
    by: float = 0.0
    side: int = 1
    stray: Vec3 = (0.0, 0.0, 0.0)
    """Offset [m] in the world frame from the goal to the point where an attempt that wanders off gives up."""

    def aside(self, half_extent: float) -> float:
        """Signed offset [m] to pass beside an object with half extent `half_extent` [m]; 0 unless the miss is ASIDE."""
        return self.side * (half_extent + self.by) if self.miss is Miss.ASIDE else 0.0

    def above(self, height: float) -> float:
        """Offset [m] against the approach to stay above an object of `height` [m]; 0 unless the miss is ABOVE."""
        return height + self.by if self.miss is Miss.ABOVE else 0.0

    def offsets(self, half_extent: float, height: float) -> tuple[Vec3, ...]:
        """Displacements of a grip [m] in the frame of the tip (approach along Z, closing along Y); empty if undisturbed.

        They are in order of preference: if an arm cannot pass on one side, it passes on the other, or above.
        """
        if self.miss is Miss.NOWHERE:
            return ()
        aside = self.side * (half_extent + self.by)
        above = (0.0, 0.0, -(height + self.by))
        return (above,) if self.miss is Miss.ABOVE else ((aside, 0.0, 0.0), (-aside, 0.0, 0.0), above)


UNDISTURBED = Disturbance()
"""No disturbance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """Weights of the kinds of disturbances; kinds that are impossible in a scene are left out."""

    misaligned: float = 0.4
    slip: float = 0.15
    out_of_bounds: float = 0.15
    collision: float = 0.15
    time_out: float = 0.15

    def __post_init__(self) -> None:
        weights = [getattr(self, entry.name) for entry in fields(self)]
        if not (all(0.0 <= weight < math.inf for weight in weights) and sum(weights) > 0.0):
            raise ConfigError(f"the kinds of recovery need weights >= 0 that are not all 0, got {self}")

    @classmethod
    def only(cls, mishap: Mishap) -> Kinds:
        """Weights for a single kind."""
        return cls(**{entry.name: float(entry.name == mishap) for entry in fields(cls)})

    def draw(self, rng: np.random.Generator, scene: Scene) -> Mishap:
        """Draws a kind that is possible in `scene`; MISALIGNED if none with a positive weight is possible.

        Scenes with grains have no slips, because spilled grains cannot be recovered.
        """
        loose = any(graspable(placement.asset) for placement in scene.objects)
        weights = {Mishap(entry.name): getattr(self, entry.name) for entry in fields(self)}
        bolted = any(placement.asset.fixed_base for placement in scene.objects)
        without = () if loose else _OF_LOOSE_OBJECTS if bolted else (*_OF_LOOSE_OBJECTS, Mishap.COLLISION)
        if scene.grains.positions:
            without = (*without, Mishap.SLIP)
        possible = {mishap: weight for mishap, weight in weights.items() if mishap not in without}
        total, drawn = sum(possible.values()), float(rng.random())
        for mishap, weight in possible.items():
            drawn -= weight / max(total, 1e-12)
            if drawn < 0.0:
                return mishap
        return Mishap.MISALIGNED


_OF_LOOSE_OBJECTS = (Mishap.SLIP, Mishap.OUT_OF_BOUNDS)


MISALIGNED = Kinds.only(Mishap.MISALIGNED)
"""Only misaligned grasps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryConfig:
    """How often an episode is disturbed, how, by how much [m], and how many attempts it has."""

    probability: float = 0.0
    by: Range = (0.010, 0.025)
    max_attempts: int = 3
    astray: float = 0.0
    """Share of disturbed attempts that wander off, in tasks whose experts support it; the others miss."""
    astray_again: float = 0.0
    """Probability that an attempt wanders off after one that did, if `max_attempts` allows another."""
    stray_aside: float = 0.06
    stray_above: Range = (0.03, 0.10)
    """How far an attempt wanders off [m]: at most `stray_aside` along X and Y, and this range above its goal."""
    kinds: Kinds = field(default_factory=Kinds)
    """Kinds of disturbances of attempts that do not wander off."""
    provocation: ProvocationConfig = field(default_factory=ProvocationConfig)

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ConfigError(f"recovery probability must be 0..1, got {self.probability}")
        if not 0.0 <= self.by[0] <= self.by[1]:
            raise ConfigError(f"recovery must miss by 0 <= low <= high [m], got {self.by}")
        if not 0.0 <= self.astray <= 1.0 or not 0.0 <= self.astray_again <= 1.0:
            raise ConfigError(f"recovery needs astray and astray_again in 0..1, got {self.astray} and {self.astray_again}")
        if self.stray_aside < 0.0 or not 0.0 <= self.stray_above[0] <= self.stray_above[1]:
            raise ConfigError(
                "recovery needs stray_aside >= 0 and stray_above 0 <= low <= high [m], "
                f"got {self.stray_aside} and {self.stray_above}"
            )
        if self.max_attempts < 1:
            raise ConfigError(f"max_attempts must be at least 1, got {self.max_attempts}")

    def draw(self, rng: np.random.Generator) -> Disturbance:
        """Draws the disturbance of an episode's first attempt. Always takes the same number of draws from `rng`."""
        provoked, by = rng.random() < self.probability, float(rng.uniform(*self.by))
        miss = (Miss.ASIDE, Miss.ABOVE)[int(rng.integers(2))]
        side = (-1, 1)[int(rng.integers(2))]
        x, y = self._aside(rng)
        if rng.random() < self.astray:
            miss = Miss.ASTRAY
        stray = (x, y, float(rng.uniform(*self.stray_above)))
        return Disturbance(miss=miss, by=by, side=side, stray=stray) if provoked else UNDISTURBED

    def again(self, rng: np.random.Generator, before: Disturbance) -> Disturbance:
        """Draws the disturbance of an attempt after a failed one: none, or wandering off again."""
        if before.miss is not Miss.ASTRAY or not self.astray_again or rng.random() >= self.astray_again:
            return UNDISTURBED
        return Disturbance(miss=Miss.ASTRAY, stray=(*self._aside(rng), float(rng.uniform(*self.stray_above))))

    def _aside(self, rng: np.random.Generator) -> tuple[float, float]:
        x, y = (float(v) for v in rng.uniform(-self.stray_aside, self.stray_aside, 2))
        return x, y


def graspable(asset: Asset) -> bool:
    """Whether an asset is loose and meant to be picked up."""
    return not asset.fixed_base and any(name.startswith("grasp") for name in asset.affordances)
