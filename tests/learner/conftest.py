import pytest
import torch
from learner_parts import HORIZON, trajectory

from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small tensors: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trajectories():
    return [trajectory(number, 2 + number % (HORIZON - 1)) for number in range(12)]


@pytest.fixture
def dataset(trajectories):
    return RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=3))
