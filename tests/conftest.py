"""What all tests share: quiet threads, and the law that nothing is left in shared memory."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see embodichain.cli.main


def rings_left() -> set[str]:
    """Files of rings in /dev/shm."""
    return {path.name for path in Path("/dev/shm").glob("embodichain-*")}


@pytest.fixture
def no_shared_memory_left():
    """Fails a test that leaves a ring behind."""
    before = rings_left()
    yield
    assert rings_left() <= before
