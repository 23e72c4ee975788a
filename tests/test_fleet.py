"""The model of many machines obeys what must hold of any fleet; that it is right is measured by benchmarks/cluster.py."""

from dataclasses import replace

import pytest

from embodichain.errors import ConfigError
from embodichain.operations.fleet import Fleet, simulate

ONE = Fleet(workers=1, make_s=0.2, cores=16, workers_per_node=16, batch_size=4, step_s=0.1, max_reads=10, num_slots=32)


def test_a_fleet_whose_workers_are_slow_publishes_what_they_make_and_the_learner_waits():
    for workers in (1, 4, 8):
        found = simulate(replace(ONE, workers=workers, step_s=0.001))
        assert found.published_per_s == pytest.approx(workers / 0.2, rel=0.03)
        assert found.waiting.learner > 0.5 and found.waiting.workers < 0.01 and "workers" in found.limit


def test_a_fleet_whose_learner_is_slow_publishes_what_is_used_up_and_workers_are_blocked():
    found = simulate(replace(ONE, workers=16, max_reads=5))
    assert found.steps_per_s == pytest.approx(10.0, rel=0.02) and found.waiting.learner < 0.01
    assert found.published_per_s == pytest.approx(4 * 10.0 / 5, rel=0.05)
    assert found.waiting.workers == pytest.approx(1 - 8.0 / (16 / 0.2), abs=0.03) and "learner" in found.limit


@pytest.mark.parametrize("workers", [3, 40, 300])
def test_no_trajectory_is_read_more_often_than_k_and_in_balance_each_is(workers):
    fleet = replace(ONE, workers=workers, workers_per_node=8, cores=8)
    found = simulate(fleet)
    assert found.reads_per_trajectory <= fleet.max_reads * 1.05
    assert found.new_per_step == pytest.approx(fleet.batch_size / fleet.max_reads, rel=0.2)


def test_more_workers_than_cores_of_a_node_make_no_more():
    crowded = replace(ONE, workers=64, workers_per_node=64, cores=8, step_s=0.0001, num_slots=128)
    assert simulate(crowded).published_per_s == pytest.approx(8 / 0.2, rel=0.1)


def test_remote_workers_share_one_gateway_and_more_learner_nodes_help():
    many = replace(ONE, workers=2000, workers_per_node=16, step_s=0.001, deliver_s=0.002, max_reads=4, num_slots=256)
    found = simulate(many)
    assert found.gateway_busy > 0.9 and found.published_per_s < 1000
    split = simulate(replace(many, learners=8))
    assert split.published_per_s > 4 * found.published_per_s


def test_remote_workers_that_are_too_many_are_blocked_for_what_is_too_much():
    fleet = replace(ONE, workers=200, workers_per_node=8, cores=16, deliver_s=1e-6, trajectory_bytes=1.0)
    found = simulate(fleet)  # 200 workers make 1,000 a second, and 4 are used up
    assert found.waiting.workers == pytest.approx(1 - found.published_per_s * fleet.make_s / 200, abs=0.02)


def test_a_fleet_of_nothing_is_refused():
    for change in ({"workers": 0}, {"num_slots": 2}, {"make_s": 0.0}, {"learners": 9}):
        with pytest.raises(ConfigError):
            replace(ONE, **change)


def test_the_same_seed_gives_the_same_outcome():
    assert simulate(ONE) == simulate(ONE)
