"""What a person sees: every slot, every participant, who waits; without touching anything."""

import io
import time

import numpy as np
import pytest
from rich.console import Console
from ring_parts import eventually, kill, put, ring_spec, start

from embodichain.errors import RingError
from embodichain.ring.ring import Ring
from embodichain.ring.stats import Observer
from embodichain.ring.top import RingRates, top


def wait_for_ever(path):
    with Ring.attach(path) as ring:
        ring.sample(8, timeout_s=600.0)


def screen(path, frames=1):
    out = io.StringIO()
    top(path, console=Console(file=out, width=120), frames=frames, interval_s=0.01)
    return out.getvalue()


def test_top_shows_slots_people_and_who_waits():
    with Ring.create(ring_spec(num_slots=8, max_reads=4)) as ring:
        for number in range(4):
            put(ring, number)
        lease, slot = ring.acquire(1, 0.0, np.random.default_rng(0)), ring.reserve()
        waiter = start(wait_for_ever, ring.path)
        eventually(lambda: ring.stats().waiting_readers == 1)
        before = ring._memory.copy()
        shown = screen(ring.path)
        assert np.array_equal(before[: ring._layout.participants_at], ring._memory[: ring._layout.participants_at])
        for text in (
            "ready 4",
            "held 1",
            "writing 1",
            "free 3",
            "K = 4",
            "block when full",
            "waits for trajectories",
            str(waiter.pid),
        ):
            assert text in shown
        slots = next(line for line in shown.splitlines() if "w" in line and "·" in line)
        assert slots.count("·") == 3
        kill(waiter)
        eventually(lambda: "dead" in screen(ring.path))
        lease.release()
        slot.abandon()
        waiter.join()


def test_top_ends_when_the_ring_closes():
    ring = Ring.create(ring_spec())
    observer = Observer.open(ring.path)
    ring.close()
    assert observer.stats().closed
    with pytest.raises(RingError, match="no ring at"):
        top(ring.path)


def test_rates_are_differences_over_time():
    with Ring.create(ring_spec(num_slots=8)) as ring:
        before = ring.stats()
        for number in range(6):
            put(ring, number)
        rates = RingRates.between(before, ring.stats(), 2.0)
        assert (rates.published, rates.acquired) == (3.0, 0.0)
        with pytest.raises(RingError):
            ring.sample(7, timeout_s=0.05)
        assert RingRates.between(before, ring.stats(), 1.0).blocked_reader > 0.04


def test_a_look_at_ten_thousand_slots_is_quick():
    with Ring.create(ring_spec(num_slots=10_000, words=1)) as ring:
        times = []
        for _ in range(5):
            begin = time.process_time()
            ring.stats()
            times.append(time.process_time() - begin)
        assert min(times) < 0.1
        assert "10000 slots" in screen(ring.path)
