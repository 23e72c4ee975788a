import pytest
from motion_parts import ROBOT, Drive

from embodichain.physics.mujoco import MujocoPhysics


@pytest.fixture(scope="module")
def physics():
    """The robot of these tests in MuJoCo, with pictures that nobody looks at."""
    return MujocoPhysics(ROBOT, width=16, height=16)


@pytest.fixture
def drive(physics) -> Drive:
    """Drives that robot by skills."""
    return Drive(physics)
