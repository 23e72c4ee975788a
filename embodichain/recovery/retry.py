"""Closed-loop recovery: provokes a failed attempt, and turns a failure that is noticed into a labelled second try.

An attempt judges itself from the state of the world alone and does not know whether it was disturbed; beside it a watch looks at
every step (`watch`). Labels follow from these judgements: the steps of an attempt that failed are FAILURE, those after that are
RECOVERY. Failures that nobody provoked are labelled the same way, and a disturbance that did no harm leaves the episode NOMINAL.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.hand import Hand
from embodichain.recovery.config import (
    UNDISTURBED,
    Disturbance,
    Miss,
    RecoveryConfig,
)
from embodichain.recovery.provoke import Provocation
from embodichain.recovery.trial import Attempt, Attempting, Trial, back_off
from embodichain.recovery.watch import Watch
from embodichain.types import Mishap, Scene, Segment, Step, WorldState

Ended = TypeVar("Ended")


def retry(
    attempt: Callable[[WorldState, Disturbance], Attempting],
    state: WorldState,
    config: RecoveryConfig,
    rng: np.random.Generator,
    *,
    hands: Sequence[Hand] = (),
    scene: Scene | None = None,
) -> Attempting:
    """Attempts again from the actual state until an attempt ends without failure or none is left.

    The first step after a detected failure carries the number of steps to relabel (`Step.failed_steps`) and its kind. An attempt
    that gets stuck halfway has failed too; MotionError is raised when there is no way to begin one. With `hands` and `scene`, and
    unless the probability of disturbances is 0, every attempt is watched: it is given up as soon as something is seen to go wrong,
    the hands back off, and the next begins once everything lies still.
    """
    disturbance = config.draw(rng)
    provocation: Provocation | None = None
    if scene is not None and hands and disturbance.miss in (Miss.ASIDE, Miss.ABOVE):
        aside = rng.spawn(1)[0]  # so that the kind's draws shift no others
        mishap = config.kinds.draw(aside, scene)
        if mishap is not Mishap.MISALIGNED:
            disturbance = UNDISTURBED
            provocation = Provocation(mishap=mishap, hands=hands, scene=scene, rng=aside, config=config.provocation)
    labels = _Labels()
    ended = Attempt(state=state, failure="no attempt was made")
    for remaining in reversed(range(config.max_attempts)):
        watch = Watch(hands, scene, ended.state) if scene is not None and hands and config.probability > 0.0 else None
        trial = Trial(attempt(ended.state, disturbance), ended.state, hands, watch, provocation)
        labels.steps, mishap = 0, Mishap.STUCK
        try:
            ended = yield from labels.put(trial.run())
            mishap = trial.mishap
        except MotionError as error:
            if not remaining or (trial.state is None and disturbance == UNDISTURBED):
                raise  # planning again from the same state would fail again
            ended = Attempt(state=trial.state or ended.state, failure=str(error))
        if not ended.failure:
            break
        if disturbance != UNDISTURBED and mishap is not Mishap.STUCK:
            mishap = Mishap.ASTRAY if disturbance.miss is Miss.ASTRAY else Mishap.MISALIGNED
        labels.fail(mishap, provoked=disturbance != UNDISTURBED or trial.provoked, sound_steps=ended.sound_steps)
        disturbance = config.again(rng, disturbance) if remaining > 1 else UNDISTURBED
        if trial.noticed is not None and scene is not None and remaining:
            ended = replace(ended, state=(yield from labels.put(back_off(hands, scene, ended.state, trial))))
    return ended


class _Labels:
    """Labels steps as they are yielded; what an attempt turns out to be is told with the first step after it."""

    def __init__(self) -> None:
        self.steps = 0
        """Steps labelled since this was set to 0."""
        self._segment = Segment.NOMINAL
        self._failed_steps, self._mishap, self._provoked = 0, "", False

    def put(self, steps: Generator[Step, WorldState, Ended]) -> Generator[Step, WorldState, Ended]:
        """The same steps with their labels."""
        try:
            step = next(steps)
            while True:
                step = replace(
                    step, segment=self._segment, failed_steps=self._failed_steps, mishap=self._mishap, provoked=self._provoked
                )
                self._failed_steps, self._mishap, self._provoked = 0, "", False
                state = yield step
                self.steps += 1
                step = steps.send(state)
        except StopIteration as stop:
            return stop.value

    def fail(self, mishap: Mishap, *, provoked: bool, sound_steps: int = 0) -> None:
        """The steps labelled since `steps` was set to 0 but for the first, sound ones, were a failure (unless there are none)."""
        if self.steps > sound_steps:
            self._segment = Segment.RECOVERY
            self._failed_steps, self._mishap, self._provoked = self.steps - sound_steps, str(mishap), provoked
