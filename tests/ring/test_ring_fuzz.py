"""Random death: nothing torn, nothing over K, nothing leaked; and proof that this test would see it."""

import ctypes
import mmap
import os
import signal

import containers
import numpy as np
import pytest
import ring_fuzz
from numba import njit
from ring_parts import eventually, is_whole, put, ring_spec, start, write

from embodichain.errors import RingTimeout
from embodichain.ring.atomics import add, cas, load
from embodichain.ring.budget import SlotState, SlotWord
from embodichain.ring.ring import Ring
from embodichain.ring.words import ONE_READ, U64, remaining_of


@pytest.mark.parametrize("kills", [24, pytest.param(60, marks=pytest.mark.slow)])
def test_kill_9_and_sigstop_of_anybody_at_any_time(kills):
    report = ring_fuzz.run(200.0, seed=1, max_kills=kills, least_reads=17 * kills)
    assert report.clean, report
    assert report.kills >= kills
    assert report.stops > kills // 12
    assert report.reads >= 17 * kills


@pytest.mark.skipif(not containers.allowed(), reason="needs root, and a kernel that allows it, to make pid namespaces")
@pytest.mark.slow
def test_kill_9_and_sigstop_of_anybody_when_every_second_one_is_in_a_container():
    report = ring_fuzz.run(200.0, seed=4, max_kills=60, least_reads=1_001, containers=True)
    assert report.clean, report
    assert report.kills >= 60 and report.reads > 1_000 and report.reaped > 10


def test_the_fuzz_sees_a_broken_protocol():
    """Publishing before writing must come out torn."""
    assert ring_fuzz.run(200.0, seed=2, sabotage="publish_first").torn


def stop_half_way(path):
    """A writer that is stopped in the middle of its payload, and goes on when it is woken."""
    ring = Ring.attach(path)
    with ring.reserve() as slot:
        content = slot["content"].copy()
        write({"content": content, "action": slot["action"], "trajectory_id": slot["trajectory_id"]}, 77)
        half = len(content) // 2
        slot["content"][:half] = content[:half]
        os.kill(os.getpid(), signal.SIGSTOP)
        slot["content"][half:] = content[half:]
        os._exit(0)  # whether its publish is refused is another test


@pytest.mark.parametrize("lease_by_time", [True, False])
def test_a_slot_taken_from_a_live_writer_by_time_is_torn_when_it_wakes_up(lease_by_time):
    with Ring.create(ring_spec(num_slots=1, max_reads=2)) as ring:
        writer = start(stop_half_way, ring.path)
        eventually(lambda: ring.stats().quarantined == 1)
        if lease_by_time:  # the sabotage: the slot of a silent holder is declared free
            place = ring._layout.words_at
            word = ring._memory[place : place + 8].view(np.uint64)
            word[0] = SlotWord(SlotState.FREE, 0, SlotWord.unpack(int(word[0])).version, 0).pack()
            put(ring, 5)
            with ring.sample(1) as batch:
                assert is_whole(batch[0])
                os.kill(writer.pid, signal.SIGCONT)
                writer.join()
                assert not is_whole(batch[0])
        else:
            with pytest.raises(RingTimeout):
                ring.reserve(timeout_s=0.2)
            os.kill(writer.pid, signal.SIGCONT)
            writer.join()
            put(ring, 5, timeout_s=5.0)  # its death is proven now
            with ring.sample(1) as batch:
                assert is_whole(batch[0])


@pytest.mark.slow
def test_kill_9_and_sigstop_for_a_minute():
    report = ring_fuzz.run(60.0, seed=3, kill_every_s=0.005)
    assert report.clean, report


let_others_run = ctypes.CDLL(None).sched_yield
let_others_run.argtypes = ()


@njit("int64(int64, int64)")
def draw_check_then_decrement(address, tries):
    """The sabotage: looks whether a read is left, and takes it in a second step."""
    taken = 0
    for _ in range(tries):
        word = load(address)
        if remaining_of(word) == U64(1):
            let_others_run()  # on one core as well the two meet between the steps
        if remaining_of(word) != U64(0):
            add(address, U64(0) - ONE_READ)
            taken += 1
    return taken


@njit("int64(int64, int64)")
def draw_in_one_step(address, tries):
    taken = 0
    for _ in range(tries):
        word = load(address)
        if remaining_of(word) == U64(1):
            let_others_run()
        if remaining_of(word) != U64(0) and cas(address, word, word - ONE_READ):
            taken += 1
    return taken


def race(draw, reads: int) -> int:
    """How often two processes together drew from a word that allows `reads`."""
    memory = np.frombuffer(mmap.mmap(-1, 4096), np.int64)
    memory[0] = SlotWord(SlotState.READY, reads, 0, 0).pack() - (1 << 64)

    def reader(place):
        memory[8 + place] = 1
        while not (memory[9] and memory[10]):  # both start at once
            pass
        memory[place] = draw(memory.ctypes.data, 20 * reads)

    people = [start(reader, place) for place in (1, 2)]
    for process in people:
        process.join()
    return int(memory[1] + memory[2])


def test_check_then_decrement_overshoots_and_one_step_never_does():
    assert all(race(draw_in_one_step, 2_000) == 2_000 for _ in range(10))
    assert any(race(draw_check_then_decrement, 2_000) > 2_000 for _ in range(500))
