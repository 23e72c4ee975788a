"""What all tests share: quiet threads, and the law that nothing is left in shared memory."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see embodichain.cli.main

# The same examples each time, judged by what they do and not by how long a busy machine takes over them; to look for new ones:
# pytest --hypothesis-profile explore
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("repeat", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeat")

LONGEST_FIRST = (
    "test_run.py",
    "test_engine.py",
    "test_weather.py",
    "test_warp_worlds.py",
    "test_trace.py",
    "test_darkroom_engine.py",
    "test_doors.py",
    "test_asset_batch.py",
    "test_families.py",
    "test_command_line.py",
    "test_foreign.py",
    "test_asset_foreign.py",
    "test_asset_build_command.py",
    "test_readme.py",
    "test_lives.py",
    "test_raster.py",
    "test_elastic.py",
    "test_gateway_actor.py",
    "test_ranks.py",
    "test_imagination.py",
    "test_recall.py",
    "test_public_face.py",
    "test_isaac.py",
    "test_render.py",
)
"""Files that take longest begin first, and the many short ones fill up the processes at the end."""


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def _rings_of(pid: int) -> set[str]:
    """Files of rings in /dev/shm that the process owns or owned."""
    return {path.name for path in Path("/dev/shm").glob(f"embodichain-{pid}-*")}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Long tests are skipped, and say so, once the time that CI gave them is over: a slow machine reports what it has tried."""
    until = os.environ.get("EMBODICHAIN_LONG_TESTS_UNTIL")
    if until and item.get_closest_marker("slow") and time.time() > float(until):
        pytest.skip(f"no time is left for long tests: {until} s since 1970 was the limit")


@pytest.fixture
def rings_of():
    """Lists the rings that a process has left in shared memory, by its pid."""
    return _rings_of


@pytest.fixture
def no_shared_memory_left():
    """Fails a test that leaves a ring behind."""
    before = _rings_of(os.getpid())
    yield
    assert _rings_of(os.getpid()) <= before


@pytest.fixture(scope="module")
def one_ray():
    """Ray for the tests of a file that ask for it: engines that find it running leave it running."""
    import ray

    from embodichain.ray_engine import RayConfig, start_ray

    start_ray(RayConfig())
    yield
    ray.shutdown()
