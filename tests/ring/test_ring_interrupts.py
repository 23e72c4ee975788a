"""An exception of a signal handler at any point of creating, attaching and closing leaves no lock, no row and no file behind."""

import gc
import os

import pytest
from interrupts import interrupt, interruptions
from ring_parts import put, ring_spec, shared_memory_files

from embodichain.ring.host import remove_stale
from embodichain.ring.locks import OWNER_AT, is_locked, row_at
from embodichain.ring.ring import Ring

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
STEP = pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])


def locked_rows(path) -> list[int]:
    """Rows of a ring whose locks are held."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [row for row in range(32) if is_locked(descriptor, row_at(row))]
    finally:
        os.close(descriptor)


@STEP
def test_attaching_and_closing(step):
    with Ring.create(ring_spec(num_slots=2, max_reads=9, words=1)) as ring:
        put(ring, 1)

        def attach() -> None:
            with Ring.attach(ring.path) as other, other.sample(1, 0.0):
                pass

        attach()
        points = 0
        for where in interruptions(attach, step):
            points += 1
            gc.collect(0)
            assert locked_rows(ring.path) == [0], where
            ring.reap()
            assert ring.stats().participants == 1, where
            assert ring.stats().held == 0, where
            if not ring.stats().ready:
                put(ring, 1)
        assert points * step > 300


@STEP
def test_creating_and_closing(step):
    spec, before = ring_spec(num_slots=1, words=1), shared_memory_files()

    def create() -> None:
        Ring.create(spec).close()

    create()
    points = 0
    for where in interruptions(create, step):
        points += 1
        remove_stale()  # as the next ring does: it removes only what no living process has locked
        assert not {name for name in shared_memory_files() - before if f"-{os.getpid()}-" in name}, where
    assert points * step > 300


@STEP
def test_a_close_that_was_interrupted_is_completed_by_the_next(step):
    at = 1
    while True:
        ring = Ring.create(ring_spec(num_slots=1, words=1))
        other = Ring.attach(ring.path)
        slot = other.reserve(0.0)
        where = interrupt(other.close, at)
        other.close()
        assert locked_rows(ring.path) == [0], where
        assert (ring.stats().writing, ring.stats().participants) == (0, 1), where
        descriptor = os.open(ring.path, os.O_RDONLY)
        again = interrupt(ring.close, at)
        ring.close()
        assert ring.closed and not ring.path.exists(), again
        assert not is_locked(descriptor, OWNER_AT), again
        os.close(descriptor)
        del slot
        if not where and not again:
            break
        at += step
    assert at > 20


def test_a_snapshot(tmp_path):
    """The slot under way is not left pinned, whether or not its trajectory has reads left."""
    with Ring.create(ring_spec(num_slots=2, max_reads=1, words=1)) as ring:
        put(ring, 1)
        put(ring, 2)
        with ring.sample(1, 0.0) as lease:
            points = 0
            for where in interruptions(lambda: ring.snapshot(tmp_path / "snapshot")):
                points += 1
                assert ring.stats().held == 1, where
                assert ring.snapshot(tmp_path / "snapshot") == 1, "and the next one succeeds"
            assert points > 60
        used = [ring.reserve(0.0)]
        assert lease.slots.tolist() == [used[0].index], "its slot is free again"
