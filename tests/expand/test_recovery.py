"""Laws of recovery: labels follow from detected failures alone, and attempts are bounded."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodichain.errors import ConfigError, MotionError
from embodichain.recovery.config import UNDISTURBED, Disturbance, Miss, RecoveryConfig
from embodichain.recovery.retry import retry
from embodichain.recovery.trial import Attempt, Attempting
from embodichain.types import Segment, Step, WorldState

N, F, R = Segment.NOMINAL, Segment.FAILURE, Segment.RECOVERY


def state(time_s: float) -> WorldState:
    return WorldState(time_s=time_s, measured=np.zeros(1), object_poses={}, object_velocities={}, object_joints={}, contacts=())


def attempts(lengths: list[tuple[int, str]], seen: list, sound_steps: int = 0) -> Callable[[WorldState, Disturbance], Attempting]:
    """Attempts that last so many steps and end with such a failure, in order; a failure "stuck" raises instead."""
    left = iter(lengths)

    def attempt(begun: WorldState, disturbance: Disturbance) -> Attempting:
        length, failure = next(left)
        seen.append((begun.time_s, disturbance))
        now = begun
        for _ in range(length):
            now = yield Step(command=np.zeros(1))
        if failure == "stuck":
            raise MotionError("no way on")
        return Attempt(state=now, failure=failure, sound_steps=sound_steps)

    return attempt


def play(pursuit: Attempting) -> tuple[list[Segment], Attempt]:
    """Labels as a rollout would write them, and how it ended; the clock counts steps."""
    labels: list[Segment] = []
    step = next(pursuit)
    while True:
        if step.failed_steps:
            labels[-step.failed_steps :] = [F] * step.failed_steps
        labels.append(step.segment)
        try:
            step = pursuit.send(state(float(len(labels))))
        except StopIteration as stop:
            return labels, stop.value


def pursue_all(lengths: list[tuple[int, str]], *, attempts_allowed: int = 3, probability: float = 0.0):
    seen: list = []
    config = RecoveryConfig(probability=probability, max_attempts=attempts_allowed)
    pursuit = retry(attempts(lengths, seen), state(0.0), config, np.random.default_rng(0))
    return (*play(pursuit), seen)


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_a_detected_failure_relabels_its_attempt_and_the_next_is_recovery(first: int, second: int, disturbed: bool) -> None:
    labels, ended, seen = pursue_all([(first, "missed"), (second, "")], probability=float(disturbed))
    assert labels == [F] * first + [R] * second
    assert ended.failure == "" and ended.state.time_s == first + second
    assert seen[1] == (float(first), UNDISTURBED)
    assert (seen[0][1] != UNDISTURBED) == disturbed


@given(st.integers(1, 9))
def test_a_disturbance_that_did_no_harm_leaves_the_episode_nominal(length: int) -> None:
    labels, ended, seen = pursue_all([(length, "")], probability=1.0)
    assert labels == [N] * length and ended.failure == "" and seen[0][1] != UNDISTURBED


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_steps_that_were_right_before_a_failure_stay_as_they_were_labelled(sound: int, failed: int, last: int) -> None:
    config, seen = RecoveryConfig(), []
    trying = attempts([(sound + failed, "astray"), (sound + failed, "astray"), (last, "")], seen, sound)
    labels, ended = play(retry(trying, state(0.0), config, np.random.default_rng(0)))
    right = R if failed else N
    assert labels == [N] * sound + [F] * failed + [right] * sound + [F] * failed + [right] * last
    assert ended.failure == ""


@pytest.mark.parametrize("again", [0.0, 0.5, 1.0])
def test_attempts_go_astray_again_as_often_as_they_are_asked_to_and_the_last_never_does(again: float) -> None:
    config = RecoveryConfig(probability=1.0, astray=1.0, astray_again=again, max_attempts=4)
    rng, astray = np.random.default_rng(0), np.zeros(4)
    for _ in range(200):
        seen: list = []
        play(retry(attempts([(1, "astray"), (1, "astray"), (1, "astray"), (1, "")], seen), state(0.0), config, rng))
        astray += [disturbance.miss is Miss.ASTRAY for _, disturbance in seen]
        strays = [disturbance.stray for _, disturbance in seen if disturbance.miss is Miss.ASTRAY]
        assert len(set(strays)) == len(strays), "each goes elsewhere"
    assert astray[0] == 200 and astray[3] == 0
    np.testing.assert_allclose(astray[1:3] / 200, [again, again**2], atol=0.08)


def test_an_attempt_that_missed_does_not_make_the_next_go_astray() -> None:
    config = RecoveryConfig(probability=1.0, astray=0.0, astray_again=1.0)
    seen: list = []
    play(retry(attempts([(1, "missed"), (1, "")], seen), state(0.0), config, np.random.default_rng(0)))
    assert [disturbance.miss is Miss.NOWHERE for _, disturbance in seen] == [False, True]


def test_two_failures_are_both_failures() -> None:
    labels, ended, _ = pursue_all([(3, "missed"), (2, "slipped"), (4, "")])
    assert labels == [F] * 5 + [R] * 4 and ended.failure == ""


def test_attempts_are_bounded_and_the_last_failure_is_returned() -> None:
    labels, ended, seen = pursue_all([(2, "a"), (2, "b"), (2, "c")])
    assert len(seen) == 3 and ended.failure == "c" and len(labels) == 6


def test_an_attempt_that_gets_stuck_halfway_has_failed() -> None:
    labels, ended, _ = pursue_all([(3, "stuck"), (2, "")])
    assert labels == [F] * 3 + [R] * 2 and ended.failure == ""


def test_a_disturbance_that_cannot_be_carried_out_is_let_go() -> None:
    labels, ended, seen = pursue_all([(0, "stuck"), (4, "")], probability=1.0)
    assert labels == [N] * 4 and ended.failure == "" and seen[1][1] == UNDISTURBED


def test_no_way_to_begin_is_an_error() -> None:
    with pytest.raises(MotionError):
        pursue_all([(0, "stuck"), (4, "")])
    with pytest.raises(MotionError):
        pursue_all([(3, "stuck")], attempts_allowed=1)


@given(st.floats(0.0, 1.0), st.integers(0, 1000))
def test_the_draw_takes_as_much_from_the_generator_whatever_it_returns(probability: float, seed: int) -> None:
    first, second = np.random.default_rng(seed), np.random.default_rng(seed)
    drawn = RecoveryConfig(probability=probability).draw(first)
    RecoveryConfig(probability=1.0).draw(second)
    assert first.random() == second.random()
    assert drawn.miss is Miss.NOWHERE or 0.010 <= drawn.by <= 0.025


def test_a_miss_clears_the_object() -> None:
    aside, above = Disturbance(miss=Miss.ASIDE, by=0.02, side=-1), Disturbance(miss=Miss.ABOVE, by=0.02)
    assert aside.aside(0.05) == pytest.approx(-0.07) and aside.above(0.05) == 0.0
    assert above.above(0.05) == pytest.approx(0.07) and above.aside(0.05) == 0.0
    assert UNDISTURBED.aside(0.05) == UNDISTURBED.above(0.05) == 0.0


@pytest.mark.parametrize("wrong", [{"probability": 1.1}, {"by": (0.03, 0.01)}, {"max_attempts": 0}, {"astray_again": -0.1}])
def test_impossible_configurations_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        RecoveryConfig(**wrong)
