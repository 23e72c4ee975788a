"""The Efficiency Law across runs, from what each left in its folder."""

import json

import pytest

from embodichain.cli import main
from embodichain.metrics import MetricsWriter
from learner.records.run_folder import RunFolder


def run(path, experience: float, loss: float, successes: int | None = None, recipe: str = "tiny_cpu") -> str:
    folder = RunFolder.create(path)
    folder.config.write_text(f"recipe: {recipe}\n")
    rows = [] if successes is None else [{"pilot": "policy", "successes": successes, "episodes": 20}]
    folder.summary.write_text(json.dumps({"unique_pairs_per_iteration": experience, "evaluation": rows}))
    writer = MetricsWriter(folder.metrics)
    for step in range(50):
        writer.write("train", {"step": step, "loss": loss + (5.0 if step < 40 else 0.0)})
    writer.close()
    return str(path)


def test_runs_that_obey_the_law_give_it_back_with_a_picture(tmp_path, capsys):
    runs = [run(tmp_path / f"run-{e}", e, 0.5 + 4.0 * e**-0.5) for e in (10, 40, 160, 640, 2560)]
    assert main(["efficiency", *runs, "--json", "--picture", str(tmp_path / "law.svg")]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["floor"] == pytest.approx(0.5, abs=0.01) and found["exponent"] == pytest.approx(0.5, rel=0.02)
    assert [row["loss"] for row in found["runs"]] == pytest.approx([0.5 + 4.0 * e**-0.5 for e in (10, 40, 160, 640, 2560)])
    assert (tmp_path / "law.svg").read_text().startswith("<svg")
    assert main(["efficiency", *runs]) == 0
    assert "within 5% of the floor above E = " in capsys.readouterr().out


def test_failures_in_held_out_scenes_can_be_fitted_too(tmp_path, capsys):
    runs = [run(tmp_path / f"run-{e}", e, 1.0, successes) for e, successes in ((10, 2), (40, 9), (160, 14), (640, 17))]
    assert main(["efficiency", *runs, "--measure", "failure", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert [row["failure"] for row in rows] == pytest.approx([0.9, 0.55, 0.3, 0.15])


def test_what_cannot_be_fitted_says_why(tmp_path, capsys):
    runs = [run(tmp_path / f"run-{e}", e, 1.0) for e in (10, 40)]
    for arguments, message in (
        (runs, "at least four points"),
        ([*runs, "--measure", "joy"], "unknown measure 'joy'; available: failure, loss"),
        ([runs[0], "--measure", "failure"], "was not evaluated"),
        ([runs[0], "--measure", "loss_video"], "has no 'loss_video'"),
        ([str(tmp_path / "none")], "there is nothing at"),
        ([str(tmp_path)], "is a run folder"),
    ):
        assert main(["efficiency", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_runs_of_different_recipes_are_not_mixed_unless_told(tmp_path, capsys):
    runs = [run(tmp_path / f"run-{e}", e, 1.0, recipe="tiny_cpu" if e < 100 else "law_cpu") for e in (10, 40, 160, 640)]
    assert main(["efficiency", *runs]) == 2
    assert "2 of tiny_cpu, 2 of law_cpu; give those of one recipe, or say --mix" in capsys.readouterr().err
    assert main(["efficiency", *runs, "--mix", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]) == 4


def test_folders_that_are_no_runs_are_left_out_and_named(tmp_path, capsys):
    runs = [run(tmp_path / f"run-{e}", e, 0.5 + 4.0 * e**-0.5) for e in (10, 40, 160, 640)]
    (tmp_path / "logs").mkdir()
    assert main(["efficiency", *runs, str(tmp_path / "logs"), "--json"]) == 0
    told = capsys.readouterr()
    assert f"{tmp_path / 'logs'} is no run folder and is left out" in told.err
    assert len(json.loads(told.out.splitlines()[-1])["runs"]) == 4
