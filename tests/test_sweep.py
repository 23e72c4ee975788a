"""`embodichain sweep`: trials are run folders, what ended is never run again, and the table says what they came to."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import embodichain

from embodichain.cli import main
from embodichain.errors import ConfigError
from embodichain.metrics import MetricsWriter, latest
from learner.commands.sweep import _tell, numbers
from learner.records.files import held
from learner.records.run_folder import RunFolder
from learner.reporting.sweep import factors, interval, result, table
from learner.reporting.sweep_figure import sweep_figure
from learner.runs.options import RunWords, resolve
from learner.runs.sweep import SweepWords, plan, variants
from learner.runs.watching import ends_with_stream


def sweep(*words: str, out) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "embodichain.cli", "sweep", "seconds_cpu", *words, "--out", str(out), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)


def finish(folder, *, held_out: float, successes: int, reads: int, seed: int) -> None:
    """What a run leaves behind, as far as a sweep reads it."""
    run = RunFolder.create(folder)
    run.config.write_text("recipe: seconds_cpu\n")
    rows = [
        {"pilot": pilot, "task": "turn_switch", "successes": n, "episodes": 10, "progress": n / 10}
        for pilot, n in (("policy", successes), ("expert", 10))
    ]
    histogram = {"2": 30, "4": 10}
    summary = {"interrupted": False, "reads": 100, "reads_histogram": histogram, "unique_pairs_per_iteration": 5.0 * reads}
    summary |= {"evaluation": rows, "age_p50_s": 3.0, "learner_wait_share": 0.25, "seed": seed}
    run.summary.write_text(json.dumps(summary))
    metrics = MetricsWriter(run.metrics)
    for step in range(1, 11):
        metrics.write("train", {"step": step, "loss": 1.0, "loss_action": 0.01 * step})
        metrics.write("held_out", {"step": step, "elapsed_s": 2.0 * step, "loss": 1.0, "loss_action": held_out * 10 / step})
    metrics.close()


def test_numbers_are_lists_and_ranges():
    assert numbers("213,50,10") == (213, 50, 10) and numbers("0-2") == (0, 1, 2) and numbers("0-1,7") == (0, 1, 7)


def test_variants_of_one_seed_differ_in_their_bound_and_in_nothing_else(tmp_path):
    words = SweepWords(
        recipe="seconds_cpu",
        replay=(213, 10),
        static=(32,),
        aggregate=(50,),
        seeds=(4, 5),
        out=tmp_path,
        dotted=("--train.steps", "7"),
    )
    trials = {trial.name: trial.config for trial in plan(words)}
    assert list(trials) == [f"{v}_s{s}" for s in (4, 5) for v in ("k213", "k10", "static32", "aggregate50")]
    for seed in (4, 5):
        alike = trials[f"k213_s{seed}"]
        assert (alike.world.seed, alike.learner.agent.seed, alike.learner.data.seed, alike.train.steps) == (seed, seed, seed, 7)
        assert all(trials[f"{v}_s{seed}"].world == alike.world for v in ("k10", "static32", "aggregate50"))
        assert all(trials[f"{v}_s{seed}"].learner == alike.learner for v in ("k10", "static32", "aggregate50"))
    static = trials["static32_s4"]
    assert (static.stream.limit, static.ring.num_slots, static.ring.max_reads) == (32, 32, 16_383)
    assert trials["aggregate50_s5"].ring.mode.value == "aggregate"


def test_progress_is_counted_in_what_ends_a_run():
    """A static set is complete early and then read until the last step; the stream of a test of the pipe ends before its steps."""

    def ends(recipe: str, words: RunWords, *dotted: str) -> bool:
        return ends_with_stream(resolve(recipe, words, dotted).config)

    assert not ends("seconds_cpu", RunWords(), *variants(SweepWords(recipe="seconds_cpu", static=(20,), out=Path()))["static20"])
    assert not ends("seconds_cpu", RunWords())
    assert ends("tiny_cpu", RunWords(physics="counting"))
    assert not ends("tiny_cpu", RunWords(physics="counting"), "--ring.max-reads", "10", "--train.steps", "20")
    assert ends("seconds_cpu", RunWords(), "--stream.limit", "10", "--ring.max-reads", "2", "--train.steps", "100")


def test_a_sweep_of_nothing_or_of_one_thing_twice_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs something that differs"):
        SweepWords(recipe="seconds_cpu", out=tmp_path)
    with pytest.raises(ConfigError, match="names a value twice: 10, 10"):
        SweepWords(recipe="seconds_cpu", replay=(10, 10), out=tmp_path)


def without_held_out(tmp_path) -> list:
    """Two runs that measured no held-out loss, as those of `seconds_cpu`."""
    results = []
    for variant, reads in (("k10", 10), ("k2", 50)):
        folder = tmp_path / f"{variant}_s0"
        finish(folder, held_out=0.2, successes=0, reads=reads, seed=0)
        metrics = RunFolder.open(folder).metrics
        kept = [line for line in metrics.read_text().splitlines() if '"held_out"' not in line]
        metrics.write_text("\n".join(kept) + "\n")
        results.append(result(RunFolder.open(folder), name=folder.name, variant=variant, seed=0))
    return results


def test_a_table_has_no_empty_column_cuts_no_word_and_says_what_was_not_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = table(without_held_out(tmp_path))
    _tell({"table": rows, "factors": [], "failed": {}, "files": []}, as_json=False)
    shown = capsys.readouterr().out
    assert "held-out" not in shown.partition("no held-out loss was measured")[0] and "--train.measure-every" in shown
    assert "…" not in shown and "25%" in shown, "a share is a percentage here as it is in a run's summary"


def test_a_panel_without_data_says_so_and_has_no_axis_of_numbers(tmp_path):
    results = without_held_out(tmp_path)
    figure = sweep_figure(results, "two runs")
    updates, clock, success, law = figure.axes
    for axes in (updates, clock):
        assert not axes.lines and len(axes.get_xticks()) == len(axes.get_yticks()) == 0
        assert "--train.measure-every" in axes.texts[0].get_text()
    assert success.lines and not success.texts
    drawn = [tuple(np.asarray(line.get_xydata())[0]) for line in law.lines]
    assert drawn == [(row.figures["unique_pairs"], row.figures["train_action"]) for row in results]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seconds_cpu", "--replay", "10", "--ring.slots", "3"], "unknown option '--ring.slots'"),
        (["seconds_cpu", "--replay", "0"], "max_reads (K) must be 1..16383"),
        (["seconds_cpu", "--replay", "few"], "takes numbers such as 213,50,10"),
        (["second_cpu", "--replay", "10"], "did you mean"),
        (["seconds_cpu", "--replays", "10"], "did you mean '--replay'"),
    ],
)
def test_what_no_run_would_take_is_refused_before_any_begins(words, message, tmp_path, capsys):
    try:
        assert main(["sweep", *words, "--out", str(tmp_path / "s")]) == 2
    except SystemExit as ended:
        assert ended.code == 2
    assert message in capsys.readouterr().err and not (tmp_path / "s").exists()


def test_a_dry_run_prints_the_commands_and_does_nothing(tmp_path, capsys):
    assert main(["sweep", "seconds_cpu", "--replay", "10", "--seeds", "3", "--out", str(tmp_path / "s"), "--dry-run"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("embodichain run seconds_cpu --world.seed 3") and "--ring.max-reads 10" in line
    assert line.endswith(f"--out {tmp_path / 's' / 'k10_s3'}") and not (tmp_path / "s").exists()


def test_the_table_holds_means_with_intervals_over_seeds(tmp_path):
    for variant, seed, held_out in (("k50", 0, 0.30), ("k50", 1, 0.32), ("k10", 0, 0.20), ("k10", 1, 0.21)):
        reads = 10 if variant == "k50" else 50
        finish(tmp_path / f"{variant}_s{seed}", held_out=held_out, successes=seed, reads=reads, seed=seed)
    results = [
        result(RunFolder.open(tmp_path / f"{variant}_s{seed}"), name=f"{variant}_s{seed}", variant=variant, seed=seed)
        for variant in ("k50", "k10")
        for seed in (0, 1)
    ]
    first, second = table(results)
    assert (first["variant"], first["seeds"], second["variant"]) == ("k50", 2, "k10")
    assert first["held_out_action"] == pytest.approx(0.31) and first["trajectories"] == 40 and first["wall_s"] == 20.0
    half = 12.7062 * 0.02 / 2  # Student's t for one degree of freedom; the standard error of two values is half their distance
    assert first["held_out_action_low"] == pytest.approx(0.31 - half, abs=1e-4)
    assert first["train_action"] == pytest.approx(0.095)
    assert 0.0 < first["success_low"] < first["success"] == 0.05 < first["success_high"] < 0.3
    (row,) = factors(results)
    assert (row["variant"], row["than"], row["seeds"]) == ("k50", "k10", 2)
    assert row["factor"] == pytest.approx(((0.30 / 0.20) * (0.32 / 0.21)) ** 0.5) and row["low"] < row["factor"] < row["high"]
    assert math.isnan(interval([1.0])[1])


def test_the_last_record_of_a_kind_is_found_from_the_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert latest(path, "train") is None
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "stream"}\n{"kind": "train", "st')
    assert latest(path, "train") == {"kind": "train", "step": 1}


def test_a_trial_that_begins_again_finds_nothing_of_its_earlier_attempt(tmp_path):
    (trial,) = plan(SweepWords(recipe="seconds_cpu", replay=(4,), out=tmp_path))
    for left in (".k4_s0.removed", "k4_s0"):  # the first by a sweep that was killed while it removed one
        (tmp_path / left / "checkpoints").mkdir(parents=True)
        (tmp_path / left / "config.yaml").write_text("recipe: seconds_cpu\n")
        (tmp_path / left / "ledger.bin").touch()
    assert "--resume" not in trial.next_command()
    assert not list(tmp_path.iterdir())


def test_a_sweep_is_one_process_at_a_time(tmp_path):
    with held(tmp_path):
        code, out, _ = embodichain("sweep", "seconds_cpu", "--replay", "4", "--out", str(tmp_path), "--resume", "--json")
    assert code == 2 and "in use by another process" in json.loads(out)["error"]
    assert not (tmp_path / "sweep.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_sweep_that_was_killed_goes_on_and_repeats_nothing_that_has_ended(tmp_path):
    out = tmp_path / "sweep"
    words = ["--replay", "4,3", "--seeds", "0-1", "--train.steps", "6", "--evaluate.episodes", "0", "--stream.workers", "1"]
    words += ["--world.physics", "counting", "--world.tasks", "counting", "--world.horizon", "12", "--train.verify", "True"]
    command = [sys.executable, "-m", "embodichain.cli", "sweep", "seconds_cpu", *words, "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not (out / "k4_s0" / "summary.json").exists():
            assert process.poll() is None
            os.sched_yield()
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    before = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/summary.json")}
    refused = sweep(*words, out=out)
    assert refused.returncode == 2 and "go on with it by --resume" in refused.stdout
    resumed = sweep(*words, "--resume", out=out)
    assert resumed.returncode == 0, resumed.stderr
    summary = json.loads(resumed.stdout.splitlines()[-1])
    assert set(summary["ran_now"]) == {"k4_s0", "k3_s0", "k4_s1", "k3_s1"} - before.keys()
    assert all((out / name / "summary.json").stat().st_mtime_ns == when for name, when in before.items())
    assert {row["variant"]: row["seeds"] for row in summary["table"]} == {"k4": 2, "k3": 2}
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows if row["row"] == "trial"] == ["k4", "k3", "k4", "k3"]
    assert (out / "sweep.png").read_bytes()[:4] == b"\x89PNG" and (out / "sweep.pdf").read_bytes()[:4] == b"%PDF"
    manifest = json.loads((out / "sweep.json").read_text())
    assert [trial["folder"] for trial in manifest["trials"]] == ["k4_s0", "k3_s0", "k4_s1", "k3_s1"]
    for trial in manifest["trials"]:
        assert (out / trial["folder"] / "command.txt").read_text().strip() == trial["command"]
    assert sweep(*words, "--resume", out=out).stdout.count('"ran_now": []') == 1
