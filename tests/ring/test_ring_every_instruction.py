"""Death at any instruction: a process is single-stepped through each operation, and every memory it leaves on the way must heal.

Between two stores nothing changes for others, so each distinct state of the shared memory is one way to have died. Each is copied
into a ring of its own and given to a survivor: it reaps, and then everything must be there, and be found by hints alone.
"""

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections import Counter

import numpy as np
import pytest
from ring_parts import EVICT, die_with_parent, is_whole, kill, put, ring_spec, start, write
from test_ring_processes import hold_writing

from embodichain.errors import RingTimeout
from embodichain.ring import custody, kernels, layout, words
from embodichain.ring.lease import Lease
from embodichain.ring.lent import HeldReads
from embodichain.ring.locks import OWNER_AT, Hold, row_at
from embodichain.ring.participants import Health
from embodichain.ring.ring import Ring

TRACE_ME, SINGLE_STEP = 0, 9
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
MAX_READS = 3

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's ptrace")


# Each prepares its ring and returns the operation proper, as close to the kernel as it comes: every step costs microseconds.


def claim(ring):
    return lambda: ring._member._try_claim(False)


def publish(ring):
    slot = ring.reserve(0.0)
    write(slot, 77)
    return slot.publish


def abandon(ring):
    return ring.reserve(0.0).abandon


def _draw(ring, want):
    member, table = ring._member, np.empty((5, want), np.int64)
    arguments = (member._context, member._held, member._marks, member._scratch, table, want, 1, 0, False)
    return lambda: kernels.acquire(*arguments)


def acquire(ring):
    return _draw(ring, 2)


def acquire_again(ring):
    ring.acquire(3, 0.0)
    return _draw(ring, 3)


def acquire_too_many(ring):
    return _draw(ring, 4)


def release(ring):
    return ring.acquire(3, 0.0).release


def release_the_last(ring):
    for _ in range(MAX_READS - 1):
        ring.acquire(3, 0.0).release()
    return ring.acquire(3, 0.0).release


def leave(ring):
    leases = [ring.acquire(2, 0.0), ring.reserve(0.0)]
    return lambda: (leases, ring.close())


def reap(ring):
    member = ring._member
    dead = next(view for view in member.observer.participants() if view.health is Health.DEAD)
    word = dead.identity.pack()
    return lambda: custody.count_reaped(member._context, custody.reap(member._context, dead.row, word, member._reaper))


def join(ring):
    rows, word = int(ring._member._context[words.ROWS]), ring._member._identity.pack()
    return lambda: custody.join(rows, 4, word)


OPERATIONS = [claim, publish, abandon, acquire, acquire_again, acquire_too_many, release, release_the_last, leave, reap, join]


@pytest.fixture(autouse=True, scope="module")
def first_calls():
    """The first call of a kernel with a kind of arguments is a million instructions of numba: not what is traced."""
    with Ring.create(ring_spec(num_slots=5, max_reads=MAX_READS, words=16)) as ring, Ring.attach(ring.path) as other:
        for number in range(3):
            put(ring, number)
        for operation in (acquire, acquire_too_many, release, release_the_last, abandon, publish, leave, claim):
            with contextlib.suppress(RingTimeout):
                operation(other)()
            other = Ring.attach(ring.path)
        custody.count_reaped(ring._member._context, 0)


