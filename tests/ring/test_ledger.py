"""The ledger proves the bound, and finds every way of breaking it."""

import os
import resource
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from interrupts import interrupt
from ring_parts import eventually, kill, put, ring_spec, start

from embodichain.errors import IntegrityError, RingError, RingTimeout
from embodichain.ring.layout import AT_SEQUENCE
from embodichain.ring.ledger import HEADER, MOST_READS, RECORD, Event, Ledger, load, read_indices
from embodichain.ring.proof import verify
from embodichain.ring.ring import Ring


def test_a_run_through_the_ring_is_proven(tmp_path):
    path, rng = tmp_path / "ledger", np.random.default_rng(0)
    with Ring.create(ring_spec(num_slots=6, max_reads=4)) as ring, Ledger.open(path) as ledger:
        ledger.bound(4)
        for number in range(6):
            put(ring, number)
            ledger.publish(number, pairs=100 + number)
        step = 0
        while ring.stats().ready:
            with ring.sample(3, 0.0, rng, partial=True) as batch:
                ledger.read(batch, step=step, pairs=100 + batch.trajectory_ids)
            step += 1
    report = verify(path)
    report.raise_on_violation()
    assert (report.max_reads, report.trajectories, report.reads, report.iterations) == (4, 6, 24, step)
    assert report.reads_histogram == {4: 6}
    assert report.unique_pairs == 615
    assert report.unique_pairs_per_iteration == 615 / step
    assert 0 <= report.age_p50_s <= report.age_p99_s < 10
    assert report.reads_at_retirement == 4


def test_reads_over_the_bound_are_found(tmp_path):
    with Ledger.open(tmp_path / "ledger") as ledger:
        ledger.publish([7, 8], pairs=10)
        for index in range(5):
            ledger.record(Event.READ, [7, 8][: 1 + (index < 3)], read_index=index, step=index)
    report = verify(tmp_path / "ledger", 3)
    assert report.violations == {7: 5}
    with pytest.raises(IntegrityError, match=r"1 of 2 trajectories were read more often than max_reads=3 \(worst 0x7: 5 reads\)"):
        report.raise_on_violation()


def test_a_draw_handed_out_twice_is_found(tmp_path):
    with Ledger.open(tmp_path / "ledger") as ledger:
        ledger.record(Event.READ, [7, 7], read_index=[0, 0])
    report = verify(tmp_path / "ledger", 3)
    assert (report.duplicates, report.violations) == (1, {})
    with pytest.raises(IntegrityError, match="1 reads claimed twice"):
        report.raise_on_violation()


def test_reads_without_bound_are_counted_beyond_65536_and_those_beyond_all_counting_are_claimed_by_nobody(tmp_path):
    path = tmp_path / "ledger"
    many = [0, 65_535, 65_536, 131_072, MOST_READS - 1]
    with Ledger.open(path) as ledger:
        ledger.bound(0)
        ledger.record(Event.READ, np.full(len(many), 7), read_index=many)
        ledger.record(Event.READ, [7, 7, 7], read_index=[MOST_READS, MOST_READS + 1, 1 << 40])
        ledger.give_up({9: 70_000}, step=0)
    report = verify(path)
    assert (report.duplicates, report.reads, report.given_up) == (0, 8, {9: 70_000})
    assert read_indices(load(path)[0])[1:9].tolist() == [*many, *[MOST_READS] * 3]
    with Ledger.open(path) as ledger:
        ledger.record(Event.READ, 7, read_index=65_536)
    assert verify(path).duplicates == 1


@pytest.mark.parametrize("cut", range(1, RECORD.itemsize))
def test_a_torn_record_is_skipped_and_others_go_on_after_it(tmp_path, cut):
    path = tmp_path / "ledger"
    with Ledger.open(path) as ledger:
        ledger.record(Event.READ, [1, 2, 3], read_index=0)
    os.truncate(path, path.stat().st_size - cut)
    assert load(path)[0]["trajectory_id"].tolist() == [1, 2]
    with Ledger.open(path) as ledger:
        ledger.record(Event.READ, 4)
    assert load(path)[0]["trajectory_id"].tolist() == [1, 2, 4]
    assert verify(path, 1).damaged == 0


