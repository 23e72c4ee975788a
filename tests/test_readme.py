"""What the README tells a user to type is what runs here."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from embodichain import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
QUICK = [line.partition("#")[0].strip() for line in BLOCKS[1].splitlines()]


def test_the_two_commands_are_targets_and_ci_runs_them():
    makefile = (ROOT / "Makefile").read_text()
    assert [line.partition("#")[0].strip() for line in BLOCKS[0].splitlines()] == ["make demo", "make test"]
    assert all(re.search(rf"^{c.split()[1]}:", makefile, re.MULTILINE) for c in COMMANDS if c.startswith("make "))
    assert re.search(r"^demo: setup.*\n\t.*embodichain run tiny_cpu$", makefile, re.MULTILINE)
    assert re.search(r"^test: setup", makefile, re.MULTILINE)
    ci = [line.split() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    made = {word for line in ci if line[:1] == ["make"] for word in line[1:]}
    assert {"setup", "check", "docs", "test", "slow"} <= made


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("embodichain ")])
def test_every_command_exists(command):
    name = shlex.split(command)[1]
    assert name in cli.COMMANDS or name == "--help"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ")])
def test_every_benchmark_exists_and_explains_itself(command, capsys, monkeypatch):
    script = ROOT / shlex.split(command)[1]
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert "--quick" in capsys.readouterr().out


def test_the_quick_commands_run_in_order(tmp_path, capsys):
    for command in QUICK:
        result = subprocess.run(
            [sys.executable, "-m", "embodichain.cli", *shlex.split(command)[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
