"""Whatever the order in which copies and kernels complete, and whoever dies: no read is torn, nothing is over K, nothing leaks.

The state machine that runs on CUDA, on a device that completes late from a seed. The same laws on hardware: `tests/gpu`.
"""

import itertools
import time
from contextlib import suppress

import numpy as np
import pytest
from device_laws import whole, write
from device_world import OPERATIONS, PublishesAtOnce, ReusesBuffers, World, random_operations
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_parts import kill, ring_spec, start

from embodichain.errors import RingTimeout
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing

operations = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 1), st.integers(0, 40)), max_size=60)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), num_slots=st.integers(1, 4), max_reads=st.integers(1, 3), evict=st.booleans(), ops=operations)
def test_any_sequence_reads_whole_trajectories_and_gives_everything_back(seed, num_slots, max_reads, evict, ops):
    world = World(seed, num_slots=num_slots, max_reads=max_reads, evict=evict)
    try:
        world.run(ops)
        assert world.torn == 0
        world.end()
        assert world.torn == 0
    except BaseException:
        world.drop()  # leaves no files behind while an example is shrunk
        raise


@pytest.mark.parametrize("evict", [False, True])
def test_a_long_run_reads_whole_trajectories_and_gives_everything_back(evict):
    world = World(7, evict=evict)
    world.run(random_operations(7, 1500))
    world.end()
    assert world.torn == 0
    assert world.checked > 200
    assert len(world.graves) > 20


def produce_for_ever(path, seed: int) -> None:
    device = DelayedDevice(seed, steps_per_poll=3)
    ring = DeviceRing.attach(path, device)
    for number in itertools.count(seed << 20):
        slot = ring.reserve(60.0)
        write(slot, number)
        slot.publish(0.0)


@pytest.mark.slow
def test_producers_killed_at_any_moment_tear_and_leak_nothing():
    """Real processes, `kill -9` while copies are under way."""
    rng = np.random.default_rng(3)
    kills = checked = 0
    with DeviceRing.create(ring_spec(6, 3), DelayedDevice(0)) as ring:
        processes = [start(produce_for_ever, ring.path, seed) for seed in (1, 2, 3)]
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            until = time.monotonic() + rng.random() * 0.1
            while time.monotonic() < until:
                with suppress(RingTimeout), ring.sample(2, 0.01, rng, partial=True) as lease:
                    for sample in lease:
                        assert whole(sample["content"], sample["action"], sample.trajectory_id)
                        checked += 1
            victim = int(rng.integers(3))
            kill(processes[victim])
            kills += 1
            processes[victim] = start(produce_for_ever, ring.path, 3 + kills)
        for process in processes:
            kill(process)
            process.join()
        ring.reap()
        ring.flush()
        stats = ring.stats()
        print(f"{kills} kills, {checked} reads, {stats.published} published")
        assert (stats.writing, stats.held, stats.over_reads) == (0, 0, 0)
        assert kills > 50
        assert checked > 1000


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
