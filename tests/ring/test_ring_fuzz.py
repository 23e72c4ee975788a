"""Random death: nothing torn, nothing over K, nothing leaked; and proof that this test would see it."""

import mmap

import numpy as np
import pytest
import ring_fuzz
from numba import njit
from ring_parts import start

from embodichain.ring.atomics import add, cas, load
from embodichain.ring.budget import SlotState, SlotWord
from embodichain.ring.words import ONE_READ, U64, remaining_of


def test_kill_9_and_sigstop_of_anybody_at_any_time():
    report = ring_fuzz.run(5.0, seed=1)
    assert report.clean, report
    assert report.kills > 30
    assert report.stops > 5
    assert report.reads > 1_000


@pytest.mark.parametrize("sabotage", ["publish_first", "time_out"])
def test_the_fuzz_sees_a_broken_protocol(sabotage):
    """Publishing before writing, and freeing the slot of a live but slow writer: both must come out torn."""
    assert ring_fuzz.run(20.0, seed=2, sabotage=sabotage).torn


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_kill_9_and_sigstop_for_a_minute(seed):
    report = ring_fuzz.run(60.0, seed=seed, kill_every_s=0.005)
    assert report.clean, report


@njit("int64(int64, int64)")
def draw_check_then_decrement(address, tries):
    """The sabotage: looks whether a read is left, and takes it in a second step."""
    taken = 0
    for _ in range(tries):
        if remaining_of(load(address)) != U64(0):
            add(address, U64(0) - ONE_READ)
            taken += 1
    return taken


@njit("int64(int64, int64)")
def draw_in_one_step(address, tries):
    taken = 0
    for _ in range(tries):
        word = load(address)
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
    assert all(race(draw_in_one_step, 2_000) == 2_000 for _ in range(5))
    assert any(race(draw_check_then_decrement, 2_000) > 2_000 for _ in range(100))
