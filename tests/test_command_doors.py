"""What is thrown at the commands' doors: outputs that lead nowhere, numbers that nobody can use, names that are odd, Ctrl-C."""

import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from in_process import embodichain

from embodichain.cache import cache_dir
from embodichain.errors import ConfigError
from embodichain.lines import strict_json
from embodichain.progress import Board, JobBoard
from learner.reporting.efficiency import EfficiencyFit
from learner.runs import recipes
from learner.runs.options import restore
from learner.serving.config import ServeConfig

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-m", "embodichain.cli"]
HUGE = str(10**40)
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"PYTHONPATH": str(ROOT)}
"""An environment in which what is printed leaves a command late, as it does by default."""


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What becomes of a line in a shell, in which `$E` is the command."""
    environment = BUFFERED | {"E": " ".join(PROGRAM)}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, cwd=folder)


# ---------------------------------------------------------------------------------------------------- where output goes


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("$E list > /dev/full", 2, "No space left on device\n"),
        ("$E walk --json > /dev/full", 2, ""),
        ("$E list >&-", 0, ""),
        ("$E list > /dev/null 2>&-", 0, ""),
        ("$E list <&- >&- 2>&-", 0, ""),
        ("$E walk 2>&-", 2, ""),
    ],
)
def test_an_output_that_leads_nowhere_ends_no_command_in_a_traceback(line, code, said, tmp_path):
    ended = shell(line, tmp_path)
    assert ended.returncode == code and ended.stderr.endswith(said) and len(ended.stderr.splitlines()) == bool(said)


def test_a_reader_that_has_gone_before_the_last_line_ends_a_command_quietly(tmp_path):
    process = subprocess.Popen([*PROGRAM, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 1 and process.stderr.read() == b""
    process.stderr.close()


def test_no_file_takes_the_number_of_a_stream_that_was_closed(tmp_path):
    (tmp_path / "opens.py").write_text(
        "import os\ndef main(words):\n  with open('kept', 'w') as file:\n    os.write(2, b'lost')\n    file.write('mine')\n"
    )
    assert shell("$E opens:main 2>&- >&-", tmp_path).returncode == 0
    assert (tmp_path / "kept").read_text() == "mine"


# --------------------------------------------------------------------------------------------------- how commands end


COMMANDS = """
import signal

def interrupted(arguments):
    signal.raise_signal(signal.SIGINT)

def forgetful(arguments):
    raise MemoryError("Unable to allocate 3 EiB")

def odd(arguments):
    print("\\udcff")

