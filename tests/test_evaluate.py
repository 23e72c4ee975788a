"""Wilson's interval keeps its promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from learner.evaluation.episodes import wilson

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_interval_holds_the_rate_and_stays_a_probability(count):
    successes, episodes = count
    low, high = wilson(successes, episodes)
    assert 0.0 <= low <= successes / episodes <= high <= 1.0


@given(counts)
def test_interval_is_symmetric_in_success_and_failure(count):
    successes, episodes = count
    low, high = wilson(successes, episodes)
    mirrored = wilson(episodes - successes, episodes)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


@given(st.integers(2, 60), st.floats(0.05, 0.95))
def test_interval_covers_the_truth_about_as_often_as_it_says(episodes, rate):
    covered = sum(
        binom.pmf(k, episodes, rate) for k in range(episodes + 1) if wilson(k, episodes)[0] <= rate <= wilson(k, episodes)[1]
    )
    assert covered > 0.83  # the known worst case of the 95% interval for few episodes


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match="episodes"):
        wilson(successes, episodes)
