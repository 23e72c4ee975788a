"""Wilson's interval keeps its promises, and an evaluation says under which latency it was made and what the robot waited for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from embodichain import cli
from embodichain.errors import ConfigError
from learner.commands import eval as eval_command
from learner.evaluation.episodes import wilson

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_interval_holds_the_rate_and_stays_a_probability(count):
    successes, episodes = count
    low, high = wilson(successes, episodes)
    assert 0.0 <= low <= successes / episodes <= high <= 1.0


@given(counts)
def test_interval_is_symmetric_in_success_and_failure(count):
    successes, episodes = count
    low, high = wilson(successes, episodes)
    mirrored = wilson(episodes - successes, episodes)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


@given(st.integers(2, 60), st.floats(0.05, 0.95))
def test_interval_covers_the_truth_about_as_often_as_it_says(episodes, rate):
    covered = sum(
        binom.pmf(k, episodes, rate) for k in range(episodes + 1) if wilson(k, episodes)[0] <= rate <= wilson(k, episodes)[1]
    )
    assert covered > 0.83  # the known worst case of the 95% interval for few episodes


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match="episodes"):
        wilson(successes, episodes)


def judged(capsys, out, *options):
    """What `eval --json` says of the policy that ships."""
    common = ["eval", "builtin:turn_switch", "--episodes", "1", "--pilots", "policy", "--no-films", "--json", "--out", str(out)]
    assert cli.main([*common, *options]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_latency_longer_than_a_chunk_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"--late is a number of commands of a chunk, 0 to 16, got 17"):
        eval_command.main(["builtin:turn_switch", "--late", "17", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_speculation_halves_what_the_robot_waits_for_under_the_same_simulated_latency(capsys, tmp_path):
    plain = judged(capsys, tmp_path / "plain", "--late", "4")
    ahead = judged(capsys, tmp_path / "ahead", "--late", "4", "--sai", "video+action")
    prompt = judged(capsys, tmp_path / "prompt")
    assert plain["late"] == ahead["late"] == 4 and prompt["late"] == 0
    assert plain["blocking_evaluations"] == prompt["blocking_evaluations"] == {"in distribution": 6.0}
    assert ahead["blocking_evaluations"]["in distribution"] <= 3.0
    steps = [json.loads((tmp_path / name / "episodes.jsonl").read_text())["chunks"] for name in ("plain", "prompt")]
    rows = [(tmp_path / name / "episodes.jsonl").read_text() for name in ("plain", "prompt")]
    assert rows[0] != rows[1], f"a latency changes what happens ({steps} chunks)"
    assert cli.main(["eval", "builtin:turn_switch", "--resume", "--out", str(tmp_path / "plain")]) != 0, "another latency"
    assert "judged another late" in capsys.readouterr().err