def test_a_ledger_of_many_torn_records_is_read_in_a_time_linear_in_its_size(tmp_path):
    def seconds(count):
        path = tmp_path / f"{count}"
        if not path.exists():
            with Ledger.open(path) as ledger:
                ledger.record(Event.READ, np.arange(1_000 + count), read_index=0)
            whole = path.read_bytes()
            end = len(HEADER) + 1_000 * RECORD.itemsize
            at = range(len(HEADER), end, RECORD.itemsize)
            torn = b"".join(whole[i : i + RECORD.itemsize - (i // RECORD.itemsize % 2) * 7] for i in at)
            path.write_bytes(HEADER + torn + whole[end:])
        begin = time.perf_counter()
        records, damaged = load(path)
        taken = time.perf_counter() - begin
        assert (len(records), damaged) == (500 + count, 0)
        return taken

    assert min(seconds(400_000) for _ in range(3)) < 10 * min(seconds(4_000) for _ in range(3))


def test_a_ledger_is_as_private_as_its_ring(tmp_path):
    before = os.umask(0)
    try:
        Ledger.open(tmp_path / "ledger").close()
    finally:
        os.umask(before)
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o600


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "ledger"
    with Ledger.open(path) as ledger:
        ledger.record(Event.READ, np.arange(10), read_index=np.arange(10), step=3, pairs=5, age_s=0.5)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for bit in rng.integers(0, RECORD.itemsize * 8, 100):
        damaged = data.copy()
        damaged[len(HEADER) + 3 * RECORD.itemsize + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert verify(path, 10).damaged == 1


@pytest.mark.parametrize("then", ["flush", "close"])
@pytest.mark.parametrize("fits", [0, 1, 3 * RECORD.itemsize + 13, 8 * RECORD.itemsize - 1])
def test_after_a_full_disk_every_record_is_there_once(tmp_path, fits, then):
    """The disk is full after `fits` bytes of eight records; then there is room again, and another process appends first."""
    path = tmp_path / "ledger"
    with Ledger.open(path) as ledger:
        ledger.bound(2)
        ledger.flush()
        ledger.record(Event.READ, np.arange(8), read_index=0, step=0)
        room = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + fits, room[1]))
        try:
            for _ in range(2):
                with pytest.raises(RingError, match="cannot write the ledger"):
                    ledger.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, room)
        with Ledger.open(path) as other:
            other.record(Event.READ, 8, step=0)
        getattr(ledger, then)()
    report = verify(path)
    report.raise_on_violation()
    assert (report.reads, report.trajectories, report.damaged) == (9, 9, 0)


def test_a_ledger_that_cannot_be_written_is_closed_nevertheless(tmp_path):
    path, room = tmp_path / "ledger", resource.getrlimit(resource.RLIMIT_FSIZE)
    ledger = Ledger.open(path)
    ledger.record(Event.READ, 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, room[1]))
    try:
        with pytest.raises(RingError, match="cannot write the ledger"):
            ledger.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1
    ledger.close()


def test_an_interrupt_at_any_point_of_flushing_neither_loses_nor_doubles_a_record(tmp_path):
    for at in count(1):
        path = tmp_path / str(at)
        with Ledger.open(path) as ledger:
            ledger.bound(1)
            ledger.record(Event.READ, np.arange(8), step=0)
            where = interrupt(ledger.flush, at)
        report = verify(path)
        assert (report.reads, report.faults) == (8, []), where
        if not where:
            break
    assert at > 3


def append_for_ever(path, worker):
    ledger = Ledger.open(path)
    for number in range(1 << 30):
        ledger.record(Event.READ, np.full(100, worker << 40 | number), read_index=np.arange(100), step=number)


def test_writers_killed_at_any_time_cost_their_buffer_and_nothing_else(tmp_path):
    path = tmp_path / "ledger"
    for _ in range(3):
        writers = [start(append_for_ever, path, worker) for worker in range(2)]
        before = path.stat().st_size if path.exists() else 0
        eventually(lambda before=before: path.exists() and path.stat().st_size > before + 1_000 * RECORD.itemsize)
        for writer in writers:
            kill(writer)
            writer.join()
    report = verify(path, 100 * 3)
    assert report.damaged == 0
    assert report.reads > 1_000
    assert report.reads * RECORD.itemsize > 0.99 * path.stat().st_size


@pytest.mark.parametrize("content", [b"", b"hello, this is something else entirely........"])
def test_something_else_is_no_ledger(tmp_path, content):
    path = tmp_path / "ledger"
    path.write_bytes(content)
    with pytest.raises(RingError, match="not a ledger"):
        verify(path, 3)
    with pytest.raises(RingError, match="cannot read"):
        verify(tmp_path / "absent", 3)
    if content:
        with pytest.raises(RingError, match="not a ledger"):
            Ledger.open(path)
    with pytest.raises(RingError, match="cannot open"):
        Ledger.open(tmp_path)


def test_without_any_bound_there_is_nothing_to_prove(tmp_path):
    Ledger.open(tmp_path / "ledger").close()
    with pytest.raises(RingError, match="states no bound"):
        verify(tmp_path / "ledger")
    report = verify(tmp_path / "ledger", 5)
    assert (report.trajectories, report.reads, report.unique_pairs_per_iteration) == (0, 0, 0.0)


