"""Several real processes: exact counts when nobody dies, and what is left when somebody does."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from ring_parts import EVICT, eventually, fork, is_whole, kill, put, ring_spec, start, write
from test_top import screen

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import host, participants
from embodichain.ring.host import PREFIX
from embodichain.ring.locks import row_at
from embodichain.ring.participants import Health, ParticipantIdentity, RowState
from embodichain.ring.ring import Ring
from embodichain.ring.stats import Observer


def produce(path, first, count):
    with Ring.attach(path) as ring:
        for number in range(first, first + count):
            put(ring, number, 200.0)


def consume(path, seed, total, counts, torn):
    """Reads until `total` draws were made by all readers together."""
    counted = np.frombuffer(counts.get_obj(), np.int64)
    rng = np.random.default_rng(seed)
    with Ring.attach(path) as ring:
        while True:
            try:
                with ring.sample(4, 0.2, rng, partial=True) as batch:
                    for sample in batch:
                        torn.value += not is_whole(sample)
                    with counts.get_lock():
                        np.add.at(counted, batch.trajectory_ids.astype(np.int64), 1)
            except RingTimeout:
                if counted.sum() >= total:
                    return


def test_without_crashes_every_trajectory_is_read_exactly_k_times():
    writers, each, max_reads = 2, 60, 5
    with Ring.create(ring_spec(num_slots=8, max_reads=max_reads)) as ring:
        counts, torn = fork.Array("q", writers * each), fork.Value("q", 0)
        total = writers * each * max_reads
        people = [start(produce, ring.path, index * each, each) for index in range(writers)]
        people += [start(consume, ring.path, seed, total, counts, torn) for seed in range(2)]
        for process in people:
            process.join(200)
            assert process.exitcode == 0
        assert set(counts) == {max_reads}
        assert torn.value == 0
        stats = ring.stats()
        assert (stats.free, stats.published, stats.acquired, stats.over_reads, stats.refused) == (8, 120, total, 0, 0)
        assert stats.participants == 1


def hold_writing(path):
    ring = Ring.attach(path)
    slot = ring.reserve()
    slot["content"][:10] = 7
    time.sleep(600)


def hold_reading(path):
    ring = Ring.attach(path)
    ring.acquire(1, 60.0)
    time.sleep(600)


def test_a_writer_killed_in_the_middle_is_reaped_by_who_needs_the_slot():
    with Ring.create(ring_spec(num_slots=1, max_reads=1)) as ring:
        victim = start(hold_writing, ring.path)
        eventually(lambda: ring.stats().writing == 1)
        with pytest.raises(RingTimeout, match="1 being written"):
            ring.reserve(timeout_s=0.05)
        kill(victim)
        put(ring, 5, timeout_s=60.0)
        with ring.sample(1, 0.0) as batch:
            assert is_whole(batch[0])
        assert (ring.stats().reaped, ring.stats().reaped_slots) == (1, 1)
        victim.join()


def test_a_zombie_counts_as_dead_before_anybody_waits_for_it():
    with Ring.create(ring_spec(num_slots=1)) as ring:
        victim = start(hold_writing, ring.path)
        eventually(lambda: ring.stats().writing == 1)
        identity = next(v.identity for v in Observer.open(ring.path).participants() if v.identity.pid == victim.pid)
        assert identity.health() is Health.ALIVE
        kill(victim)
        eventually(lambda: participants._status(victim.pid).letter == "Z")
        assert identity.health() is Health.DEAD
        ring.reserve(timeout_s=60.0).abandon()
        victim.join()


def test_a_killed_reader_forfeits_its_draw_and_frees_its_slot():
    with Ring.create(ring_spec(num_slots=1, max_reads=2)) as ring:
        put(ring, 1)
        victim = start(hold_reading, ring.path)
        eventually(lambda: ring.stats().held == 1)
        ring.sample(1, 0.0).release()
        assert ring.stats().ready == 1  # used up, but still held
        kill(victim)
        victim.join()
        put(ring, 2, timeout_s=60.0)
        stats = ring.stats()
        assert (stats.acquired, stats.reaped, stats.reads_left, stats.over_reads) == (2, 1, 2, 0)


def test_reaping_is_done_once_however_many_do_it():
    with Ring.create(ring_spec(num_slots=4)) as ring:
        others = [Ring.attach(ring.path) for _ in range(3)]
        victim = start(hold_writing, ring.path)
        eventually(lambda: ring.stats().writing == 1)
        kill(victim)
        victim.join()
        assert sum(one.reap() for one in [ring, *others]) == 1
        assert ring.reap() == 0
        assert (ring.stats().free, ring.stats().participants, ring.stats().reaped) == (4, 4, 1)
        for other in others:
            other.close()


def hold_the_row(path, row, taken):
    hold = host.attach(path).witness.hold(row_at(row))
    assert hold is not None
    taken.set()
    time.sleep(600)


def test_a_dead_reaper_is_replaced():
    with Ring.create(ring_spec(num_slots=2)) as ring:
        victim, taken = start(hold_writing, ring.path), fork.Event()
        eventually(lambda: ring.stats().writing == 1)
        view = next(v for v in Observer.open(ring.path).participants() if v.identity.pid == victim.pid)
        kill(victim)
        victim.join()
        reaper = start(hold_the_row, ring.path, view.row, taken)
        assert taken.wait(120)
        start_ticks = participants._status(reaper.pid).start
        # As a reaper leaves it that was killed right after it had taken the row.
        lay, memory = ring._layout, ring._memory
        row = memory[lay.participants_at + view.row * 256 :][:8].view(np.uint64)
        row[0] = ParticipantIdentity(RowState.REAPING, reaper.pid, start_ticks).pack()
        assert ring.reap() == 0  # the reaper lives: the row is its business
        kill(reaper)
        reaper.join()
        assert ring.reap() == 1
        assert (ring.stats().free, ring.stats().participants) == (2, 1)


def test_a_stopped_holder_is_quarantined_and_never_robbed():
    with Ring.create(ring_spec(num_slots=2, max_reads=1)) as ring:
        victim = start(hold_writing, ring.path)
        eventually(lambda: ring.stats().writing == 1)
        os.kill(victim.pid, signal.SIGSTOP)
        eventually(lambda: ring.stats().quarantined == 1)
        put(ring, 1)
        with pytest.raises(RingTimeout, match="1 quarantined with a stopped process"):
            ring.reserve(timeout_s=0.1)
        assert ring.reap() == 0
        os.kill(victim.pid, signal.SIGCONT)
        eventually(lambda: ring.stats().quarantined == 0)
        assert ring.stats().writing == 1
        kill(victim)
        victim.join()
        ring.reserve(timeout_s=60.0).abandon()


def wait_for_slot(path, outcome):
    try:
        with Ring.attach(path) as ring:
            outcome.put("waiting")
            ring.reserve(timeout_s=600.0)
    except RingClosed as error:
        outcome.put(str(error))


def wait_for_trajectory(path, outcome):
    try:
        with Ring.attach(path) as ring:
            outcome.put("waiting")
            ring.sample(2, timeout_s=600.0)
    except RingClosed as error:
        outcome.put(str(error))


@pytest.mark.parametrize(("waiter", "ready"), [(wait_for_slot, 2), (wait_for_trajectory, 1)])
def test_closing_wakes_those_who_wait(waiter, ready):
    with Ring.create(ring_spec(num_slots=2)) as ring:
        for number in range(ready):
            put(ring, number)
        outcome = fork.Queue()
        process = start(waiter, ring.path, outcome)
        assert outcome.get(timeout=120) == "waiting"
        eventually(lambda: ring.stats().waiting_writers + ring.stats().waiting_readers == 1)
    assert "owner closed the ring" in outcome.get(timeout=120)
    process.join(120)
    assert not ring.path.exists()


def own_and_sleep(paths, path=None):
    ring = Ring.create(ring_spec(num_slots=1), path)
    put(ring, 0)
    paths.put(ring.path)
    time.sleep(600)


def test_the_death_of_the_owner_ends_the_ring_and_leaves_no_file():
    paths = fork.Queue()
    owner = start(own_and_sleep, paths)
    path = paths.get(timeout=120)
    ring = Ring.attach(path)
    kill(owner)
    owner.join()
    with pytest.raises(RingClosed, match="died without closing"):
        ring.reserve(timeout_s=60.0)
    assert not path.exists()
    ring.close()


def test_the_death_of_the_owner_is_told_by_whoever_is_asked_and_ends_the_view_of_the_ring():
    paths = fork.SimpleQueue()
    owner = start(own_and_sleep, paths)
    path = paths.get()
    with Ring.attach(path, reads=False) as ring:
        observer = Observer.open(path)
        view = threading.Thread(target=screen, args=(path, None), daemon=True)
        view.start()
        assert not ring.closed and not ring.stats().closed and not observer.stats().closed
        kill(owner)
        eventually(lambda: ring.closed)
        assert ring.stats().closed and observer.stats().closed
        view.join(20)
        assert not view.is_alive()
    owner.join()
    host.remove_stale()


def test_a_closed_attachment_can_be_asked_for_statistics_and_opens_nothing():
    with Ring.create(ring_spec(num_slots=2)) as ring:
        other = Ring.attach(ring.path)
        other.close()
        before = len([*Path("/proc/self/fd").iterdir()])
        assert (other.closed, other.stats().closed, other.stats().participants) == (True, False, 1)
        assert all(view.health is Health.ALIVE for view in other._member.observer.participants())
        assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert other.stats().closed


def own_with_eviction(paths):
    ring = Ring.create(ring_spec(num_slots=2, full_policy=EVICT))
    paths.put(ring.path)
    time.sleep(600)


def test_one_who_never_waits_notices_the_owners_death_as_well():
    paths = fork.Queue()
    owner = start(own_with_eviction, paths)
    ring = Ring.attach(paths.get(timeout=120))
    put(ring, 0)
    kill(owner)
    owner.join()
    time.sleep(1.1)
    with pytest.raises(RingClosed, match="died without closing"):
        put(ring, 1)
    ring.close()


def test_a_ring_whose_owner_died_alone_is_removed_by_the_next_create(tmp_path):
    """In a folder of its own: in /dev/shm any ring that another test creates meanwhile would rightly remove it."""
    paths = fork.Queue()
    owner = start(own_and_sleep, paths, tmp_path / f"{PREFIX}dead")
    path = paths.get(timeout=120)
    kill(owner)
    owner.join()
    assert path.exists()
    with pytest.raises(RingClosed, match=r"owner .* is gone"):
        Ring.attach(path)
    Ring.create(ring_spec(), tmp_path / f"{PREFIX}next").close()
    assert not path.exists()


def test_the_33rd_participant_is_refused_until_one_leaves_or_dies():
    with Ring.create(ring_spec()) as ring:
        others = [Ring.attach(ring.path) for _ in range(30)]
        victim = start(hold_writing, ring.path)
        eventually(lambda: ring.stats().participants == 32)
        with pytest.raises(RingError, match="all of its 32 participants"):
            Ring.attach(ring.path)
        kill(victim)
        victim.join()
        others.append(Ring.attach(ring.path))
        others.pop().close()
        others.append(Ring.attach(ring.path))
        for other in others:
            other.close()


def use_after_fork(ring, slot, outcome):
    for call in (lambda: ring.reserve(0.0), lambda: ring.sample(1, 0.0), slot.publish):
        try:
            call()
            outcome.put("worked")
        except RingError as error:
            outcome.put(str(error))
    ring.close()


def test_a_forked_child_cannot_use_or_end_its_parents_attachment():
    with Ring.create(ring_spec()) as ring, ring.reserve() as slot:
        outcome = fork.Queue()
        child = start(use_after_fork, ring, slot, outcome)
        assert all("before a fork" in outcome.get(timeout=120) for _ in range(3))
        child.join()
        assert ring.path.exists()
        assert ring.stats().writing == 1
        write(slot, 3)
    assert not ring.path.exists()


def test_a_recycled_process_id_is_somebody_else():
    me = participants.myself()
    assert me.health() is Health.ALIVE
    assert me._replace(start=me.start + 1).health() is Health.DEAD
    assert me._replace(pid=2**22 - 1).health() is Health.DEAD
    assert ParticipantIdentity.unpack(me.pack()) == me


def as_somebody_else(path, outcome):
    ctypes.CDLL(None).setresuid(65_534, 65_534, 65_534)
    try:
        Ring.attach(path)
    except RingError as error:
        outcome.put(str(error))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_may_not_attach():
    with Ring.create(ring_spec()) as ring:
        assert ring.path.stat().st_mode & 0o777 == 0o600
        outcome = fork.Queue()
        start(as_somebody_else, ring.path, outcome)
        assert "Permission denied; only the user who created it may attach" in outcome.get(timeout=120)
        os.chown(ring.path, 65_534, 65_534)
        with pytest.raises(RingError, match="belongs to user 65534, this process runs as 0"):
            Ring.attach(ring.path)


def test_many_that_wait_look_for_the_dead_no_more_often_than_a_few(monkeypatch):
    """Each looks at every participant: if all looked as often as one does alone, the cost would grow with their number squared."""
    looks = []
    look = Observer.dead
    monkeypatch.setattr(Observer, "dead", lambda observer: looks.append(observer) or look(observer))

    def looked(waiters: int) -> int:
        with Ring.create(ring_spec()) as ring:
            rings = [Ring.attach(ring.path) for _ in range(waiters)]

            def wait(one):
                with pytest.raises(RingTimeout):
                    one.sample(1, 2.0, np.random.default_rng(0))

            threads = [threading.Thread(target=wait, args=(one,)) for one in rings]
            looks.clear()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for one in rings:
                one.close()
            return len(looks)

    assert looked(1) > 20  # alone it looks each time that it wakes
    assert looked(24) < 24 * 8, "twenty-four looked eight times each at most, and not as often as one alone"
