import pytest
import torch
from learner_parts import HORIZON, NAMES, SIDE, SMALL, fitted, shaken, trajectory

from embodichain import robots
from embodichain.motion.action import ActionCodec
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.serving.sessions import Embodiment


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


@pytest.fixture(scope="session")
def codec():
    return ActionCodec(robots.get("dual_piper"))


@pytest.fixture(scope="session")
def body(codec):
    """What a robot with the cameras of the small trajectories tells a server."""
    return Embodiment(
        cameras=NAMES,
        height=SIDE,
        width=SIDE,
        native=14,
        control_hz=50.0,
        chunk=16,
        home=codec.robot.home,
        limits=codec.limits,
        encode=codec.encode,
        decode=codec.decode,
    )


@pytest.fixture(scope="module")
def agent(trajectories):
    """A small agent with random weights, whose outputs differ for different inputs."""
    made = fitted(SMALL, RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=3)))
    shaken(made.model)
    return made