def traced(ring, make_operation):
    """Runs the operation in a child, one instruction at a time; yields the control memory whenever it has changed."""
    lay = ring._layout
    control = ring._memory[: lay.words_at + lay.num_slots * layout.SLOT_STRIDE]
    parent_payload = ring._memory
    pid = os.fork()
    if not pid:
        try:
            die_with_parent()
            mine = Ring.attach(ring.path)
            operation = make_operation(mine)
            gc.disable()  # one collection is millions of instructions
            libc.ptrace(TRACE_ME, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
            operation()
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        pytest.skip("ptrace is not permitted here")
    before = control.copy()
    states = [before]
    steps = 0
    while True:
        assert libc.ptrace(SINGLE_STEP, pid, None, None) == 0, os.strerror(ctypes.get_errno())
        _, status = os.waitpid(pid, 0)
        alive = os.WIFSTOPPED(status) and os.WSTOPSIG(status) in (signal.SIGTRAP, signal.SIGSTOP)
        assert alive, f"the operation failed by itself after {steps} steps"
        steps += 1
        if not np.array_equal(control, states[-1]):
            states.append(control.copy())
        if os.WSTOPSIG(status) == signal.SIGSTOP:
            break
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return states, parent_payload.copy(), steps


def acquired(control, ring) -> Counter:
    """Reads handed out so far by trajectory, as the witness counts them."""
    lay = ring._layout
    rows = control[lay.words_at : lay.words_at + lay.num_slots * layout.SLOT_STRIDE].view(np.uint64).reshape(lay.num_slots, -1)
    return Counter({int(row[layout.SLOT_TRAJECTORY // 8]): int(row[layout.SLOT_READS // 8]) for row in rows})


@contextlib.contextmanager
def locked(path, *bytes_):
    """Holds the locks by which the original's owner is known to be alive, on the copy as well."""
    holds = []
    for at in bytes_:
        descriptor = os.open(path, os.O_RDWR)
        holds.append(Hold.take(descriptor, at))
        os.close(descriptor)
    yield
    for hold in holds:
        hold.release()


def heal(control, memory, original, path):
    """A survivor takes over the memory of the dead: returns the reads it could still make of each trajectory."""
    path.write_bytes(control.tobytes() + memory[len(control) :].tobytes())
    path.chmod(0o600)
    with locked(path, OWNER_AT, row_at(original._member.row)), Ring.attach(path) as ring:
        while ring.reap():
            pass
        stats = ring.stats()
        assert (stats.writing, stats.held, stats.participants, stats.over_reads) == (0, 0, 2, 0)
        assert stats.free + stats.ready == stats.num_slots
        member, reads = ring._member, Counter()
        while ring.stats().ready:
            # Hints alone: the exact search of a starved reader must not be needed after reaping.
            drawn = _draw_by_hints(member, stats.num_slots)
            assert drawn is not None, "a READY slot has lost its hint"
            with Lease(ring, drawn, 0) as lease:
                assert all(is_whole(sample) for sample in lease)
                reads.update(sample.trajectory_id for sample in lease)
        slots = [member._try_claim(False) for _ in range(stats.num_slots)]
        assert min(slots) >= 0, "a FREE slot has lost its hint"
        for number, claimed in enumerate(slots):
            slot, version = claimed & 0xFF_FFFF_FFFF, claimed >> 40
            member.abandon(slot, version)
            put(ring, 500 + number)
        return reads


def _draw_by_hints(member, num_slots):
    table = np.empty((5, num_slots), np.int64)
    drawn = kernels.acquire(member._context, member._held, member._marks, member._scratch, table, 1, 1, 0, False)
    return HeldReads(table[:, :drawn].copy(), drawn) if drawn > 0 else None


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
def test_whatever_instruction_it_dies_at_the_ring_heals(tmp_path, operation):
    with Ring.create(ring_spec(num_slots=5, max_reads=MAX_READS, words=16)) as ring:
        victims = []
        for number in range(3):
            put(ring, number + 1)
        if operation is reap:
            victims = [start(hold_writing, ring.path)]
            while not ring.stats().writing:
                pass
            kill(victims[0])
            victims[0].join()
        states, memory, steps = traced(ring, operation)
        assert len(states) > 1, f"{operation.__name__} changed nothing in {steps} steps"
        for control in states:
            before = acquired(control, ring)
            reads = heal(control, memory, ring, tmp_path / "copy")
            for number in (1, 2, 3):
                made = before[number] + reads[number]
                # A draw cut short is forfeited, never given back: at most K, and one short for the dead's one draw.
                assert MAX_READS - 1 <= made <= MAX_READS, f"trajectory {number} can be read {made} times"
            published = reads[77] == MAX_READS
            assert published or not reads[77]


def test_an_eviction_cut_short_heals(tmp_path):
    with Ring.create(ring_spec(num_slots=3, max_reads=MAX_READS, words=16, full_policy=EVICT)) as ring:
        for number in range(3):
            put(ring, number + 1)
        states, memory, _ = traced(ring, claim)
        for control in states:
            heal(control, memory, ring, tmp_path / "copy")


def release_old_ones(ring):
    lease = ring.acquire(3, 0.0)
    for number in (4, 5):  # the second evicts the first, past those that are held
        put(ring, number)
    return lease.release


def test_after_a_release_cut_short_the_oldest_is_the_next_to_be_evicted(tmp_path):
    with Ring.create(ring_spec(num_slots=4, max_reads=MAX_READS, words=16, full_policy=EVICT)) as ring:
        for number in range(3):
            put(ring, number + 1)
        states, memory, _ = traced(ring, release_old_ones)
        path = tmp_path / "copy"
        for control in states:
            path.write_bytes(control.tobytes() + memory[len(control) :].tobytes())
            path.chmod(0o600)
            with locked(path, OWNER_AT, row_at(ring._member.row)), Ring.attach(path) as other:
                while other.reap():
                    pass
                for number, left in ((101, {2, 3, 5}), (102, {3, 5, 101}), (103, {5, 101, 102})):
                    put(other, number)
                    assert set(other._member.observer.ready()) == {*left, number}


def test_the_check_sees_a_hint_that_reaping_does_not_repair(tmp_path, monkeypatch):
    """The test of the test: a survivor that does not reap finds slots missing."""
    monkeypatch.setattr(Ring, "reap", lambda _: 0)
    with Ring.create(ring_spec(num_slots=5, max_reads=MAX_READS, words=16)) as ring:
        put(ring, 1)
        states, memory, _ = traced(ring, claim)
        heals = 0
        for control in states:
            try:
                heal(control, memory, ring, tmp_path / "copy")
                heals += 1
            except AssertionError:
                pass
        assert heals < len(states)
