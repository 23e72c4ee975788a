"""Closed-loop recovery: provokes failures, and continues after a noticed failure with a labelled second attempt.

An attempt judges itself from the state alone and does not know whether it was disturbed; besides, a watch checks every step
(`watch`). Labels follow from these judgements: steps of a failed attempt are FAILURE, later ones RECOVERY. Unprovoked failures are
labelled the same way, and a disturbance without effect leaves the episode NOMINAL.
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
from embodichain.recovery.trial import Attempt, Attempting, AttemptRun, back_off
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
    """Repeats attempts from the actual state until one succeeds or none is left.

    The first step after a detected failure contains the number of steps to relabel (`Step.failed_steps`) and the kind of failure.
    An attempt that gets stuck halfway counts as failed; MotionError is raised if an attempt cannot begin. With `hands` and `scene`,
    and if the probability of disturbances is not 0, every attempt is watched: it is stopped as soon as something goes wrong, the
    hands retreat, and the next attempt begins once all objects are at rest.
    """
    disturbance = config.draw(rng)
    provocation: Provocation | None = None
    if scene is not None and hands and disturbance.miss in (Miss.ASIDE, Miss.ABOVE):
        aside = rng.spawn(1)[0]  # a separate generator, so that these draws do not change later ones
        mishap = config.kinds.draw(aside, scene)
        if mishap is not Mishap.MISALIGNED:
            disturbance = UNDISTURBED
            provocation = Provocation(mishap=mishap, hands=hands, scene=scene, rng=aside, config=config.provocation)
    labels = _Labels()
    ended = Attempt(state=state, failure="no attempt was made")
    for remaining in reversed(range(config.max_attempts)):
        watch = Watch(hands, scene, ended.state) if scene is not None and hands and config.probability > 0.0 else None
        trial = AttemptRun(attempt(ended.state, disturbance), ended.state, hands, watch, provocation)
        labels.steps, mishap = 0, Mishap.STUCK
        try:
            ended = yield from labels.put(trial.run())
            mishap = trial.mishap
        except MotionError as error:
            if not remaining or (trial.state is None and disturbance == UNDISTURBED):
                raise  # nothing has moved, so planning again would fail again
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
    """Labels steps as they are yielded; the outcome of an attempt is contained in the first step after it."""

    def __init__(self) -> None:
        self.steps = 0
        """Number of steps labelled since it was last reset to 0."""
        self._segment = Segment.NOMINAL
        self._failed_steps, self._mishap, self._provoked = 0, "", False

    def put(self, steps: Generator[Step, WorldState, Ended]) -> Generator[Step, WorldState, Ended]:
        """Passes steps through with labels."""
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
        """Marks the steps since the last reset, except the first `sound_steps`, as a failure; does nothing if there are none."""
        if self.steps > sound_steps:
            self._segment = Segment.RECOVERY
            self._failed_steps, self._mishap, self._provoked = self.steps - sound_steps, str(mishap), provoked
