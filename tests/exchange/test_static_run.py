"""`embodichain run --static FOLDER`: the static baseline from the command line, bounded, booked, and gone on with."""

import json

import numpy as np
import pytest
from exchange_parts import CODEC, ROBOT, recording, schema, start

from embodichain.exchange.card import Card
from embodichain.exchange.lerobot_reader import WORKER
from embodichain.exchange.lerobot_writer import LeRobotWriter
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.ring.ledger import Event, load
from embodichain.types import LEDGER_FILE, TrajectoryId


def run(*arguments):
    """The summary of a run that must end well."""
    child = start("run", *arguments, "--json")
    said, errors = child.communicate(timeout=600)
    assert child.returncode == 0, errors[-3000:]
    return json.loads(said.splitlines()[-1])


@pytest.fixture
def folder(tmp_path):
    """A data set of nine episodes as large as the demo's pictures."""
    spec = schema(size=64)
    layout = DatasetLayout.of(ROBOT, spec)
    with LeRobotWriter(tmp_path / "set", layout, Card(layout=layout, command="test")) as writer:
        for number in range(9):
            writer.add(Recorded.of(recording(number, spec), CODEC))
    return tmp_path / "set"


@pytest.mark.slow
def test_a_static_baseline_and_a_mixture_are_bounded_and_booked_like_the_stream(folder, tmp_path):
    small = ["seconds_cpu", "--evaluate.episodes", 0, "--learner.measure-batches", 2, "--train.checkpoint-every", 2]
    alone = [*small, "--static", folder, "--max-reads", 8, "--out", tmp_path / "alone"]
    first = run(*alone, "--steps", 4)
    assert first["published"] == 0 and first["reads"] == 6 * 8 and not first["bound_violations"]
    again = run("--resume", "--out", tmp_path / "alone", "--steps", 6)
    assert again["steps"] == 6 and again["reads"] == 8 * 8 and not again["bound_violations"]
    records, _ = load(tmp_path / "alone" / LEDGER_FILE)
    ids = records["trajectory_id"][records["event"] == Event.READ]
    assert {TrajectoryId.unpack(int(packed)).worker for packed in ids} == {WORKER}
    assert np.unique(ids, return_counts=True)[1].max() <= 8
    refused = start("run", "--resume", "--out", tmp_path / "alone", "--steps", 60)
    assert "raise --max-reads to" in refused.communicate(timeout=600)[1] and refused.returncode == 2

    mixed = [*small, "--static", folder, "--static.share", 0.25, "--engine", "serial", "--out", tmp_path / "mixed"]
    both = run(*mixed, "--steps", 4)
    records, _ = load(tmp_path / "mixed" / LEDGER_FILE)
    ids = records["trajectory_id"][records["event"] == Event.READ]
    own = sum(TrajectoryId.unpack(int(packed)).worker == WORKER for packed in ids)
    assert both["reads"] == len(ids) == 48 and own == 12 and both["published"] > 0
