import pytest
from ring_parts import ring_spec, shared_memory_files

from embodichain.ring.ring import Ring


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = shared_memory_files()
    yield
    left = shared_memory_files() - before
    assert not left, f"left in /dev/shm: {left}"


@pytest.fixture
def ring():
    """A ring of four slots whose trajectories may be read twice."""
    with Ring.create(ring_spec(num_slots=4, max_reads=2)) as made:
        yield made


@pytest.fixture
def journal(tmp_path):
    """Where a gateway keeps its journal."""
    return tmp_path / "journal"