number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The name of a module of commands."""
    (tmp_path / "commands_of_mine.py").write_text(COMMANDS)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield "commands_of_mine"
    signal.signal(signal.SIGINT, before)
    sys.modules.pop("commands_of_mine", None)


def test_ctrl_c_ends_with_130_and_json_when_asked(mine):
    assert embodichain(f"{mine}:interrupted") == (130, "", "embodichain: interrupted\n")
    code, out, _ = embodichain(f"{mine}:interrupted", "--json")
    assert code == 130 and json.loads(out) == {"error": "interrupted"}


def test_what_is_no_command_and_what_does_not_fit_into_memory_is_one_line(mine):
    for name, said in (("number", "3 is not a function"), ("forgetful", "not enough memory (Unable to allocate 3 EiB)")):
        code, _, err = embodichain(f"{mine}:{name}")
        assert code == 2 and said in err and len(err.splitlines()) == 1


def test_names_that_are_no_text_are_refused_as_arguments_and_shown_where_files_have_them(mine, tmp_path):
    code, _, err = embodichain("run", "--out", os.fsdecode(b"runs/\xff"))
    assert code == 2 and "is not UTF-8" in err and len(err.splitlines()) == 1
    assert shell("$E commands_of_mine:odd", tmp_path).stdout == "\\udcff\n"


def test_without_a_home_the_error_names_the_variable_to_set(monkeypatch):
    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("EMBODICHAIN_CACHE", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)  # as of a container's user without an entry
    with pytest.raises(ConfigError, match="set EMBODICHAIN_CACHE"):
        cache_dir()


# --------------------------------------------------------------------------------------------------------- odd values


SAMPLE = ("scene", "sample", "--task", "turn_switch", "-o", "out")
FAULTS = [
    ((*SAMPLE[:-1], ""), "an empty path"),
    (("tasks", "show", "-o", ""), "an empty path"),
    (("run", "--out", ""), "an empty path"),
    (("encoder", "train", "--out", ""), "an empty path"),
    (("asset", "build", "mug", "-o", ""), "an empty path"),
    (("report", ""), "is not a run folder"),
    (("watch", ""), "an empty path"),
    (("eval", ""), "an empty path"),
    ((*SAMPLE, "--seed", "-1"), "from 0 up, got '-1'"),
    ((*SAMPLE, "--first", "-5"), "from 0 up, got '-5'"),
    ((*SAMPLE, "--count", HUGE), "beyond 2^63"),
    (("tasks", "show", "-o", "out", "--seed", "-1"), "from 0 up"),
    (("export", "lerobot", "--task", "turn_switch", "-o", "out", "--seed", "-1"), "from 0 up"),
    (("run", "--seed", "-1"), "seed must be 0 or more"),
    (("run", "--ring.num-slots", HUGE), "ring.num_slots must be below 2^63"),
    (("run", "--learner.data.seed", "-2"), "learner.data.seed must be 0 or more"),
    (("eval", "builtin:turn_switch", "--seed", "-1"), "from 0 up"),
    (("eval", "builtin:turn_switch", "--episodes", "0"), "above 0"),
    (("eval", "builtin:turn_switch", "--threads", "1000000000000"), "at most 1024 threads"),
    (("serve", "builtin:turn_switch", "--threads", "1000000000000"), "at most 1024 threads"),
    (("serve", "builtin:turn_switch", "--seed", HUGE), "beyond 2^63"),
    (("serve", "builtin:turn_switch", "--api-key-env", ""), "the environment variable '' is empty or not set"),
    (("serve", "builtin:turn_switch", "--rename", "a=images/head", "b=images/head"), "'a' and 'b' both mean 'images/head'"),
    (("serve", "builtin:turn_switch", "--rename", "a=images/head", "a=images/left"), "two names"),
    (("view", "turn_switch:0", "--seed", "-1"), "from 0 up"),
    (("chaos", "--seed", "-1"), "from 0 up"),
    (("asset", "build", "mug", "-o", "out", "--seed", "-1"), "from 0 up"),
    (("asset", "build", "mug:1000000000000", "-o", "out"), "the count after the colon must be 1 to 100000"),
    (("asset", "build", "x", "-o", "out", "--licence", "MIT", "--generator-command", "gen '{out}"), "No closing quotation"),
    (("asset", "build", "x", "-o", "out", "--licence", "MIT", "--generator", "http://here:99999"), "Port out of range"),
    (("asset", "query", ".", "name<5"), "compares name, which is no number"),
    (("asset", "query", ".", "colour=red"), "cannot ask for 'colour=red'"),
    (("sweep", "law_cpu", "--replay", "5", "--seeds", "0-99999999999"), "at most 10000 numbers"),
    (("sweep", "law_cpu", "--replay", "5", "--at-once", "0"), "above 0, got '0'"),
    (("plan", "--cores", HUGE), "beyond 2^63"),
    (("plan", "--cores", "8", "--step-s", "1e-310"), "come to no number"),
    (("plan", "--cores", "8", "--worker-rate", "1e-310"), "come to no number"),
    (("plan", "--cores", "8", "--slot-mib", "-1"), "--slot-mib must be positive, got -1"),
    (("ledger", "verify", ".", "--max-reads", "0"), "above 0, got '0'"),
    (("reach", "dual_piper", "-o", "reach.foo"), "ends with .png or .pdf"),
    (("replay", ".", "-o", "film.foo"), "ends with .mp4"),
    (("efficiency", ".", "--picture", "law.png"), "ends with .svg"),
    (("watch", "--address", "auto", "--port", "99999"), "port must be 0..65535"),
]


@pytest.mark.parametrize(("arguments", "said"), FAULTS, ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "")
def test_a_value_that_nobody_can_use_is_one_line_and_leaves_nothing_behind(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = embodichain(*arguments)
    assert code == 2 and out == "" and said in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [(*SAMPLE[:-1], "file/out"), ("reach", "dual_piper", "-o", "file/out/reach.png")])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_made(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBODICHAIN_CACHE", str(tmp_path / "cache"))
    Path("file").touch()
    code, _, err = embodichain(*arguments)
    assert code == 2 and "choose another --out" in err and len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_value_that_a_file_leaves_empty_is_no_word(tmp_path):
    (tmp_path / "config.yaml").write_text("stream:\n  address:\n")
    code, _, err = embodichain("run", "--dry-run", "--config", str(tmp_path / "config.yaml"))
    assert code == 2 and "no value for stream.address" in err
    (tmp_path / "config.yaml").write_text("[" * 5000)
    code, _, err = embodichain("run", "--dry-run", "--config", str(tmp_path / "config.yaml"))
    assert code == 2 and "cannot read the configuration" in err and len(err.splitlines()) == 1


def test_every_configuration_of_ours_can_be_read_again():
    from embodichain.types.plain import as_plain

    config = recipes.tiny_cpu()
    assert restore(config, yaml.safe_load(yaml.safe_dump(as_plain(config)))) == config


def test_a_rename_is_no_matter_of_requests():
    with pytest.raises(ConfigError, match="both mean 'c'"):
        ServeConfig(rename={"a": "c", "b": "c"})


# --------------------------------------------------------------------------------------------------------------- JSON


def test_json_has_null_for_what_is_no_finite_number():
    law = EfficiencyFit(floor=0.0, scale=1.0, exponent=1.0, residual=0.0, floor_interval=(0.0, 0.0), exponent_interval=(1.0, 1.0))
    told = {"threshold": law.threshold(), "rows": [{"low": float("nan"), "path": "runs/NaN"}], "file": Path("a")}
    assert json.loads(strict_json(told), parse_constant=pytest.fail) == {
        "threshold": None,
        "rows": [{"low": None, "path": "runs/NaN"}],
        "file": "a",
    }


def test_names_are_no_markup_of_progress(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with Board() as board:
        board.update("[/scenes of] x", 1, 2, "[/b].usd")
    with JobBoard("[/all]", 1, quiet=False) as board:
        board.working("[/one]", "read")
    shown = capfd.readouterr().err
    assert "[/scenes of] x" in shown and "[/b].usd" in shown
