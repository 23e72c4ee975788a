"""Aggregate mode: the whole ring is read K x num_slots times, then every slot is replaced once, and no trajectory is bounded."""

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_parts import AGGREGATE, EVICT, eventually, is_whole, kill, put, ring_spec, start

from embodichain.errors import RingTimeout
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec

K = 3


def aggregate(num_slots: int = 4, max_reads: int = K, **changes) -> RingSpec:
    return ring_spec(num_slots=num_slots, max_reads=max_reads, words=16, mode=AGGREGATE, **changes)


def fill(ring: Ring, first: int = 1) -> None:
    for number in range(first, first + ring.spec.num_slots):
        put(ring, number)


def read(ring: Ring, draws: int, rng: np.random.Generator, batch: int = 1) -> Counter:
    seen: Counter = Counter()
    for _ in range(draws // batch):
        with ring.sample(batch, timeout_s=0.0, rng=rng) as lease:
            assert all(is_whole(sample) for sample in lease)
            seen.update(lease.trajectory_ids.tolist())
    return seen


def test_writers_wait_until_the_ring_was_read_k_times_its_size_and_then_replace_each_slot_once():
    with Ring.create(aggregate()) as ring:
        rng = np.random.default_rng(0)
        fill(ring)
        for generation in range(1, 4):
            left = ring.stats().reads_left
            read(ring, left - 1, rng)
            assert ring.stats().reads_left == 1
            with pytest.raises(RingTimeout):
                put(ring, 99)
            read(ring, 1, rng)
            assert ring.stats().refill_left == 4
            fill(ring, 10 * generation)
            with pytest.raises(RingTimeout):
                put(ring, 99)
            with ring.sample(4, rng=rng) as lease:
                assert set(lease.trajectory_ids.tolist()) == set(range(10 * generation, 10 * generation + 4)), "the oldest go first"


def test_one_trajectory_may_be_read_more_than_k_times_and_its_reads_are_still_counted():
    with Ring.create(aggregate(num_slots=8)) as ring:
        fill(ring)
        rng = np.random.default_rng(1)
        seen = read(ring, 8 * K - 1, rng)
        assert max(seen.values()) > K, "uniform draws without a bound overshoot: that is what is compared with"
        lease = ring.acquire(8, 0.0, rng)
        assert {int(i): int(n) for i, n in zip(lease.trajectory_ids, lease.read_indices, strict=True)} == dict(seen) | {
            int(i): 0 for i in lease.trajectory_ids if int(i) not in seen
        }
        assert ring.stats().over_reads == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=60), st.integers(0, 99))
def test_the_number_of_writes_follows_the_number_of_draws(num_slots, max_reads, steps, seed):
    """writes <= num_slots x (1 + refills called for); a refill is called for once in max_reads x num_slots draws."""
    rng = np.random.default_rng(seed)
    with Ring.create(aggregate(num_slots, max_reads)) as ring:
        writes = draws = refill = 0
        for is_write, amount in steps:
            if is_write:
                possible = writes < num_slots or refill > 0
                if possible:
                    put(ring, writes + 1)
                    refill -= writes >= num_slots
                    writes += 1
                else:
                    with pytest.raises(RingTimeout):
                        put(ring, writes + 1)
            elif writes:
                batch = min(amount, num_slots, writes)
                read(ring, batch, rng, batch)
                draws += batch
                if draws >= max_reads * num_slots:
                    draws = 0
                    refill += num_slots if refill <= num_slots else 0
            stats = ring.stats()
            assert stats.refill_left == refill
            assert stats.free + stats.writing + stats.ready == num_slots
            assert stats.reads_left == max_reads * num_slots - draws


def test_a_held_trajectory_is_never_replaced():
    with Ring.create(aggregate(num_slots=2, max_reads=1)) as ring:
        fill(ring)
        rng = np.random.default_rng(0)
        lease = ring.acquire(2, 0.0, rng)
        assert ring.stats().refill_left == 2
        with pytest.raises(RingTimeout):
            put(ring, 7)
        assert ring.stats().refill_left == 2, "a try that finds nothing to evict takes nothing from the refill"
        assert all(is_whole(sample) for sample in lease)
        lease.release()
        put(ring, 7)
        put(ring, 8)
        with pytest.raises(RingTimeout):
            put(ring, 9)


def test_a_waiting_writer_is_woken_by_the_draw_that_calls_for_a_refill():
    with Ring.create(aggregate(num_slots=2, max_reads=1)) as ring:
        fill(ring)
        done = threading.Event()

        def writer() -> None:
            put(ring, 5, timeout_s=200.0)
            done.set()

        thread = threading.Thread(target=writer)
        thread.start()
        eventually(lambda: ring.stats().waiting_writers == 1)
        assert not done.wait(0.15)
        read(ring, 2, np.random.default_rng(0))
        assert done.wait(120.0)
        thread.join()


def _churn(path, seed):
    rng = np.random.default_rng(seed)
    with Ring.attach(path) as ring:
        number = seed << 32
        while True:
            try:
                if rng.random() < 0.5:
                    put(ring, number)
                    number += 1
                else:
                    with ring.sample(int(rng.integers(1, 4)), timeout_s=0.0, rng=rng) as lease:
                        assert all(is_whole(sample) for sample in lease)
            except RingTimeout:
                pass


def test_killed_processes_leave_nothing_held_and_the_ring_goes_on():
    with Ring.create(aggregate(num_slots=4, max_reads=2)) as ring:
        for seed in range(1, 9):
            processes = [start(_churn, ring.path, seed * 10 + i) for i in range(2)]
            before = ring.stats().published
            eventually(lambda before=before: ring.stats().published > before + 50)
            for process in processes:
                kill(process)
                process.join()
            ring.reap()
            stats = ring.stats()
            assert (stats.writing, stats.held, stats.over_reads) == (0, 0, 0)
            assert stats.free + stats.ready == 4


def test_a_snapshot_keeps_the_counts(tmp_path):
    with Ring.create(aggregate()) as ring:
        fill(ring)
        seen = read(ring, 7, np.random.default_rng(3))
        assert ring.snapshot(tmp_path / "ring") == 4
        left = ring.stats().reads_left
    with Ring.restore(tmp_path / "ring") as again:
        assert again.spec.mode is AGGREGATE
        assert again.stats().reads_left == left
        lease = again.acquire(4, 0.0, np.random.default_rng(0))
        assert {int(i): int(n) for i, n in zip(lease.trajectory_ids, lease.read_indices, strict=True) if n} == dict(seen)


def test_eviction_and_aggregate_mode_exclude_each_other():
    with pytest.raises(ValueError, match="aggregate"):
        aggregate(full_policy=EVICT)


def test_min_ready_of_a_full_ring_reproduces_fill_then_read():
    with Ring.create(aggregate(min_ready=4)) as ring:
        for number in (1, 2, 3):
            put(ring, number)
        with pytest.raises(RingTimeout, match="min_ready"):
            ring.acquire(1, 0.0)
        put(ring, 4)
        ring.acquire(1, 0.0).release()
