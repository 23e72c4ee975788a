"""The report shows how a run's loss fell with what it had seen, from the run's records alone."""

import numpy as np
import pytest
from in_process import embodichain

from embodichain.metrics import MetricsWriter
from learner.records.run_folder import RunFolder
from learner.reporting.report import _efficiency, _over_time


def records(folder: RunFolder, count: int, *, new_pairs: int = 96) -> None:
    writer = MetricsWriter(folder.metrics)
    rng = np.random.default_rng(0)
    for step in range(1, count + 1):
        seen = max(1, new_pairs) * step if new_pairs else 500
        writer.write(
            "train",
            {
                "step": step,
                "loss": 0.8 + 30.0 * seen**-0.5 + 0.01 * rng.normal(),
                "experience_total_pairs": float(seen),
                "experience_new_pairs": float(new_pairs),
                "experience_new_pairs_per_s": 10.0 * new_pairs,
                "experience_reads": 4.5,
                "experience_age_s": 2.0,
                "wait_share": 0.25,
            },
        )
    writer.close()


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run")


def test_the_law_of_a_run_is_drawn_and_put_into_words(folder):
    records(folder, 200)
    shown = _efficiency(folder)
    assert shown["efficiency_chart"].startswith("<svg") and "different state-action pairs" in shown["efficiency_chart"]
    assert "read 96 state-action pairs for the first time (960 a second)" in shown["efficiency_text"]
    assert "read 4.5 times by then" in shown["efficiency_text"] and "waited 25.0%" in shown["efficiency_text"]


@pytest.mark.parametrize(("count", "new_pairs"), [(5, 96), (100, 0)])
def test_a_run_too_short_or_without_anything_new_shows_no_law(folder, count, new_pairs):
    records(folder, count, new_pairs=new_pairs)
    assert _efficiency(folder) == {"efficiency_chart": "", "efficiency_text": ""}


def test_what_the_records_hold_over_time_is_drawn_and_who_waited_is_told(folder):
    records(folder, 50)
    clock = iter(range(0, 1000, 10))
    writer = MetricsWriter(folder.metrics, clock=lambda: float(next(clock)))
    for step in range(20):  # four workers that are blocked for 53% of their time
        waited = {"blocked_writer_s": 4 * 5.3 * step, "blocked_reader_s": 0.2 * step}
        writer.write("stream", {"step": step, "published": 3 * step, "workers": 4, "deaths": {"crash": step // 10}, **waited})
    for step in (10, 20, 30):
        writer.write("held_out", {"step": step, "elapsed_s": float(step), "loss": 1.0, "loss_action": 1.0 / step})
    writer.close()
    shown = _over_time(folder)
    assert shown["advice"] == "workers blocked 53%: lower K or add learners"
    told = " ".join(shown["time_charts"])
    for label in ("new pairs an iteration", "age at a read", "workers blocked", "workers lost", "held-out episodes"):
        assert label in told
    assert len(shown["time_charts"]) == 5


def test_foresight_is_drawn_all_along_beside_the_copy_and_the_linear_map(folder):
    writer = MetricsWriter(folder.metrics)
    for step in range(1, 81):
        told = {f"foresight_imagined_over_unchanged_{ahead}": 1.0 / step for ahead in (1, 2, 4)} if step > 1 else {}
        linear = {f"foresight_imagined_over_linear_{ahead}": 2.0 / step for ahead in (1, 2)} if step > 40 else {}
        writer.write("train", {"step": step, "loss": 1.0, **told, **linear})
    writer.close()
    unchanged, linear = _over_time(folder)["time_charts"]
    assert "imagined / no change" in unchanged and "4 chunks ahead" in unchanged and "1 chunk ahead" in unchanged
    assert "imagined / linear map" in linear and "4 chunks ahead" not in linear


def test_a_run_that_has_hardly_begun_has_nothing_over_time(folder):
    assert _over_time(folder) == {"time_charts": [], "advice": ""}


@pytest.mark.parametrize(
    ("summary", "said"),
    [(None, "the run has not ended; go on with it by --resume"), ("{", "is damaged"), ("[1]", "is damaged: it holds list")],
)
def test_a_run_without_figures_is_one_line_and_its_report_stays(folder, summary, said):
    folder.config.write_text("recipe: tiny_cpu\n")
    folder.report.write_text("as it was")
    if summary is not None:
        folder.summary.write_text(summary)
    for command in ("report", "efficiency"):
        code, out, err = embodichain(command, str(folder.path))
        assert code == 2 and out == "" and said in err and len(err.splitlines()) == 1
    assert folder.report.read_text() == "as it was"


def test_the_folder_of_an_evaluation_is_no_run(tmp_path):
    (tmp_path / "config.yaml").write_text("checkpoint: a\n")
    (tmp_path / "episodes.jsonl").touch()
    code, _, err = embodichain("report", str(tmp_path))
    assert code == 2 and "is the folder of an evaluation" in err and len(err.splitlines()) == 1
