import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import psutil
import pytest
from ended import has_ended

from embodichain.assets.chain import batch, finished, jobs
from embodichain.assets.chain.batch import BatchConfig
from embodichain.assets.families import source
from embodichain.commands import assets as asset_commands
from embodichain.errors import AssetError, ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleJob:
    """A job that goes wrong in the way its name says."""

    name: str
    category: str = "block"

    def identity(self):
        return {"name": self.name}

    def source(self):
        match self.name:
            case "block_refused":
                raise AssetError("read: the file is empty")
            case "block_crashed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "block_hung":
                time.sleep(600)
            case "block_buggy":
                raise ZeroDivisionError("a bug")
        return source.procedural("block", 7)


def test_a_bad_asset_costs_only_itself(tmp_path, monkeypatch):
    names = ("block_refused", "block_crashed", "block_buggy", "block_hung", "block_good")
    seen, ended = [], set()
    # The batch's clock leaps once only the one that hangs is left: no other can come late, however slow the machine.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 1_000.0 * (len(ended) == len(names) - 1))
    monkeypatch.setattr(batch, "time", clock)

    def listen(outcome):
        seen.append(outcome)
        if outcome.state in ("built", "failed"):
            ended.add(outcome.name)

    outcomes = batch.run([TroubleJob(name=name) for name in names], tmp_path, BatchConfig(jobs=2), listener=listen)
    states = {outcome.name: outcome.state for outcome in outcomes}
    assert states == {**dict.fromkeys(names, "failed"), "block_good": "built"}
    reasons = {outcome.name: outcome.reason for outcome in outcomes}
    assert reasons["block_refused"] == "read: the file is empty"
    assert "signal 9" in reasons["block_crashed"]
    assert "ZeroDivisionError" in reasons["block_buggy"]
    assert "not finished after 900 s" in reasons["block_hung"]
    refused = next(outcome for outcome in outcomes if outcome.name == "block_refused")
    assert refused.stages[-1]["refused"] == reasons["block_refused"]
    assert [path.name for path in (tmp_path / "block").iterdir()] == ["block_good"]
    stages = [outcome.stage.split()[0] for outcome in seen if outcome.name == "block_good" and outcome.stage]
    assert stages == [
        "start",
        "source",
        "repair",
        "frame",
        "simplify",
        "collision",
        "physical",
        "antipodal",
        "usd",
        "preview",
        "validate",
        "grasp",
    ]


def test_what_is_finished_and_unchanged_is_kept_and_only_that(catalog_dir, catalog, tmp_path):
    wanted = [jobs.ProceduralJob(category="block", seed=seed) for seed in (0, 1)]
    assert [o.state for o in batch.plan(wanted, catalog_dir, BatchConfig())] == ["kept", "waiting"]
    assert [o.state for o in batch.plan(wanted, catalog_dir, BatchConfig(resume=False))] == ["waiting", "waiting"]
    clean = jobs.ProceduralJob(category="block", seed=0, clean=True)
    assert batch.plan([clean], catalog_dir, BatchConfig())[0].state == "waiting"
    (outcome,) = batch.run(wanted[:1], catalog_dir, BatchConfig())
    assert (outcome.state, outcome.seconds) == ("kept", 0.0)


def test_a_plan_names_what_two_sources_would_both_make(tmp_path):
    job = jobs.ProceduralJob(category="block", seed=0)
    with pytest.raises(ConfigError, match="block_000"):
        batch.plan([job, job], tmp_path, BatchConfig())


def test_an_unwritable_folder_stops_a_batch_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AssetError, match="cannot write into"):
        batch.run([jobs.ProceduralJob(category="block", seed=0)], tmp_path / "file")


def build(out, *more):
    return [sys.executable, "-m", "embodichain.cli", "asset", "build", "pad:6", "-o", str(out), "--jobs", "2", *more]


@pytest.mark.slow
def test_a_killed_build_leaves_only_whole_assets_and_resumes(tmp_path):
    with subprocess.Popen(build(tmp_path), stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        first = driver.stderr.readline()
        assert "built" in first
        time.sleep(0.2)
        workers = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGKILL)
    assert len(workers) >= 2
    assert all(has_ended(worker, 120.0) for worker in workers), "orphaned workers notice at their next word"
    whole = [path for path in (tmp_path / "pad").iterdir() if not path.name.startswith(".")]
    assert 1 <= len(whole) < 6
    for folder in whole:
        report = json.loads((folder / f"{folder.name}.json").read_text())
        assert finished.unharmed(folder / f"{folder.name}.usd", report["key"])
    again = subprocess.run(build(tmp_path, "--resume", "--json"), capture_output=True, text=True, check=True)
    states = [row["state"] for row in json.loads(again.stdout)["assets"]]
    assert states.count("kept") >= len(whole)
    assert set(states) == {"kept", "built"}
    assert not [path for path in (tmp_path / "pad").iterdir() if path.name.startswith(".")]


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path, capsys, catalog_dir, catalog):
    assert asset_commands.main(["build", "mug", "block:2", "-o", str(tmp_path / "out"), "--dry-run", "--json"]) == 0
    assert [row["would"] for row in json.loads(capsys.readouterr().out)["assets"]] == ["build"] * 3
    assert not (tmp_path / "out").exists()
    assert asset_commands.main(["build", "block:2", "-o", str(catalog_dir), "--dry-run", "--resume"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["keep", "build"]
