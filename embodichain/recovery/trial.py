"""Runs one attempt under observation: applies the provocation, and stops when the watch notices a failure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.hand import Hand
from embodichain.motion.handling import put_back
from embodichain.motion.skills import Skill, follow, together
from embodichain.recovery.provoke import Provocation
from embodichain.recovery.watch import Carrying, Noticed, Watch
from embodichain.types import Mishap, Scene, Step, WorldState


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The result of an attempt: the final state, the failure ("" for none), and the number of sound steps before it."""

    state: WorldState
    failure: str = ""
    sound_steps: int = 0
    """Number of first steps of a failed attempt that are not part of the failure and can be imitated."""


Attempting = Generator[Step, WorldState, Attempt]
"""A running attempt: yields steps, is sent the state after each, and returns its result."""

_BACK = 0.08
"""Distance by which a hand retreats upwards [m]."""
_STILL, _LEAST_S, _MOST_S = 0.02, 0.1, 2.0
"""Objects slower than `_STILL` [m/s] count as at rest; hands wait for that at least `_LEAST_S` and at most `_MOST_S` [s]."""


class AttemptRun:
    """Runs an attempt; `watch` and `provocation` may be None."""

    def __init__(
        self, trying: Attempting, begun: WorldState, hands: Sequence[Hand], watch: Watch | None, provocation: Provocation | None
    ) -> None:
        self._trying, self._begun, self._hands, self._watch = trying, begun, hands, watch
        self._provocation = None if provocation is None or provocation.fired else provocation
        self._sent: tuple[Floats, ...] = ()
        self._fresh = False
        self.state: WorldState | None = None
        """The last state; None before the first step."""
        self.noticed: Noticed | None = None
        """The failure that the watch noticed."""

    @property
    def provoked(self) -> bool:
        """Whether a provocation acted on the attempt."""
        return self._provocation is not None and self._provocation.fired

    @property
    def carried(self) -> list[Carrying]:
        """The objects that hands held in the air at the end."""
        return [] if self._watch is None else self._watch.carrying

    @property
    def mishap(self) -> Mishap:
        """The kind of failure, if it failed."""
        if self.noticed is not None:
            return self.noticed.mishap
        if self._watch is None:
            return Mishap.MISPLACED
        return Mishap.ASTRAY if self._watch.led is not None else self._watch.why()

    @property
    def velocity(self) -> Floats:
        """The difference of the last two commands [rad/step]."""
        return self._sent[-1] - self._sent[0]

    def run(self) -> Attempting:
        """Runs the attempt; raises its MotionError."""
        state = self._begun
        try:
            step = next(self._trying)
            while True:
                state = yield self._disturbed(step, state)
                self.state = state
                self.noticed = None if self._watch is None else self._watch.observe(step.command, state)
                if self.noticed is not None:
                    self._trying.close()
                    return Attempt(state=state, failure=self.noticed.words)
                self._lead(state)
                step = next(self._trying) if self._fresh else self._trying.send(state)
                self._fresh = False
        except StopIteration as stop:
            return stop.value
        finally:
            if self.provoked:  # the commands sent differ from those that the hands have stored
                for hand in self._hands:
                    hand.adopt(self._sent[-1])

    def _disturbed(self, step: Step, state: WorldState) -> Step:
        if self._provocation is not None and self._watch is not None:
            step = self._provocation.disturb(step, state, self._watch)
        self._sent = (*self._sent[-1:], step.command)
        return step

    def _lead(self, state: WorldState) -> None:
        """Takes over the hand from the attempt if it is to be moved into a collision."""
        if self._provocation is None or self._watch is None:
            return
        led = self._provocation.lead(state, self._watch, self.velocity)
        if led is None:
            return
        self._trying.close()
        self._watch.led, skill = led
        self._trying, self._fresh = _astray(skill), True


def _astray(skill: Skill) -> Attempting:
    state = yield from skill
    return Attempt(state=state, failure="the hand was led astray and ran into nothing")


def back_off(hands: Sequence[Hand], scene: Scene, state: WorldState, trial: AttemptRun) -> Skill:
    """Stops, moves the hands concerned away, sets down what they hold, and waits until all objects are at rest."""
    halting = [(hand, hand.joints_in(trial.velocity)) for hand in hands]
    halts = [follow(hand, state, hand.stop(velocity)) for hand, velocity in halting if np.abs(velocity).max() > 1e-6]
    if halts:
        state = yield from together(state, *halts)
    noticed = trial.noticed
    held = {grasp.hand.name: grasp.role for grasp in trial.carried}
    for hand in hands:
        if noticed is None or hand.at_home or (hand is not noticed.hand and (noticed.hand is not None or hand.name in held)):
            continue
        try:
            if hand.name in held and noticed.mishap is not Mishap.SLIP:
                state = yield from put_back(hand, scene, state, held[hand.name])
                continue
            state = yield from follow(hand, state, hand.shift((0.0, 0.0, _BACK)), opening=hand.open)
        except MotionError:
            continue
    for number in range(round(_MOST_S * state.control_hz)):
        fastest = max((float(np.linalg.norm(velocity[:3])) for velocity in state.object_velocities.values()), default=0.0)
        if number >= _LEAST_S * state.control_hz and fastest < _STILL:
            break
        state = yield hands[0].step()
    return state
