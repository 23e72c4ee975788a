"""Real physics and a sampler of box-built scenes, shared by the tests of all tasks."""

import importlib
import sys
from pathlib import Path

import pytest

from embodichain.physics.mujoco import MujocoPhysics

sys.path.insert(0, str(Path(__file__).parent.parent / "scenes"))
parts = importlib.import_module("scene_parts")


@pytest.fixture(scope="session")
def reach_dir(tmp_path_factory):
    """Where the coarse reachability table of these tests is kept: built once."""
    return tmp_path_factory.mktemp("reach")


@pytest.fixture(scope="session")
def sampler(reach_dir):
    return parts.make_sampler(reach_dir)


@pytest.fixture(scope="session")
def physics():
    world = MujocoPhysics(parts.ROBOT, width=32, height=32)
    yield world
    world.close()
