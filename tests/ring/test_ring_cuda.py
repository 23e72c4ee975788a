"""Whatever the order in which copies and kernels complete, and whoever dies: no read is torn, nothing is over K, nothing leaks.

The state machine that runs on CUDA, on a device that completes late from a seed. The same laws on hardware: `tests/gpu`.
"""

import pytest
from device_world import OPERATIONS, PublishesAtOnce, ReusesBuffers, World, random_operations
from hypothesis import given, settings
from hypothesis import strategies as st

operations = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 1), st.integers(0, 40)), max_size=60)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), num_slots=st.integers(1, 4), max_reads=st.integers(1, 3), evict=st.booleans(), ops=operations)
def test_any_sequence_reads_whole_trajectories_and_gives_everything_back(seed, num_slots, max_reads, evict, ops):
    world = World(seed, num_slots=num_slots, max_reads=max_reads, evict=evict)
    world.run(ops)
    assert world.torn == 0
    world.end()
    assert world.torn == 0


@pytest.mark.parametrize("evict", [False, True])
def test_a_long_run_reads_whole_trajectories_and_gives_everything_back(evict):
    world = World(7, evict=evict)
    world.run(random_operations(7, 1500))
    world.end()
    assert world.torn == 0
    assert world.checked > 200
    assert len(world.graves) > 20


def torn(seed: int, **sabotage) -> int:
    """Torn reads of one run."""
    world = World(seed, **sabotage)
    try:
        world.run(random_operations(seed, 400))
    finally:
        world.drop()
    return world.torn


SABOTAGE = {
    "publish without waiting": {"producer": PublishesAtOnce},
    "release without waiting": {"learner": PublishesAtOnce},
    "staging used again": {"producer": ReusesBuffers},
    "copies outlive their process": {"the_dead_stop": False},
}


@pytest.mark.parametrize("sabotage", SABOTAGE)
def test_the_test_catches(sabotage):
    """Negative controls: without each gate runs tear. The last shows what is asked of a driver: the dead stop copying."""
    assert any(torn(seed, **SABOTAGE[sabotage]) for seed in range(20))
