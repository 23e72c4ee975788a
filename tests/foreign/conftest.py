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
    """The interpreter of an environment with the real benchmarks; `FOREIGN_PYTHON` names one that is there."""
    if given := os.environ.get("FOREIGN_PYTHON"):
        return Path(given)
    try:
        subprocess.run(["make", ".venv-foreign/.installed"], cwd=ROOT, check=True, timeout=_INSTALL_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"metaworld and robosuite could not be installed here: {error}")
    return ROOT / ".venv-foreign/bin/python"


@pytest.fixture
def foreign(python, monkeypatch):
    """Runs find the real benchmarks there."""
    monkeypatch.setenv(INTERPRETER, str(python))
    return python
