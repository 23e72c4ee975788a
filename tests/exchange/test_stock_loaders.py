"""The stock loaders of lerobot and robomimic, in an environment of their own, read what was written, equal.

The environment is installed by name and kept in `.venv-exchange` at the root, where `make bench-exchange` looks for it too.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exchange_parts import CODEC, ROBOT, ROOT, recording, schema

from embodichain.exchange.card import Card
from embodichain.exchange.lerobot_writer import LeRobotWriter
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.exchange.robomimic import RobomimicWriter

HERE = Path(__file__).parent
SPEC = schema(chunk=4, size=64)
LAYOUT = DatasetLayout.of(ROBOT, SPEC)


_INSTALL_S = 600
"""Seven gigabytes come from the package registry: where that takes longer, stock loaders are for another day."""


@pytest.fixture(scope="module")
def python():
    """The interpreter of an environment with both; `EXCHANGE_PYTHON` names one that is there."""
    if given := os.environ.get("EXCHANGE_PYTHON"):
        return Path(given)
    try:
        subprocess.run(["make", ".venv-exchange/.installed"], cwd=ROOT, check=True, timeout=_INSTALL_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"lerobot and robomimic could not be installed here: {error}")
    return ROOT / ".venv-exchange/bin/python"


def read(python, script, *arguments, place):
    """What a stock loader read, as arrays by name."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hub")}
    said = subprocess.run([str(python), str(HERE / script), *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[-3000:]
    return np.load(arguments[-1])


def recorded():
    return [Recorded.of(recording(number, SPEC), CODEC) for number in range(3)]


@pytest.mark.slow
def test_lerobots_own_loader_reads_what_was_written(tmp_path, python):
    with LeRobotWriter(tmp_path / "set", LAYOUT, Card(layout=LAYOUT, command="test")) as writer:
        for episode in recorded():
            writer.add(episode)
    found = read(python, "stock_lerobot.py", tmp_path / "set", tmp_path / "read.npz", place=tmp_path)
    made = recorded()
    assert int(found["num_episodes"]) == 3 and found["lengths"].tolist() == [episode.num_frames for episode in made]
    assert float(found["fps"]) == 12.5
    begin = 0
    for number, episode in enumerate(made):
        rows = slice(begin, begin + episode.num_frames)
        begin = rows.stop
        assert np.array_equal(found["observation.state"][rows], episode.state)
        assert np.array_equal(found["action"][rows][:-1].reshape(episode.action.shape), episode.action)
        assert np.array_equal(found["action_pose"][rows][:-1].reshape(episode.action_pose.shape), episode.action_pose)
        assert np.array_equal(found["segment"][rows][:-1].ravel(), episode.segment)
        assert set(found["episode_index"][rows].ravel().tolist()) == {number}
        assert set(found["task"][rows].tolist()) == {episode.instruction}
        for camera, name in enumerate(LAYOUT.cameras):
            pictures = 255 * found[f"observation.images.{name}"][rows].transpose(0, 2, 3, 1)
            assert np.abs(pictures - episode.rgb[:, camera]).mean() < 3
    state = np.concatenate([episode.state for episode in made])
    assert np.allclose(found["stats.observation.state.std"], state.std(axis=0), atol=1e-6)


@pytest.mark.slow
def test_robomimics_own_loader_reads_what_was_written(tmp_path, python):
    with RobomimicWriter(tmp_path, LAYOUT, Card(layout=LAYOUT, command="test")) as writer:
        for episode in recorded():
            writer.add(episode)
    found = read(python, "stock_robomimic.py", tmp_path / "dataset.hdf5", tmp_path / "read.npz", place=tmp_path)
    made = recorded()
    assert np.array_equal(found["actions"], np.concatenate([e.action.reshape(len(e.action), -1) for e in made]))
    assert np.array_equal(found["state"], np.concatenate([e.state[:-1] for e in made]))
    assert np.array_equal(found["next_state"], np.concatenate([e.state[1:] for e in made]))
    assert np.array_equal(found["head_image"], np.concatenate([e.rgb[:-1, 0] for e in made]))
