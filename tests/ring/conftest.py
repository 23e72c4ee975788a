import pytest
from ring_parts import shared_memory_files


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = shared_memory_files()
    yield
    mine = {name for name in shared_memory_files() - before if name.startswith(f"embodichain-{__import__('os').getpid()}")}
    assert not mine, f"left in /dev/shm: {mine}"
