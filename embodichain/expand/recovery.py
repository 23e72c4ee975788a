"""Closed-loop recovery: provokes a failed attempt, and turns a failure that the expert detects into a labelled second try.

An attempt judges itself from the state of the world alone and does not know whether it was disturbed. Labels follow from that
judgement: the steps of an attempt that failed are FAILURE, those after the detection RECOVERY. Failures that nobody provoked are
labelled the same way, and a disturbance that did no harm leaves the episode NOMINAL.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from embodichain.errors import ConfigError, MotionError
from embodichain.types import Range, Segment, Step, Vec3, WorldState


class Miss(StrEnum):
    """Where a disturbed attempt goes instead of to its goal."""

    NOWHERE = "nowhere"
    """It is not disturbed."""
    ASIDE = "aside"
    """Past the object, across the direction in which it is held or pushed."""
    ABOVE = "above"
    """Short of the object, against the approach."""
    ASTRAY = "astray"
    """To some point near the goal, where it gives up before it has touched anything: the way back from there is worth learning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """By how much [m] an attempt passes clear of the object, and on which side (+1 or -1) when it passes aside."""

    miss: Miss = Miss.NOWHERE
    by: float = 0.0
    side: int = 1
    stray: Vec3 = (0.0, 0.0, 0.0)
    """Offset [m] in the world frame of the point where an attempt gives up, from the goal of its approach, when it goes astray."""

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
class RecoveryConfig:
    """How often the first attempt of an episode is disturbed, by how much [m], and how many attempts an episode may have."""

    probability: float = 0.0
    by: Range = (0.010, 0.025)
    max_attempts: int = 3
    astray: float = 0.0
    """Share of the disturbed attempts that go astray, in tasks whose experts can; the others miss."""
    stray_aside: float = 0.06
    stray_above: Range = (0.03, 0.10)
    """How far an attempt goes astray [m]: along X and Y at most, and above its goal."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ConfigError(f"recovery probability must be 0..1, got {self.probability}")
        if not 0.0 <= self.by[0] <= self.by[1]:
            raise ConfigError(f"recovery must miss by 0 <= low <= high [m], got {self.by}")
        if not 0.0 <= self.astray <= 1.0 or self.stray_aside < 0.0 or not 0.0 <= self.stray_above[0] <= self.stray_above[1]:
            raise ConfigError(
                f"recovery needs astray in 0..1, stray_aside >= 0 and stray_above 0 <= low <= high [m], "
                f"got {self.astray}, {self.stray_aside} and {self.stray_above}"
            )
        if self.max_attempts < 1:
            raise ConfigError(f"max_attempts must be at least 1, got {self.max_attempts}")

    def draw(self, rng: np.random.Generator) -> Disturbance:
        """The disturbance of one episode's first attempt: none in most episodes. Takes the same draws whatever it returns."""
        provoked, by = rng.random() < self.probability, float(rng.uniform(*self.by))
        miss = (Miss.ASIDE, Miss.ABOVE)[int(rng.integers(2))]
        side = (-1, 1)[int(rng.integers(2))]
        x, y = (float(v) for v in rng.uniform(-self.stray_aside, self.stray_aside, 2))
        if rng.random() < self.astray:
            miss = Miss.ASTRAY
        stray = (x, y, float(rng.uniform(*self.stray_above)))
        return Disturbance(miss=miss, by=by, side=side, stray=stray) if provoked else UNDISTURBED


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one attempt ended: the state it left, and what went wrong ("" when nothing did)."""

    state: WorldState
    failure: str = ""


Attempting = Generator[Step, WorldState, Attempt]
"""An attempt in progress: yields steps, is sent the state after each, returns how it ended."""


def pursue(
    attempt: Callable[[WorldState, Disturbance], Attempting],
    state: WorldState,
    config: RecoveryConfig,
    rng: np.random.Generator,
) -> Attempting:
    """Attempts again from the actual state until an attempt ends without failure or none is left.

    The first step after a detected failure carries the number of steps to relabel (`Step.failed_steps`). An attempt that gets
    stuck halfway has failed too; MotionError is raised when there is no way to begin one.
    """
    disturbance = config.draw(rng)
    segment, failed_steps = Segment.NOMINAL, 0
    ended = Attempt(state=state, failure="no attempt was made")
    for remaining in reversed(range(config.max_attempts)):
        trying, sent, num_steps = attempt(ended.state, disturbance), None, 0
        try:
            while True:
                step = next(trying) if sent is None else trying.send(sent)
                sent = yield replace(step, segment=segment, failed_steps=failed_steps)
                num_steps, failed_steps = num_steps + 1, 0
        except StopIteration as stop:
            ended = stop.value
        except MotionError as error:
            if not remaining or (sent is None and disturbance == UNDISTURBED):
                raise  # planning again from the same state would fail again
            ended = Attempt(state=sent or ended.state, failure=str(error))
        if not ended.failure:
            break
        disturbance = UNDISTURBED
        if num_steps:
            segment, failed_steps = Segment.RECOVERY, num_steps
    return ended
