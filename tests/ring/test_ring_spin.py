"""The protocol model-checked by Spin in all interleavings and deaths; every mutant must fail, and no line may be unreached."""

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

MODELS = Path(__file__).parent / "spin"
RING_MUTANTS = ["PUBLISH_FIRST", "CHECK_THEN_DECREMENT", "TIME_OUT", "SWEEP_WITHOUT_ROW", "ROW_FIRST", "COUNT"]
WAKE_MUTANTS = ["NO_SECOND_LOOK", "NO_RETRY", "EVENT_FIRST"]

pytestmark = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")), reason="needs spin and gcc (apt-get install spin gcc)"
)


def check(folder: Path, model: str, *definitions: str, memory_mib: int = 4_000) -> str:
    """Spin's report on one model: a verifier is generated, compiled and run through every state."""
    folder.mkdir()
    flags = [f"-D{definition}" for definition in definitions]
    subprocess.run(["spin", *flags, "-a", MODELS / f"{model}.pml"], cwd=folder, check=True, capture_output=True)
    mutant = any(definition.startswith("MUTANT") for definition in definitions)
    compiler = ["gcc", "-O0" if mutant else "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={memory_mib}", "-o", "pan", "pan.c"]
    subprocess.run(compiler, cwd=folder, check=True, capture_output=True)
    return subprocess.run(["./pan", "-m200000"], cwd=folder, check=True, capture_output=True, text=True).stdout


def errors(report: str) -> int:
    assert "max search depth too small" not in report
    assert "out of memory" not in report
    found = re.search(r"errors: (\d+)", report)
    assert found, report
    return int(found[1])


def unreached(report: str) -> list[str]:
    return re.findall(r"\t\S+:\d+, state \d+, .*", report)


@pytest.mark.parametrize("model", ["ring", "wake"])
def test_every_interleaving_and_death_keeps_the_promises(tmp_path, model):
    report = check(tmp_path / model, model)
    assert errors(report) == 0, report
    assert not unreached(report), "a line that no run reaches proves nothing"
    assert int(re.search(r"(\d+) states, stored", report)[1]) > 100_000


def test_every_mutant_is_caught(tmp_path):
    """Each breaks one rule of the protocol; a model that lets one pass would prove too little."""
    jobs = [("ring", mutant) for mutant in RING_MUTANTS] + [("wake", mutant) for mutant in WAKE_MUTANTS]
    with ThreadPoolExecutor(2) as pool:
        reports = pool.map(lambda job: check(tmp_path / job[1], job[0], f"MUTANT_{job[1]}"), jobs)
    assert {mutant: errors(report) for (_, mutant), report in zip(jobs, reports, strict=True)} == {m: 1 for _, m in jobs}


def test_an_unreached_line_is_seen(tmp_path):
    report = check(tmp_path / "ring", "ring", "DEATHS=0", "READS=0")
    assert errors(report) == 0
    assert any("Reader" in part and "ring.pml" in part for part in report.split("unreached in proctype "))
    assert unreached(report)


@pytest.mark.slow
@pytest.mark.parametrize("definition", ["DEATHS=2", "READS=3", "K=1"])
def test_larger_models_keep_the_promises(tmp_path, definition):
    assert errors(check(tmp_path / "ring", "ring", definition, memory_mib=12_000)) == 0
