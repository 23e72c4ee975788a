"""Random death: nothing torn, nothing over K, nothing leaked; and proof that this test would see it."""

import pytest
import ring_fuzz


def test_kill_9_and_sigstop_of_anybody_at_any_time():
    report = ring_fuzz.run(5.0, seed=1)
    assert report.clean, report
    assert report.kills > 30
    assert report.stops > 5
    assert report.reads > 1_000


@pytest.mark.parametrize("sabotage", ["publish_first", "time_out"])
def test_the_fuzz_sees_a_broken_protocol(sabotage):
    """Publishing before writing, and freeing the slot of a live but slow writer: both must come out torn."""
    assert ring_fuzz.run(20.0, seed=2, sabotage=sabotage).torn


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_kill_9_and_sigstop_for_a_minute(seed):
    report = ring_fuzz.run(60.0, seed=seed, kill_every_s=0.005)
    assert report.clean, report
