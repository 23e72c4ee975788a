"""Every change of every word, logged by those who made it, is one legal run of the sequential model."""

import inspect
import mmap
import os
import platform
import re
import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from numba import njit
from ring_model import CLAIM, EVICTION, FREE, is_legal
from ring_parts import AGGREGATE, EVICT, die_with_parent, is_whole, ring_spec, write

from embodichain.errors import RingTimeout
from embodichain.ring import budget, custody, kernels, words
from embodichain.ring.budget import SlotWord
from embodichain.ring.ring import Ring

ENTRIES = 60_000
LEAST = 1_500
"""Steps that each process makes at the least, however little time it gets."""


def worker(path, log, seed, seconds):
    """Every operation there is, at random, until time is up and enough was done; leaves with nothing held."""
    rng = np.random.default_rng(seed)
    with Ring.attach(path) as ring:
        log[-1] = ring._member.row
        ring._member.log_to(log[:-3])
        leases, number = [], seed << 32
        until = time.monotonic() + seconds
        while (time.monotonic() < until or not log[3 * LEAST]) and not log[-3_000]:  # the rest is for what is still held
            try:
                match int(rng.integers(5)):
                    case 0 | 1:
                        slot = ring.reserve(0.0)
                        write(slot, number)
                        number += 1
                        slot.publish() if rng.random() < 0.8 else slot.abandon()
                    case 2:
                        leases.append(ring.acquire(int(rng.integers(1, 4)), 0.0, rng))
                    case 3:
                        leases.append(ring.acquire(6, 0.0, rng, partial=True))
                    case _ if leases:
                        leases.pop(int(rng.integers(len(leases)))).release()
            except RingTimeout:
                if leases:
                    leases.pop(0).release()
        for lease in leases:
            assert all(is_whole(sample) for sample in lease)
            lease.release()


def histories(seconds=0.6, **spec):
    """Runs four processes and an owner who changes K; every entry as (slot, operation, before, after, row), and the last words."""
    with Ring.create(ring_spec(num_slots=6, max_reads=3, words=8, **spec)) as ring:
        logs, pids = [], []
        for seed in range(1, 5):
            log = np.frombuffer(mmap.mmap(-1, (ENTRIES + 1) * 24), np.uint64)
            logs.append(log)
            pid = os.fork()
            if not pid:
                try:
                    die_with_parent()
                    worker(ring.path, log, seed, seconds)
                    os._exit(0)
                finally:
                    os._exit(1)
            pids.append(pid)
        own = np.zeros(ENTRIES * 3, np.uint64)
        ring._member.log_to(own)
        bounds = {3}
        for k in (5, 2, 4):
            time.sleep(seconds / 5)
            ring.set_max_reads(k)
            bounds.add(k)
        assert all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 for pid in pids)
        entries = []
        for log, row in [(own, 0), *((log[:-3], int(log[-1])) for log in logs)]:
            steps = log.reshape(-1, 3)
            entries += [(int(a) >> 8, int(a) & 255, int(b), int(c), row) for a, b, c in steps[steps[:, 0] != 0]]
        assert ring.stats().over_reads == ring.stats().refused == 0
        return entries, ring._member.observer.words(), bounds


@pytest.mark.parametrize("policy", [{}, {"full_policy": EVICT}, {"mode": AGGREGATE}], ids=["block", "evict_oldest", "aggregate"])
def test_a_concurrent_history_is_a_run_of_the_sequential_model(policy):
    entries, last, bounds = histories(1.5, **policy)
    assert len(entries) > 4 * LEAST, "too few steps to have met each other"
    by_slot = defaultdict(list)
    for slot, operation, before, after, row in entries:
        words_ = SlotWord.unpack(before), SlotWord.unpack(after)
        assert is_legal(operation, *words_, row=row, max_reads=bounds), (operation, words_, row)
        by_slot[slot].append((before, after))
    assert set(by_slot) == set(range(6))
    for slot, steps in by_slot.items():
        check_chain(steps, first=0, last=int(last[slot]))
    operations = Counter(operation for _, operation, *_ in entries)
    seldom = {words.REAP}  # leaving the ring sweeps, but these workers hold nothing at the end
    if "mode" in policy:
        seldom |= {words.ACQUIRE, words.UNDRAW}  # draws only pin, and giving one back only lets go
    expected = set(range(1, 11)) - seldom - ({EVICTION} if not policy else set())
    assert expected <= set(operations)


