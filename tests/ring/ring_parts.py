"""Rings whose payload proves itself, and processes to kill."""

import ctypes
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np

from embodichain.types import Field, FullPolicy, ReplayMode, RingSpec, TrajectorySpec

WORDS = 512
"""64-bit words of content: 4 KiB, long enough for a torn one to be caught in the act."""
fork = multiprocessing.get_context("fork")


def trajectory_spec(words: int = WORDS) -> TrajectorySpec:
    return TrajectorySpec(
        horizon=4,
        fields=(
            Field(name="content", shape=(words,), dtype="uint64"),
            Field(name="trajectory_id", shape=(), dtype="uint64"),
            Field(name="action", shape=(4, 3), dtype="float32"),
        ),
    )


def ring_spec(num_slots: int = 8, max_reads: int = 3, *, words: int = WORDS, **changes) -> RingSpec:
    return RingSpec(trajectory=trajectory_spec(words), num_slots=num_slots, max_reads=max_reads, **changes)


EVICT = FullPolicy.EVICT_OLDEST
AGGREGATE = ReplayMode.AGGREGATE


def write(slot, number: int) -> None:
    """Content of which every word depends on the number: any mixture of two trajectories is seen."""
    content = slot["content"]
    np.multiply(np.arange(1, len(content) + 1, dtype=np.uint64), np.uint64(number | 1), out=content)
    slot["action"][:] = number % 1000
    slot["trajectory_id"][()] = number


def put(ring, number: int, timeout_s: float = 0.0) -> None:
    with ring.reserve(timeout_s=timeout_s) as slot:
        write(slot, number)


def is_whole(sample) -> bool:
    """Whether every word agrees with the trajectory's id."""
    content, number = sample["content"], sample.trajectory_id
    expected = np.arange(1, len(content) + 1, dtype=np.uint64) * np.uint64(number | 1)
    return (
        int(sample["trajectory_id"]) == number
        and bool((sample["action"] == number % 1000).all())
        and np.array_equal(content, expected)
    )


def die_with_parent() -> None:
    """Asks the kernel for SIGKILL when the forking process ends, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _run(function, arguments) -> None:
    die_with_parent()
    function(*arguments)


def start(function, *arguments):
    """A process of its own that runs `function`; forked, for the kernels are loaded already."""
    process = fork.Process(target=_run, args=(function, arguments), daemon=True)
    process.start()
    return process


def kill(process) -> None:
    os.kill(process.pid, signal.SIGKILL)


def eventually(condition, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)


def shared_memory_files() -> set[str]:
    """Rings of this process, and those that it is about to make; tests of other processes make theirs meanwhile."""
    names = {path.name for path in Path("/dev/shm").glob("embodichain-*")}
    return {name for name in names if name.startswith(f"embodichain-{os.getpid()}-") or f".{os.getpid()}-" in name}