def test_a_restored_ring_goes_on_counting(tmp_path):
    rng, reads = np.random.default_rng(0), {}

    def draw(ring, batches):
        for _ in range(batches):
            with ring.sample(3, 0.0, rng, partial=True) as batch:
                for sample in batch:
                    reads.setdefault(sample.trajectory_id, []).append(sample.read_index)

    with Ring.create(ring_spec(num_slots=5, max_reads=9)) as ring:
        ring.set_max_reads(6)
        for number in range(4):
            put(ring, number)
        draw(ring, 5)
        before = ring.stats()
        assert ring.snapshot(tmp_path / "snapshot") == 4
        after = ring.stats()
        assert (before.reads_left, before.acquired, before.ready) == (after.reads_left, after.acquired, after.ready)
    with Ring.restore(tmp_path / "snapshot", trajectory=ring.spec.trajectory) as ring:
        assert ring.stats().reads_left == before.reads_left
        assert ring.stats().oldest_s >= before.oldest_s
        with pytest.raises(RingTimeout):
            draw(ring, 100)
        assert ring.stats().over_reads == 0
    assert reads == {number: list(range(6)) for number in range(4)}


@pytest.mark.parametrize("begun", [False, True])
def test_a_ring_that_had_begun_is_read_on_after_a_restore_however_little_is_left(tmp_path, begun):
    rng = np.random.default_rng(0)
    with Ring.create(ring_spec(num_slots=5, max_reads=1, min_ready=4)) as ring:
        for number in range(4 if begun else 1):
            put(ring, number)
        if begun:
            ring.sample(3, 0.0, rng).release()
        ring.snapshot(tmp_path / "snapshot")
    with Ring.restore(tmp_path / "snapshot") as ring:
        assert ring.stats().ready == 1
        if begun:
            assert len(ring.acquire(1, 0.0, rng)) == 1
        else:
            with pytest.raises(RingTimeout, match="min_ready=4"):
                ring.acquire(1, 0.0, rng)


@pytest.mark.parametrize(
    ("damage", "message"), [("cut", "cut short"), ("payload", "fails its check sum"), ("index", "its index fails")]
)
def test_a_damaged_snapshot_is_refused(tmp_path, damage, message):
    path = tmp_path / "snapshot"
    with Ring.create(ring_spec()) as ring:
        put(ring, 1)
        ring.snapshot(path)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-3]
    else:
        data[100 if damage == "payload" else -40] ^= 1
    path.write_bytes(data)
    with pytest.raises(RingError, match=message):
        Ring.restore(path)


def test_a_snapshot_of_another_schema_or_of_nothing_is_refused(tmp_path):
    with Ring.create(ring_spec()) as ring, Ring.attach(ring.path) as other:
        ring.snapshot(tmp_path / "snapshot")
        with pytest.raises(RingError, match="only the owner"):
            other.snapshot(tmp_path / "other")
        with pytest.raises(RingError, match="cannot write the snapshot"):
            ring.snapshot("/nowhere/snapshot")
    with pytest.raises(RingError, match=r"asked for .*content uint64\[9\]"):
        Ring.restore(tmp_path / "snapshot", trajectory=ring_spec(words=9).trajectory)
    with pytest.raises(RingError, match="cannot read the snapshot"):
        Ring.restore(tmp_path / "absent")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RingError, match="not a snapshot"):
        Ring.restore(tmp_path / "text")


def test_a_snapshot_is_as_private_as_its_ring(tmp_path):
    before = os.umask(0)
    try:
        with Ring.create(ring_spec(num_slots=1)) as ring:
            put(ring, 1)
            ring.snapshot(tmp_path / "snapshot")
    finally:
        os.umask(before)
    assert (tmp_path / "snapshot").stat().st_mode & 0o777 == 0o600


def test_whoever_attaches_to_a_ring_that_is_being_restored_finds_it_whole_or_not_at_all(tmp_path):
    path, seen, done = tmp_path / "ring", [], threading.Event()
    with Ring.create(ring_spec(num_slots=200, max_reads=3, words=4096)) as ring:
        for number in range(150):
            put(ring, number)
        ring.snapshot(tmp_path / "snapshot")

    def attach():
        while not done.is_set():
            try:
                with Ring.attach(path) as other:
                    seen.append((other.stats().ready, other.stats().published))
                    put(other, 1_000)
                    return
            except RingError:
                continue

    thread = threading.Thread(target=attach)
    thread.start()
    with Ring.restore(tmp_path / "snapshot", path) as ring:
        thread.join(60)
        done.set()
        assert seen == [(150, 150)]
        assert (ring.stats().ready, ring._member.observer.header(AT_SEQUENCE)) == (151, 151)