def check_chain(steps, *, first, last):
    """One order of all steps leads from the first word to the last: an Eulerian trail in the graph of words.

    Each compare-and-swap starts where another ended. A lost or doubled step would break the balance of some word.
    """
    balance, neighbours = Counter(), defaultdict(set)
    for before, after in steps:
        balance[before] += 1
        balance[after] -= 1
        neighbours[before].add(after)
    balance[first] -= 1
    balance[last] += 1
    assert not {word for word, count in balance.items() if count}
    reached, todo = {first}, [first]
    while todo:
        for word in neighbours[todo.pop()] - reached:
            reached.add(word)
            todo.append(word)
    assert reached == set(balance) | {first}


def test_the_replay_sees_a_lost_step_and_an_illegal_one():
    entries, last, bounds = histories(0.2)
    slot = entries[0][0]
    steps = [(before, after) for s, _, before, after, _ in entries if s == slot]
    check_chain(steps, first=0, last=int(last[slot]))
    with pytest.raises(AssertionError):
        check_chain(steps[:-1], first=0, last=int(last[slot]))
    free = SlotWord(FREE, 0, 7, 0)
    claimed = SlotWord.unpack(free.pack())._replace(state=budget.SlotState.WRITING, version=8, holders=3)
    assert is_legal(CLAIM, free, claimed, row=3, max_reads=bounds)
    assert not is_legal(CLAIM, free, claimed, row=2, max_reads=bounds)
    assert not is_legal(CLAIM, free, claimed._replace(version=7), row=3, max_reads=bounds)


def test_a_word_survives_packing():
    rng = np.random.default_rng(0)
    for _ in range(1_000):
        word = int(rng.integers(0, 3)) << 62 | int(rng.integers(0, 1 << 62))
        assert SlotWord.unpack(word).pack() == word


# ------------------------------------------------------------------------------------------------------ emitted code

SIGNATURES = {
    kernels.claim: "int64(int64[::1], int64, boolean)",
    kernels.acquire: "int64(int64[::1], int32[::1], int64[::1], int32[::1], int64[:, ::1], int64, uint64, int64, boolean)",
    kernels.publish: "int64(int64[::1], int64, int64, boolean, uint64, int64)",
    custody.reap: "int64(int64[::1], int64, uint64, uint64)",
}


@pytest.fixture(scope="module")
def emitted():
    """LLVM and machine code of kernels compiled anew: what comes from numba's cache cannot be read."""
    compiled = {function: njit(signature, error_model="numpy")(function.py_func) for function, signature in SIGNATURES.items()}
    return {f.py_func.__name__: (*c.inspect_llvm().values(), *c.inspect_asm().values()) for f, c in compiled.items()}


@pytest.mark.parametrize("name", ["claim", "acquire", "publish", "reap"])
def test_the_orderings_are_in_the_emitted_code(emitted, name):
    llvm, assembly = emitted[name]
    assert re.search(r"cmpxchg \S* ?%\S+, i64 %?\S+, i64 %?\S+ seq_cst seq_cst", llvm)
    assert re.search(r"load atomic i64, .* acquire", llvm)
    assert re.search(r"store atomic i64 .* release", llvm)
    instruction = {"x86_64": r"lock\s+cmpxchgq", "aarch64": r"casal|ldaxr"}[platform.machine()]
    assert re.search(instruction, assembly)


def test_no_kernel_touches_shared_memory_but_through_atomics():
    """Shared memory is reached by address only, and only the intrinsics turn a number into a pointer."""
    for module in (words, kernels, custody):
        source = inspect.getsource(module)
        assert "inttoptr" not in source
        assert "carray" not in source
