"""The command line answers at once: help, misspelt words, wrong paths and JSON, judged by the processor time that they take."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import embodichain

from embodichain import cli
from learner.runs.catalog import make
from learner.runs.options import names

ROOT = Path(__file__).parent.parent
SUBCOMMANDS = {
    "asset": ("build", "validate", "diff", "gallery", "schema"),
    "scene": ("sample",),
    "tasks": ("show",),
    "ring": ("top",),
    "ledger": ("verify",),
    "encoder": ("train",),
    "segmenter": ("train",),
}
ALL = [[name] for name in cli.COMMANDS] + [[name, sub] for name, subs in SUBCOMMANDS.items() for sub in subs]
HELP, FAULT = 2.5, 4.2
"""How often help, and the answer to a fault, may take what a fresh interpreter needs to import NumPy (0.12 s on two idle cores).

Both are measured one after the other: a crowded machine makes every second of processor time longer, and does so to both alike.
"""
PATIENCE = 80.0
"""The same for commands that look at worlds and models."""


def processor_s(command: list[str], cwd: Path) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Processor time of a command [s], and what it said."""
    before = os.times()
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)})
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, result


PEER: list[float] = []
"""Processor time of each import of NumPy so far [s]."""


def answer(arguments: list[str], limit: float, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a command says, which must cost at most `limit` imports of NumPy in the best of several tries.

    The first try is compared with the cheapest import so far, which is no easier than with one of the same moment. A command that
    costs more is tried up to five times again, each time after an import of its own.
    """
    ratios: list[float] = []
    for attempt in range(6):
        if attempt or not PEER:
            PEER.append(processor_s([sys.executable, "-c", "import numpy"], cwd)[0])
        spent, result = processor_s([sys.executable, "-m", "embodichain.cli", *arguments], cwd)
        ratios.append(spent / (PEER[-1] if attempt else min(PEER)))
        if ratios[-1] <= limit:
            return result
    raise AssertionError(f"{arguments} cost {min(ratios):.1f} imports of NumPy, {limit} allowed: {result.stderr[-500:]}")


@pytest.mark.parametrize("arguments", ALL, ids=" ".join)
def test_help_of_every_command_answers_at_once(arguments, tmp_path):
    result = answer([*arguments, "--help"], HELP, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: embodichain {' '.join(arguments)}")


def test_the_help_of_a_run_fits_a_screen_and_help_all_names_every_value(tmp_path):
    short = answer(["run", "--help"], HELP, tmp_path).stdout
    assert len(short.splitlines()) <= 40
    assert sum(line.startswith("  -") for line in short.splitlines()) <= 30
    assert "--help-all" in short and "--world.width" in short
    every = answer(["run", "--help-all"], 20.0, tmp_path)
    assert every.returncode == 0
    assert all(name in every.stdout for name in ("--world.recovery.kinds.slip", "--learner.data.window", "--tasks", "--ring.mode"))
    assert "│" not in every.stdout and "--world.width INT" in every.stdout, "one style: that of every other command"
    width = every.stdout.split("--world.width INT")[1].split("\n  --")[0]
    assert "(default: 64)" in width
    told = re.findall(r"^  --([\w.-]+)", every.stdout, re.MULTILINE)
    untold = {name.removeprefix("--") for name in names(make("tiny_cpu"))} - set(told)
    assert all(any(name.startswith(f"{table}.") for name in told) for table in untold), "tables are told by their entries"
    assert "--pretrain.mask-share" in answer(["encoder", "train", "--help-all"], 20.0, tmp_path).stdout


FAULTS = [
    (["rnu"], "did you mean 'run'?"),
    (["run", "tiny_cup"], "did you mean 'tiny_cpu'?"),
    (["run", "tiny_cpu", "extra"], "unexpected 'extra'"),
    (["run", "--tasks", "turn_swich"], "did you mean 'turn_switch'?"),
    (["run", "--world.tasks", "turn_swich"], "did you mean 'turn_switch'?"),
    (["run", "--robot", "dual_pipr"], "did you mean 'dual_piper'?"),
    (["run", "--physics", "mujuco"], "did you mean 'mujoco'?"),
    (["run", "--world.painter", "rastr"], "did you mean 'raster'?"),
    (["run", "--learner.agent.encoder.codec", "vea"], "did you mean 'vae'?"),
    (["ring", "top", "."], "it is no regular file"),
    (["run", "--max-read", "3"], "did you mean '--max-reads'?"),
    (["run", "--world.widht", "96"], "did you mean '--world.width'?"),
    (["run", "--world.width", "wide"], "--world.width"),
    (["run", "--size", "smal"], "did you mean 'small'?"),
    (["run", "--config", "none.yaml"], "none.yaml"),
    (["run", "--robot", "none.xml"], "none.xml"),
    (["run", "--resume", "--out", "none"], "none is not a run folder"),
    (["encoder", "tran"], "did you mean 'train'?"),
    (["encoder", "train", "--pretrain.step", "3"], "did you mean '--pretrain.steps'?"),
    (["segmenter", "train", "--step", "3"], "did you mean '--steps'?"),
    (["eval", "none"], "there is nothing at none"),
    (["eval", "builtin:turn_swich"], "did you mean builtin:turn_switch?"),
    (["eval", "builtin:turn_switch", "--task", "turn_swich"], "did you mean 'turn_switch'?"),
    (["eval", "builtin:turn_switch", "--episode", "3"], "did you mean '--episodes'?"),
    (["eval", "builtin:turn_switch", "--late", "soon"], "--late"),
    (["serve", "none"], "there is nothing at none"),
    (["serve", "builtin:turn_switch", "--port", "http"], "'http'"),
    (["export", "none"], "there is nothing at none"),
    (["export", "lerobt", "run"], "did you mean 'lerobot'?"),
    (["export", "policy"], "required: run"),
    (["export", "no_such_module:Writer", "--task", "turn_switch"], "required: -o/--out"),
    (["eval", "builtin:turn_switch", "--device", "cudda"], "takes cpu, cuda or cuda:N, got 'cudda'"),
    (["serve", "builtin:turn_switch", "--threads", "0"], "takes a whole number above 0, got '0'"),
    (["sweep", "law_cpu", "--replay", "5", "--seeds", "2-0"], "ranges that go upwards"),
    (["asset", "build", "mug:²", "-o", "out"], "mug:²"),
    (["run", "--tasks", "json:lods"], "did you mean 'loads'?"),
    (["run", "--physics", "no_such_module:Physics"], "No module named 'no_such_module'"),
    (["run", "--world.painter", "json:lods"], "did you mean 'loads'?"),
    (["run", "--static", "none"], "none is no LeRobot data set: there is no such folder"),
    (["chaos", "--only", "crsh"], "unknown fault 'crsh'"),
    (["report", "none"], "none is not a run folder"),
    (["efficiency", "none"], "there is nothing at none"),
    (["sweep", "law_cup"], "did you mean 'law_cpu'?"),
    (["sweep", "law_cpu", "--replay", "few"], "takes numbers such as 213,50,10"),
    (["watch", "none"], "there is nothing at none"),
    (["watch", "--prot", "80"], "did you mean '--port'?"),
    (["doctor", "--adress", "auto"], "did you mean '--address'?"),
    (["plan", "--corse", "8"], "did you mean '--cores'?"),
    (["list", "--jsn"], "did you mean '--json'?"),
    (["asset", "biuld"], "did you mean 'build'?"),
    (["asset", "build", "mgu", "-o", "out"], "did you mean 'mug'?"),
    (["asset", "build", "mug", "--sed", "3", "-o", "out"], "did you mean '--seed'?"),
    (["asset", "validate", "none.usd"], "none.usd"),
    (["asset", "diff", "none", "none"], "there is nothing at none"),
    (["asset", "gallery", "none"], "there is nothing at none"),
    (["reach", "dual_pipr"], "did you mean 'dual_piper'?"),
    (["scene", "sample", "--tsk", "turn_switch", "-o", "out"], "did you mean '--task'?"),
    (["scene", "sample", "--task", "turn_swich", "-o", "out"], "did you mean 'turn_switch'?"),
    (["tasks", "show", "turn_swich", "-o", "out"], "did you mean 'turn_switch'?"),
    (["ring", "top", "none"], "there is nothing at none"),
    (["ledger", "verify", "none"], "there is nothing at none"),
]


@pytest.mark.parametrize(("arguments", "said"), FAULTS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_fault_is_answered_at_once_in_one_line_and_as_json_when_asked(arguments, said, tmp_path, monkeypatch):
    plain = answer(arguments, FAULT, tmp_path)
    assert plain.returncode == 2
    (line,) = plain.stderr.splitlines()
    assert said in line and plain.stdout == ""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    asked = embodichain(*arguments, "--json")
    assert asked.code == 2 and said in json.loads(asked.out)["error"] and asked.err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("command", "kind"), [("run", "recipe"), ("reach", "robot")])
def test_what_is_behind_a_name_and_raises_is_told_with_its_origin(command, kind, tmp_path):
    refused = answer([command, "json:loads"], PATIENCE, tmp_path)
    assert refused.returncode == 2 and f"{kind} 'json:loads' of the module json raised TypeError" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_an_asset_family_that_cannot_be_imported_is_refused_before_anything_is_built(tmp_path):
    refused = answer(["asset", "build", "no_such_module:build", "-o", "out"], PATIENCE, tmp_path)
    assert refused.returncode == 2 and "No module named 'no_such_module'" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_misspelt_path_is_answered_with_the_one_beside_it(tmp_path):
    (tmp_path / "k10").mkdir()
    assert "did you mean k1O?" not in answer(["eval", "k1O"], FAULT, tmp_path).stderr
    assert "did you mean k10?" in answer(["eval", "k1O"], FAULT, tmp_path).stderr


def test_list_names_everything_that_has_a_name(tmp_path):
    names = json.loads(answer(["list", "--json"], FAULT, tmp_path).stdout)
    assert {"tiny_cpu", "seconds_cpu", "turn_switch_cpu"} <= set(names["recipes"])
    assert "clwm" in names["model families"] and "turn_switch" in names["tasks"] and "mug" in names["asset categories"]
    assert "lerobot" in names["formats of export"]


def test_a_dry_run_is_json_when_asked(tmp_path):
    result = answer(["run", "tiny_cpu", "--dry-run", "--json"], PATIENCE, tmp_path)
    told = json.loads(result.stdout)
    assert told["config"]["recipe"] == "tiny_cpu" and told["ring_bytes"] > 2**20
    sample = ["scene", "sample", "--task", "turn_switch", "-n", "2", "-o", "out", "--dry-run", "--json"]
    assert json.loads(answer(sample, FAULT, tmp_path).stdout)["last"] == 1


def test_values_that_older_commands_said_are_still_understood(tmp_path):
    words = ["encoder", "train", "--world.width", "wide", "--json", "True"]
    assert "--world.width" in json.loads(answer(words, FAULT, tmp_path).stdout)["error"]
    assert "96" in answer(["run", "--dry-run", "--world.width=96"], PATIENCE, tmp_path).stdout


def test_a_working_folder_that_is_gone_and_a_reader_that_is_gone_end_no_help_in_a_traceback(tmp_path):
    gone, ours = tmp_path / "gone", os.environ | {"PYTHONPATH": str(ROOT)}
    gone.mkdir()
    line = f'rmdir "{gone}"; {sys.executable} -m embodichain.cli --help'
    told = subprocess.run(["bash", "-c", line], cwd=gone, env=ours, capture_output=True, text=True)
    assert told.returncode == 0 and "run" in told.stdout and told.stderr == ""
    line = f"{sys.executable} -m embodichain.cli --help | true; exit ${{PIPESTATUS[0]}}"
    told = subprocess.run(["bash", "-c", line], env=ours, capture_output=True, text=True)
    assert told.returncode in (0, 1) and told.stderr == ""


def test_json_may_stand_before_the_command(tmp_path):
    for word in ("--help", "--version"):
        assert processor_s([sys.executable, "-m", "embodichain.cli", "--json", word], tmp_path)[1].returncode == 0
    told = subprocess.run([sys.executable, "-m", "embodichain.cli", "--json", "rnu"], capture_output=True, text=True, cwd=tmp_path)
    assert told.returncode == 2 and "did you mean 'run'?" in json.loads(told.stdout)["error"]
