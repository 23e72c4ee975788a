"""Nothing is held by mistake, or published by mistake: drops, exceptions at any moment, signal handlers, unwritten fields."""

import contextlib
import gc
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ring_parts import EVICT, eventually, is_whole, kill, put, ring_spec, start, write
from test_ring_processes import hold_reading
from test_top import screen

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.ring import Ring
from embodichain.types import Field, RingSpec, TrajectorySpec


@pytest.fixture
def ring():
    with Ring.create(ring_spec(num_slots=8, max_reads=16_000)) as made:
        for number in range(8):
            put(made, number)
        yield made


def test_a_dropped_lease_is_released(ring):
    for _ in range(3):
        ring.acquire(2, 0.0)
    assert ring.stats().held == 0
    lease = ring.acquire(2, 0.0)
    sample = lease[0]
    del lease
    assert ring.stats().held == 2, "a sample keeps its lease"
    assert is_whole(sample)
    del sample
    assert ring.stats().held == 0


@pytest.mark.parametrize("name", ["slots", "trajectory_ids", "read_indices", "published_ns", "ages_s"])
@pytest.mark.parametrize("partial", [False, True])
def test_the_arrays_of_a_dropped_lease_do_not_hold_its_slots(ring, name, partial):
    kept = getattr(ring.acquire(9 if partial else 4, 0.0, partial=partial), name)
    before = kept.copy()
    assert ring.stats().held == 0
    with ring.acquire(4, 0.0):  # and are not rewritten by a later one
        assert np.array_equal(kept, before)


def test_the_arrays_of_a_dropped_lease_on_a_device_do_not_hold_its_slots():
    with DeviceRing.create(ring_spec(num_slots=4, max_reads=100), DelayedDevice()) as ring:
        put(ring, 1)
        kept = ring.acquire(1).trajectory_ids
        ring.flush()
        assert (ring.stats().held, kept.tolist()) == (0, [1])


def test_a_lease_in_a_cycle_is_released_by_the_collection_and_one_in_a_loop_left_early_at_once(ring):
    def batches():
        while True:
            yield ring.acquire(2, 0.0)

    for _ in range(3):
        for _batch in batches():
            break
        del _batch
    assert ring.stats().held == 0
    cycle = [ring.acquire(1, 0.0)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert ring.stats().held == 0


def test_a_dropped_slot_is_given_back_to_whoever_needs_it():
    with Ring.create(ring_spec(num_slots=4)) as ring:
        for _ in range(9):
            slot = ring.reserve(0.0)
            slot["content"][:] = 1
            del slot
        kept = ring.reserve(0.0)
        assert (ring.stats().writing, ring.stats().refused) == (1, 0)
        write(kept, 3)
        kept.publish()
        assert ring.stats().ready == 1


def test_hundreds_of_leases_and_slots_that_are_held_stay_held(ring):
    leases = [ring.acquire(2, 0.0) for _ in range(200)]
    for lease in leases:
        assert all(is_whole(sample) for sample in lease)
        lease.release()
    assert (ring.stats().held, ring.stats().released, ring.stats().refused) == (0, 400, 0)


def test_dropped_leases_of_one_thread_do_not_touch_those_that_others_are_being_handed(ring):
    wrong = []

    def use(seed):
        rng = np.random.default_rng(seed)
        for _ in range(400):
            lease = ring.acquire(3, 1.0, rng)
            if rng.random() < 0.5:
                continue
            wrong.extend(sample for sample in lease if not is_whole(sample))
            lease.release()

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ring.stats()
    assert not wrong
    assert (ring.stats().held, ring.stats().refused) == (0, 0)


def test_a_dropped_lease_on_a_device_is_released_behind_the_kernels_that_read_it():
    with DeviceRing.create(ring_spec(num_slots=4, max_reads=100), DelayedDevice()) as ring:
        for number in range(2):
            put(ring, number)
        for _ in range(3):
            ring.acquire(2)
            ring.flush()
            assert ring.stats().held == 0
        for _ in range(9):
            ring.reserve(1.0)["content"][:] = 1
            ring.reserve(1.0).device("content")
            ring.flush()
        assert ring.stats().writing == 0


class Boom(Exception):
    pass


@contextlib.contextmanager
def alarms(handler):
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def raise_boom(*_):
    raise Boom


@pytest.mark.parametrize("interrupts", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_an_exception_at_any_moment_leaves_nothing_held_and_nothing_being_written(interrupts):
    rng = np.random.default_rng(0)
    with Ring.create(ring_spec(num_slots=64, max_reads=16_000, words=1, full_policy=EVICT)) as ring, alarms(raise_boom):
        for number in range(64):
            put(ring, number)
        hit = 0
        while hit < interrupts:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + rng.random() * 0.0008)
                while True:
                    with ring.sample(2, 0.0, rng) as lease:
                        assert len(lease.slots) == 2
                    with ring.reserve(0.0) as slot:
                        write(slot, 5)
                    ring.reserve(0.0).abandon()
            except Boom:
                hit += 1
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        lease = slot = None  # the last interrupt may have come before the end of a block began: these names still hold what it left
        gc.collect()
        stats = ring.stats()
        assert (stats.held, stats.writing, stats.refused, stats.over_reads) == (0, 0, 0, 0)
        assert stats.ready + stats.free == 64


def test_closing_in_a_signal_handler_ends_at_once_wherever_it_comes():
    rng = np.random.default_rng(1)
    rings = []

    def close(*_):
        begin = time.monotonic()
        rings[-1].close()
        assert time.monotonic() - begin < 1.0

    with alarms(close):
        for _ in range(300):
            rings.append(Ring.create(ring_spec(num_slots=4, max_reads=16_000, words=1, full_policy=EVICT)))
            for number in range(4):
                put(rings[-1], number)
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + rng.random() * 0.0006)
            with pytest.raises((RingClosed, RingError)):
                while True:
                    with rings[-1].sample(2, 0.0, rng):
                        pass
                    put(rings[-1], 9)
            stats = rings.pop().stats()
            assert (stats.held, stats.writing, stats.participants) == (0, 0, 0)


