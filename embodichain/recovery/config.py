"""What may go wrong on purpose: how often, in which way and by how much. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum

import numpy as np

from embodichain.errors import ConfigError
from embodichain.types import Asset, Mishap, Range, Scene, Vec3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvocationConfig:
    """How strongly attempts are provoked. Lengths in m, durations in s, speeds in m/s; each is drawn from its range.

    Slip: once the object is `slip_rise` up, the gripper gives way by `slip_gap` beyond the object for `slip_s`. Out of bounds: an
    object is knocked `knock` aside when a hand comes `near`. Collision: a hand that is `near` is led down at `led_speed`. Time-out:
    the arms stand still `stall_after` the attempt has begun.
    """

    slip_rise: Range = (0.004, 0.012)
    slip_gap: Range = (0.004, 0.010)
    slip_s: Range = (0.10, 0.24)
    knock: Range = (0.04, 0.08)
    near: Range = (0.06, 0.16)
    led_speed: Range = (0.03, 0.06)
    stall_after: Range = (0.1, 0.7)


class Miss(StrEnum):
    """Where a disturbed attempt goes instead of to its goal."""

    NOWHERE = "nowhere"
    """It is not disturbed."""
    ASIDE = "aside"
    """Past the object, across the direction in which it is held or pushed."""
    ABOVE = "above"
    """Short of the object, against the approach."""
    ASTRAY = "astray"
    """From where it should be to some point nearby, where it gives up, having touched nothing: the way back is worth learning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """By how much [m] an attempt passes clear of the object, and on which side (+1 or -1) when it passes aside."""

    miss: Miss = Miss.NOWHERE
    by: float = 0.0
    side: int = 1
    stray: Vec3 = (0.0, 0.0, 0.0)
    """Offset [m] in the world frame from where an attempt should be to where it gives up, when it goes astray."""

    def aside(self, half_extent: float) -> float:
        """Signed offset [m] past an object that reaches `half_extent` [m] to either side; 0 unless the miss is aside."""
        return self.side * (half_extent + self.by) if self.miss is Miss.ASIDE else 0.0

    def above(self, height: float) -> float:
        """Offset [m] against the approach that clears `height` [m] of object; 0 unless the miss is above."""
        return height + self.by if self.miss is Miss.ABOVE else 0.0

    def offsets(self, half_extent: float, height: float) -> tuple[Vec3, ...]:
        """Where a grip goes instead [m], in the frame of a tip that approaches along Z and closes along Y; empty when undisturbed.

        First choice first: an arm that cannot pass on one side passes on the other, or above.
        """
        if self.miss is Miss.NOWHERE:
            return ()
        aside = self.side * (half_extent + self.by)
        above = (0.0, 0.0, -(height + self.by))
        return (above,) if self.miss is Miss.ABOVE else ((aside, 0.0, 0.0), (-aside, 0.0, 0.0), above)


UNDISTURBED = Disturbance()
"""An attempt that goes where it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """How often a disturbance is of each kind, as weights; a kind that a scene has nothing for is left out."""

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
        """Every disturbance is of this kind."""
        return cls(**{entry.name: float(entry.name == mishap) for entry in fields(cls)})

    def draw(self, rng: np.random.Generator, scene: Scene) -> Mishap:
        """A kind that `scene` has something for: MISALIGNED when it has nothing for any that has a weight.

        Nothing slips where there are grains: a vessel that falls over spills them, and nobody can put those back.
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
"""The fingers miss, and nothing else goes wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryConfig:
    """How often an episode is disturbed, in which way and by how much [m], and how many attempts it may have."""

    probability: float = 0.0
    by: Range = (0.010, 0.025)
    max_attempts: int = 3
    astray: float = 0.0
    """Share of the disturbed attempts that go astray, in tasks whose experts can; the others miss."""
    astray_again: float = 0.0
    """How likely an attempt goes astray after one that did, while `max_attempts` leaves another."""
    stray_aside: float = 0.06
    stray_above: Range = (0.03, 0.10)
    """How far an attempt goes astray [m]: along X and Y at most, and above its goal."""
    kinds: Kinds = field(default_factory=Kinds)
    """What happens to the disturbed attempts that do not go astray."""
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
        """The disturbance of one episode's first attempt: none in most episodes. Takes the same draws whatever it returns."""
        provoked, by = rng.random() < self.probability, float(rng.uniform(*self.by))
        miss = (Miss.ASIDE, Miss.ABOVE)[int(rng.integers(2))]
        side = (-1, 1)[int(rng.integers(2))]
        x, y = self._aside(rng)
        if rng.random() < self.astray:
            miss = Miss.ASTRAY
        stray = (x, y, float(rng.uniform(*self.stray_above)))
        return Disturbance(miss=miss, by=by, side=side, stray=stray) if provoked else UNDISTURBED

    def again(self, rng: np.random.Generator, before: Disturbance) -> Disturbance:
        """The disturbance of the attempt after one that failed: none, or astray once more."""
        if before.miss is not Miss.ASTRAY or not self.astray_again or rng.random() >= self.astray_again:
            return UNDISTURBED
        return Disturbance(miss=Miss.ASTRAY, stray=(*self._aside(rng), float(rng.uniform(*self.stray_above))))

    def _aside(self, rng: np.random.Generator) -> tuple[float, float]:
        x, y = (float(v) for v in rng.uniform(-self.stray_aside, self.stray_aside, 2))
        return x, y


def graspable(asset: Asset) -> bool:
    """Whether it is loose and made to be picked up."""
    return not asset.fixed_base and any(name.startswith("grasp") for name in asset.affordances)
