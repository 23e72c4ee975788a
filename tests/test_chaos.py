"""Chaos strikes what it says, reports what it cost, and finds a run whole; `benchmarks/chaos.py` does it a hundred times."""

import json
import subprocess
import sys
import time

import pytest

from embodichain.cli import main
from embodichain.operations.chaos import for_minutes, storm
from embodichain.operations.faults import Fault


def test_every_kind_comes_once_before_any_comes_again():
    kinds = (Fault.CRASH, Fault.SLOW, Fault.MEMORY)
    faults = for_minutes(1.0, kinds)
    assert tuple(next(faults) for _ in kinds) == kinds and next(faults) in kinds
    assert list(for_minutes(1e-9, kinds)) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "minutes above 0"),
        (["--only", "rain"], "unknown fault 'rain'; available: crash"),
        (["none"], "there is nothing at none"),
    ],
)
def test_what_cannot_be_is_refused(words, message, capsys):
    try:
        assert main(["chaos", *words]) == 2
    except SystemExit as ended:
        assert ended.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.cluster
def test_a_storm_leaves_a_run_whole_and_says_what_it_cost():
    verdict = storm(iter((Fault.CRASH, Fault.SLOW, Fault.GATEWAY, Fault.NODE, Fault.MEMORY)), calm_s=2.0)
    assert verdict.intact and verdict.published > 20
    assert set(verdict.healed_s) == {"crash", "slow", "gateway", "node", "shared memory"}
    assert verdict.deaths["crash"] >= 1 and verdict.deaths["node"] >= 1 and 0.0 <= verdict.experience_lost < 1.0


@pytest.mark.slow
def test_a_run_that_goes_on_is_besieged_from_outside_and_ends_whole(tmp_path):
    run = tmp_path / "run"
    program = [sys.executable, "-m", "embodichain.cli"]
    counting = ["run", "seconds_cpu", "--physics", "counting", "--stream.limit", "4000", "--max-reads", "2", "--workers", "2"]
    process = subprocess.Popen([*program, *counting, "--out", str(run), "--json"], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").exists() or b"stream" not in (run / "metrics.jsonl").read_bytes():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        siege = subprocess.run([*program, "chaos", str(run), "--minutes", "0.2", "--json"], capture_output=True, text=True)
        assert siege.returncode == 0, siege.stderr
        told = json.loads(siege.stdout.splitlines()[-1])
        assert (
            told["faults"]["crash"] >= 1 and told["recovery_s"]["crash"] > 0 and told["over_k"] == 0 and told["ledger"] == "holds"
        )
        process.send_signal(2)
        out, _ = process.communicate(timeout=120)
        summary = json.loads(out.splitlines()[-1])
        assert summary["deaths"]["crash"] >= 1 and summary["bound_violations"] == 0
    finally:
        process.kill()
        process.wait()