def test_a_ring_travels_as_its_path(ring):
    with pickle.loads(pickle.dumps(ring)) as other:
        assert other.path == ring.path
        assert ring.stats().participants == 2
        with other.sample(1, 0.0) as batch:
            assert is_whole(batch[0])
    with Ring.attach(ring.path, reads=False) as writer, pickle.loads(pickle.dumps(writer)) as other:
        assert other._member.row != writer._member.row
        with pytest.raises(RingError, match="only writes"):
            other.acquire(1, 0.0)


def test_attachments_without_a_generator_draw_differently(ring):
    drawn = set()
    for _ in range(40):
        with Ring.attach(ring.path) as reader, reader.sample(1, 0.0) as batch:
            drawn.add(int(batch.trajectory_ids[0]))
    assert len(drawn) >= 5


WRITE_THROUGH_A_VIEW = """
import sys, warnings
import numpy as np
from embodichain.ring.ring import Ring
ring = Ring.attach(sys.argv[1])
lease = ring.acquire(8, 5.0)
view = lease[0]["action"] if sys.argv[2] == "sample" else ring.field("action")
try:
    view.flags.writeable = True
except ValueError:
    print("numpy refuses", flush=True)
address = view.ctypes.data
import ctypes
ctypes.memset(address, 7, 4)   # what an operation in place does that knows no read-only arrays, as torch's
print("written", flush=True)
"""


@pytest.mark.parametrize("view", ["sample", "field"])
def test_what_is_read_cannot_be_written_in_place(ring, view):
    done = subprocess.run(
        [sys.executable, "-c", WRITE_THROUGH_A_VIEW, str(ring.path), view], capture_output=True, text=True, check=False
    )
    assert done.stdout == "numpy refuses\n"
    assert done.returncode == -signal.SIGSEGV
    eventually(lambda: ring.reap() or ring.stats().participants == 1)
    with ring.sample(8, 0.0) as batch:
        assert all(is_whole(sample) for sample in batch)


@pytest.mark.parametrize("place", ["host", "device"])
def test_a_slot_with_a_field_never_asked_for_or_without_an_id_is_not_published(place):
    spec = ring_spec(num_slots=1, max_reads=1)
    with Ring.create(spec) if place == "host" else DeviceRing.create(spec, DelayedDevice()) as ring:
        put(ring, 1, timeout_s=1.0)
        ring.sample(1).release()
        with pytest.raises(RingError, match=r"never written, \['action', 'trajectory_id'\]"), ring.reserve(1.0) as slot:
            slot["content"][:] = 2
        with pytest.raises(RingError, match=r"never written, \['content'\]"), ring.reserve(1.0) as slot:
            slot["action"][:] = 2
            slot["trajectory_id"][()] = 2
        with pytest.raises(RingError, match="without an id"), ring.reserve(1.0) as slot:
            slot["content"][:] = 2
            slot["action"][:] = 2
            assert slot["trajectory_id"] != 1
        slot = ring.reserve(1.0)
        slot["content"][:] = 2
        with pytest.raises(RingError, match="never written"):
            slot.publish()
        write(slot, 2)
        slot.publish()
        assert ring.stats().ready == 1


