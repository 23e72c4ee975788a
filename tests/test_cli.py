"""Every fault a user can cause ends with one clear line that names the value, what exists and the remedy."""

import subprocess
import sys
from pathlib import Path

import pytest

from embodichain import cli


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a command that must fail with code 2 and one line on standard error; that line."""
    assert cli.main(list(arguments)) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("embodichain: error: ")
    return lines[0]


def test_help_lists_every_command_with_one_line_each():
    result = subprocess.run([sys.executable, "-m", "embodichain.cli", "--help"], capture_output=True, text=True, check=True)
    for name, command in cli.COMMANDS.items():
        assert sum(line.split()[:1] == [name] and command.summary in line for line in result.stdout.splitlines()) == 1


def test_every_command_loads():
    assert all(callable(command.load()) for command in cli.COMMANDS.values())


@pytest.mark.parametrize(
    ("arguments", "value", "available"),
    [
        (["walk"], "'walk'", "run"),
        (["run", "huge_gpu"], "'huge_gpu'", "tiny_cpu"),
        (["run", "--tasks", "juggle"], "'juggle'", "turn_switch"),
        (["run", "--robot", "hal9000"], "'hal9000'", "dual_piper"),
        (["run", "--physics", "bullet"], "'bullet'", "mujoco"),
        (["run", "--engine", "slurm"], "'slurm'", "serial"),
        (["asset", "build", "teapot", "-o", "/tmp/none"], "'teapot'", "mug"),
        (["run", "--max-reads", "0"], "got 0", "1..16383"),
        (["run", "--max-reads", "99999"], "got 99999", "1..16383"),
        (["run", "--workers", "0"], "got 0", "at least 1"),
        (["run", "--world.width", "17"], "17", "even"),
        (["run", "--ring.num-slots", "4", "--ring.min-ready", "2"], "4 slots", "batch_size"),
    ],
)
def test_unknown_names_and_numbers_are_refused_with_what_is_available(capsys, tmp_path, arguments, value, available):
    extra = ["--out", str(tmp_path / "run")] if arguments[0] == "run" else []
    message = error_of(capsys, *arguments, *extra)
    assert value in message
    assert available in message
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_an_unwritable_run_folder_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write the run folder" in error_of(capsys, "run", "--out", str(tmp_path / "file" / "run"))


def test_an_existing_run_is_not_overwritten(capsys, tmp_path):
    (tmp_path / "config.yaml").write_text("recipe: tiny_cpu\n")
    assert "--resume" in error_of(capsys, "run", "--out", str(tmp_path))
    assert (tmp_path / "config.yaml").read_text() == "recipe: tiny_cpu\n"


def test_resuming_what_is_no_run_names_the_runs_beside_it(capsys, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "config.yaml").write_text("recipe: tiny_cpu\n")
    message = error_of(capsys, "run", "--resume", "--out", str(tmp_path / "secnod"))
    assert "first" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<mujoco><worldbody>", "parse"),
        ("<mujoco/>", "hinge"),
    ],
)
def test_a_robot_file_that_cannot_be_used_is_refused(capsys, tmp_path: Path, text, reason):
    file = tmp_path / "robot.xml"
    file.write_text(text)
    message = error_of(capsys, "run", "--robot", str(file), "--out", str(tmp_path / "run"))
    assert str(file) in message
    assert reason in message


def test_a_robot_file_that_does_not_exist_is_refused(capsys, tmp_path):
    assert "none.xml" in error_of(capsys, "run", "--robot", str(tmp_path / "none.xml"), "--out", str(tmp_path / "run"))


def test_too_little_shared_memory_names_the_bytes_asked_and_there(capsys, tmp_path, no_shared_memory_left):
    arguments = [
        "run",
        "--physics",
        "counting",
        "--engine",
        "serial",
        "--ring.num-slots",
        "10000000",
        "--out",
        str(tmp_path / "run"),
    ]
    message = error_of(capsys, *arguments)
    assert "bytes" in message
    assert sum(word.replace(",", "").isdigit() for word in message.split()) >= 2


def test_a_config_file_with_an_unknown_name_is_refused(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("world:\n  widht: 96\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--dry-run", "--config", str(file)])
    assert ended.value.code == 2


def test_recipe_then_file_then_flags_and_the_last_word_wins(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("world:\n  width: 96\n  tasks: [turn_switch]\nring:\n  max_reads: 10\n")
    assert cli.main(["run", "tiny_cpu", "--dry-run", "--config", str(file), "--max-reads", "213", "--seed", "7"]) == 0
    text = capsys.readouterr().out
    assert "width: 96" in text
    assert "max_reads: 213" in text
    assert "seed: 7" in text
    assert "place_mouse_pad" not in text
    assert "MiB of shared memory" in text
