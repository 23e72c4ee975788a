"""Shared by the tests of Isaac Sim's adapter: the simulators that they start, and small worlds."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "physics"))
from physics_parts import gantry

from embodichain.isaac.worlds import Patience, Worlds

SIZE = 16
HONEST = [sys.executable, "-m", "embodichain.isaac.fake"]
PATIENCE = Patience(start_s=120.0, load_s=60.0, step_s=60.0, end_s=10.0)


def wrong(how: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("wrong_simulators.py")), how]


def worlds(command, **settings) -> Worlds:
    settings = {"num_worlds": 2, "width": SIZE, "height": SIZE, "patience": PATIENCE} | settings
    return Worlds(gantry(), command=command, **settings)


def home(batch):
    return np.tile(batch.robot.home, (batch.num_worlds, 1))
