import os
import subprocess
import sys
from pathlib import Path

import pytest

from embodichain.physics import PHYSICS
from embodichain.physics.foreign.wire import INTERPRETER
from embodichain.robots import ROBOTS
from embodichain.tasks.benchmarks import BENCHMARKS

ROOT = Path(__file__).parents[2]
_INSTALL_S = 600
_NO_NETWORK = "after connection broken by"
"""What pip says whenever an index cannot be reached."""
sys.path.append(str(Path(__file__).parent))  # workers find the toy there


@pytest.fixture
def toy(monkeypatch):
    """The toy benchmark under the name "toy", in a host of this very Python."""
    monkeypatch.setenv(INTERPRETER, sys.executable)
    monkeypatch.setitem(BENCHMARKS.built_in, "toy", "foreign_toy:tasks")
    monkeypatch.setitem(PHYSICS.built_in, "toy", "foreign_toy:ToyPhysics")
    monkeypatch.setitem(ROBOTS.built_in, "toy", "foreign_toy:robot")


@pytest.fixture(scope="session")
def python():
    """The interpreter of an environment with the real benchmarks; `FOREIGN_PYTHON` names one that is there.

    Without a network there is none, and nothing to test; whatever else keeps it from being made is a fault of ours.
    """
    if given := os.environ.get("FOREIGN_PYTHON"):
        return Path(given)
    made = subprocess.run(
        ["make", ".venv-foreign/.installed"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_INSTALL_S,
    )
    if made.returncode != 0 and _NO_NETWORK in made.stdout:
        pytest.skip(f"metaworld and robosuite cannot be installed without a network: {made.stdout[-300:]}")
    assert made.returncode == 0, made.stdout[-3000:]
    return ROOT / ".venv-foreign/bin/python"


@pytest.fixture
def foreign(python, monkeypatch):
    """Runs find the real benchmarks there."""
    monkeypatch.setenv(INTERPRETER, str(python))
    return python
