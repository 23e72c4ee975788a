import numpy as np
import pytest
from learner_parts import fill, spec, trajectory

from embodichain.errors import ConfigError
from embodichain.ring.ring import Ring
from embodichain.types import CHUNK, RingSpec
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.data.experience import Experience
from learner.reporting.efficiency import fit_efficiency


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.5, 3.0, 0.4), (0.0, 2.0, 0.1), (1.0, 500.0, 1.5), (2.0, 0.0, 1.0)])
def test_the_fit_finds_the_law_that_made_the_points(floor, scale, exponent):
    x = np.geomspace(10, 5000, 12)
    fit = fit_efficiency(x, floor + scale * x**-exponent, rng=np.random.default_rng(0), resamples=5)
    np.testing.assert_allclose(fit.loss(x), floor + scale * x**-exponent, rtol=1e-3)
    assert fit.floor == pytest.approx(floor, abs=0.01 * (floor + 1))
    if scale:
        assert fit.exponent == pytest.approx(exponent, rel=0.02)


def test_intervals_hold_the_truth_under_noise():
    x, rng = np.geomspace(5, 5000, 40), np.random.default_rng(3)
    noisy = 0.5 + 3.0 * x**-0.5 + rng.normal(0, 0.02, x.shape)
    fit = fit_efficiency(x, noisy, rng=rng)
    assert fit.floor_interval[0] < 0.5 < fit.floor_interval[1]
    assert fit.exponent_interval[0] < 0.5 < fit.exponent_interval[1]
    assert fit.residual == pytest.approx(0.02, rel=0.4)


def test_more_experience_than_the_threshold_helps_little():
    x = np.geomspace(1, 1000, 9)
    fit = fit_efficiency(x, 1.0 + 4.0 * x**-1.0, rng=np.random.default_rng(0), resamples=0)
    at = fit.threshold(0.05)
    assert at == pytest.approx(80.0, rel=0.05)
    assert fit.loss(at) == pytest.approx(1.05 * fit.floor, rel=1e-6)


@pytest.mark.parametrize(
    ("x", "y"),
    [([1, 2, 3], [1, 1, 1]), ([1, 1, 2, 2], [1, 1, 1, 1]), ([0, 1, 2, 3], [1, 1, 1, 1]), ([1, 2, 3, 4], [1, np.nan, 1, 1])],
)
def test_points_that_say_nothing_are_refused(x, y):
    with pytest.raises(ConfigError, match="the fit needs"):
        fit_efficiency(x, y, rng=np.random.default_rng(0))


def test_each_pair_is_new_once():
    chunks = 5
    dataset = RingDataset(MemorySource([trajectory(number, chunks) for number in range(3)]), DataConfig(batch_size=3, window=2))
    experience, reads = Experience(), []
    for _ in range(40):
        taken = experience.take(dataset.draw().reads)
        assert 0 <= taken.new_pairs <= taken.pairs == 3 * 2 * CHUNK
        reads.append(taken.reads)
    assert experience.new_pairs == 3 * chunks * CHUNK, "all of them, however often they were read"
    assert reads == pytest.approx(np.arange(1, 41))


def test_ages_come_from_the_ring():
    with Ring.create(RingSpec(trajectory=spec(), num_slots=4)) as ring:
        for number in range(2):
            with ring.reserve() as slot:
                fill(slot, number)
        leased = RingDataset(ring, DataConfig(batch_size=2, window=2)).draw()
        taken = Experience().take(leased.reads)
        assert 0.0 < taken.age_s < 60.0
        leased.release()
