"""The policy that ships with this package does what its report says."""

import json
from pathlib import Path

import pytest

from embodichain import cli
from learner.runs.locate import find

SHIPPED = "builtin:turn_switch"
SCENES, LEAST = 24, 14
"""Of so many scenes, always the same, the policy turned 19 when it was shipped."""


def test_the_shipped_policy_is_small_and_names_the_world_it_was_trained_in():
    trained = find(Path(SHIPPED))
    assert trained.checkpoint.stat().st_size < 20e6
    assert trained.world.tasks == ("turn_switch",) and trained.world.assets.counts == {"switch": 2}
    assert (trained.world.width, trained.world.height) == (128, 128)


@pytest.mark.slow
def test_the_shipped_policy_turns_switches_that_no_training_saw(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = [
        "eval",
        SHIPPED,
        "--episodes",
        str(SCENES),
        "--pilots",
        "policy",
        "do nothing",
        "--no-films",
        "--json",
        "--out",
        str(tmp_path / "e"),
    ]
    assert cli.main(command) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    won = {row["pilot"]: row["successes"] for row in summary["sets"]["in distribution"]}
    assert won["do nothing"] == 0
    assert won["policy"] >= LEAST
