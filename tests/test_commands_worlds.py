"""Laws of the commands that show worlds: faults are one line that names what exists; files and pictures are what was promised."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from embodichain import cli
from embodichain.commands.pictures import sheet
from embodichain.scenes import usd


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scene", "sample", "--task", "juggle", "-o", "x"], "unknown task 'juggle'; available: .*turn_switch"),
        (["scene", "sample", "--task", "turn_switch", "-n", "0", "-o", "x"], "--count must be at least 1"),
        (["tasks", "show", "counting", "-o", "x"], "unknown task 'counting'"),
        (["tasks", "show", "turn_switch", "--size", "7", "-o", "x"], "--size even"),
    ],
)
def test_faults_are_one_line(arguments, message, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)


def test_dry_run_says_what_would_be_made(tmp_path, capsys):
    arguments = ["scene", "sample", "--task", "turn_switch", "-n", "3", "--first", "5", "-o", str(tmp_path / "out"), "--dry-run"]
    assert cli.main(arguments) == 0
    assert "5..7 of seed 0 of turn_switch" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_contact_sheet_holds_every_picture_in_order():
    pictures = [np.full((8, 10, 3), value, np.uint8) for value in (10, 20, 30, 40)]
    made = sheet(pictures, columns=3)
    assert made.shape == (8 + 4 + 8, 3 * 14 - 4, 3)
    assert [made[4, column, 0] for column in (5, 19, 33)] == [10, 20, 30] and made[16, 5, 0] == 40
    assert made[16, 19, 0] == 255


@pytest.mark.slow
def test_scenes_are_sampled_to_files_that_can_be_read(tmp_path, capsys):
    arguments = ["scene", "sample", "--task", "turn_switch", "-n", "2", "-o", str(tmp_path), "--size", "64", "--visual", "--json"]
    assert cli.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["scenes"]) == 2 and json.loads((tmp_path / "scenes.json").read_text()) == report
    for row in report["scenes"]:
        assert usd.read(tmp_path / f"scene_{row['number']:05d}.usda").seed == row["seed"]
        picture = np.asarray(Image.open(tmp_path / f"scene_{row['number']:05d}.png"))
        assert picture.shape == (64, 64, 3) and picture.std() > 10
    assert (tmp_path / "contact.png").exists()


@pytest.mark.slow
def test_tasks_are_shown_as_pictures_and_a_video(tmp_path, capsys):
    assert cli.main(["tasks", "show", "turn_switch", "-n", "1", "--size", "64", "-o", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["episodes"]
    assert row["success"] and row["duration_s"] > 1
    assert (tmp_path / "turn_switch.mp4").stat().st_size > 1000
    assert np.asarray(Image.open(tmp_path / "contact.png")).shape == (64, 3 * 68 - 4, 3)
