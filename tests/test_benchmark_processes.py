"""A benchmark that is killed leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ended import has_ended

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
_POOL = """
import time
import harness

if __name__ == "__main__":
    with harness.pool(2) as pool:
        list(pool.map(abs, range(8)))
        print("ready", flush=True)
        time.sleep(600.0)
"""


def family(process: subprocess.Popen, least: int) -> list[psutil.Process]:
    """The processes that a program has started, once there are `least`."""
    deadline = time.monotonic() + 120.0
    while len(found := psutil.Process(process.pid).children(recursive=True)) < least:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_processes_of_a_pool_end_with_a_program_that_is_killed(tmp_path):
    script = tmp_path / "measures.py"
    script.write_text(_POOL)
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    program = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None and program.stdout.readline() == "ready\n"
    children = family(program, 2)
    program.kill()
    program.communicate()
    assert all(has_ended(child, 20.0) for child in children), "they waited for work that will never come"


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_benchmark_of_experience_leaves_nothing(sign, no_shared_memory_left):
    program = subprocess.Popen([sys.executable, str(BENCHMARKS / "experience.py"), "--quick", "--json"], stdout=subprocess.DEVNULL)
    children = family(program, 3)  # two that play, and one that looks after their locks
    time.sleep(5.0)
    program.send_signal(sign)
    program.wait(60)
    assert all(has_ended(child, 20.0) for child in children)
