"""The loss on held-out episodes: measured with averaged weights, beside a training that does not notice."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from embodichain.errors import ConfigError
from embodichain.metrics import MetricsWriter, read_metrics
from learner.records.run_folder import RunFolder
from learner.runs import make
from learner.runs.held_out_loss import MeasuredLoss
from learner.training.config import AverageConfig, Parallel
from learner.training.optimizer import WeightAverage


def test_averages_take_the_weights_place_for_a_while_and_no_longer():
    module = torch.nn.Linear(2, 2)
    average = WeightAverage(AverageConfig(decay=0.5), module)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight += 1.0
    average.follow(module, 5)
    now = module.weight.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), average.applied(module):
        assert (module.weight > before).all() and (module.weight < now).all()
        raise RuntimeError("inside")
    assert torch.equal(module.weight, now)


class Slow:
    """A measurement that takes seven seconds of a clock."""

    def __init__(self, now: list[float]) -> None:
        self.now = now

    def due(self, step: int) -> bool:
        return step % 2 == 0

    def __call__(self) -> dict[str, float]:
        self.now[0] += 7.0
        return {"loss": 1.0}


def test_what_measuring_takes_is_no_part_of_the_time_and_a_later_life_goes_on_from_it(tmp_path):
    folder, now = RunFolder.create(tmp_path / "run"), [100.0]
    for life in range(2):
        metrics = MetricsWriter(folder.metrics)
        measured = MeasuredLoss(Slow(now), metrics, folder, clock=lambda: now[0])  # type: ignore[arg-type]
        for step in range(1, 5):
            now[0] += 10.0
            measured.after(4 * life + step)
        metrics.close()
    rows = read_metrics(folder.metrics, "held_out")
    assert [(row["step"], row["elapsed_s"]) for row in rows] == [(2, 20.0), (4, 40.0), (6, 60.0), (8, 80.0)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_that_is_measured_is_the_same_to_the_bit(tmp_path):
    losses = {}
    for every in ("0", "3"):
        run = tmp_path / every
        words = ["run", "seconds_cpu", "--engine", "serial", "--steps", "6", "--episodes", "0", "--tasks", "turn_switch"]
        words += ["--train.measure-every", every, "--evaluate.measured", "2", "--out", str(run), "--json"]
        done = subprocess.run([sys.executable, "-m", "embodichain.cli", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["steps"] == 6
        losses[every] = [record["loss"] for record in read_metrics(run / "metrics.jsonl", "train")]
    measured = read_metrics(tmp_path / "3" / "metrics.jsonl", "held_out")
    assert losses["0"] == losses["3"] and len(losses["3"]) == 6
    assert [row["step"] for row in measured] == [3, 6] and all(row["loss_action"] > 0 for row in measured)
    assert not read_metrics(tmp_path / "0" / "metrics.jsonl", "held_out")
    # Frames are foreseen in the same episodes; the linear map is fitted to what this training has foreseen, its first batch.
    names = {f"imagined_over_{other}_{ahead}" for other in ("unchanged", "linear") for ahead in (1, 2, 4)}
    assert all({name for name in row if name.startswith("imagined_")} == names for row in measured)
    assert all(0.0 < row[name] < float("inf") for row in measured for name in names)
    assert measured[0]["imagined_over_unchanged_1"] != measured[1]["imagined_over_unchanged_1"]


def test_measuring_sharded_weights_in_one_process_is_refused_before_it_would_wait_for_ever():
    config = make("seconds_cpu")
    sharded = replace(config.learner, parallel=Parallel.FSDP)
    two = replace(config.train, ranks=2, measure_every=10)
    with pytest.raises(ConfigError, match=r"measure_every 10 measures in the first of 2 .* set train\.measure_every 0"):
        replace(config, learner=sharded, train=two)
    assert replace(config, learner=sharded, train=replace(two, measure_every=0)).train.ranks == 2
    assert replace(config, train=two).train.measure_every == 10