def test_a_text_that_nobody_wrote_is_refused_like_every_field():
    fields = (Field(name="x", shape=(2,), dtype="float32"), Field(name="text", shape=(16,), dtype="uint8"))
    with Ring.create(RingSpec(trajectory=TrajectorySpec(horizon=1, fields=fields), num_slots=1, max_reads=1)) as ring:
        with ring.reserve() as slot:
            slot["x"][:] = 1
            slot["text"][:3] = np.frombuffer(b"one", np.uint8)
        ring.sample(1, 0.0).release()
        with pytest.raises(RingError, match=r"never written, \['text'\]"), ring.reserve() as slot:
            slot["x"][:] = 2
        assert ring.stats().ready == 0


@pytest.mark.parametrize("keep", [lambda view: view, lambda view: view[1:], lambda view: torch.from_numpy(view)[0]])
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_debug_mode_tells_of_views_that_outlive_their_lease(keep):
    with Ring.create(ring_spec(num_slots=1, max_reads=100), debug=True) as ring:
        put(ring, 1)
        lease = ring.acquire(1, 0.0)
        kept = keep(lease[0]["action"])
        with pytest.warns(RuntimeWarning, match="views of action of slot 0 are still referred to"):
            lease.release()
        del kept
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with ring.sample(1, 0.0) as batch:
                assert keep(batch[0]["action"].copy()).max() == 1
                again = ring.acquire(1, 0.0)
                kept = again[0]["action"]
                again.release()  # the first lease still stands for it
                del kept


def test_who_holds_what_since_when_is_said_by_stats_errors_and_top():
    with Ring.create(ring_spec(num_slots=1, max_reads=1)) as small:
        put(small, 1)
        holder = start(hold_reading, small.path)
        eventually(lambda: small.stats().held == 1)
        time.sleep(0.2)
        (held,) = small.stats().holders
        assert (held.pid, held.reading, held.writing) == (holder.pid, 1, 0)
        assert 0.15 < held.since_s < 60.0
        with pytest.raises(RingTimeout, match=rf"process {holder.pid} holds 1 for reading since 0\.\d s"):
            small.reserve(timeout_s=0.0)
        assert "reads 1" in screen(small.path)
        kill(holder)
        holder.join()
        small.reserve(timeout_s=60.0).abandon()
        assert small.stats().holders == ()


def test_views_are_parts_of_the_rings_file_and_no_copies(ring):
    """Of one file, at one place: what is written is read without a copy, through another mapping of the same pages."""

    def in_file(address):
        for line in Path("/proc/self/maps").read_text().splitlines():
            bounds, _, offset, _, inode, *_ = line.split()
            begin, end = (int(bound, 16) for bound in bounds.split("-"))
            if begin <= address < end:
                return int(inode), int(offset, 16) + address - begin
        return None

    with ring.sample(8, 0.0) as batch:
        places = {sample.slot: in_file(sample["content"].ctypes.data) for sample in batch}
        lay = ring._layout
        assert places == {
            slot: (ring.path.stat().st_ino, lay.payload_at + slot * lay.slot_bytes + lay.field_offsets[0]) for slot in range(8)
        }


@pytest.mark.parametrize("inner", ["set_max_reads", "snapshot"])
@pytest.mark.parametrize("outer", ["set_max_reads", "snapshot"])
def test_the_owners_operations_in_a_signal_handler_during_either_are_refused_and_wait_for_other_threads(tmp_path, outer, inner):
    path, rng, refused = tmp_path / "snapshot", np.random.default_rng(0), []
    with Ring.create(ring_spec(num_slots=1_000, max_reads=100, words=1)) as ring:  # so many that each takes milliseconds
        for number in range(1_000):
            put(ring, number)
        deeds = {"set_max_reads": lambda: ring.set_max_reads(100), "snapshot": lambda: ring.snapshot(path)}

        def handler(_number, _frame):
            try:
                deeds[inner]()
            except RingError as error:
                refused.append(str(error))

        before = signal.signal(signal.SIGALRM, handler)
        try:
            deadline = time.monotonic() + 60
            while not refused and time.monotonic() < deadline:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 2e-3))
                deeds[outer]()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert f"{inner} was called by a signal handler during {outer}" in refused[0]
        others = [threading.Thread(target=deeds[inner], daemon=True) for _ in range(3)]
        for other in others:
            other.start()
        assert ring.snapshot(path) == 1_000, "and afterwards all works"
        for other in others:
            other.join(60)
            assert not other.is_alive()
        ring.set_max_reads(5)
        assert ring.stats().max_reads == 5
