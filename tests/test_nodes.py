"""Several learner nodes: a ring on each, one bound over all, the same steps and weights everywhere, and one story when it ends."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import ray
from nodes_parts import learned

from embodichain.errors import ConfigError
from embodichain.metrics import read_metrics
from embodichain.prepare import prepare
from embodichain.progress import Board
from embodichain.ring.proof import ledgers, verify
from embodichain.types import TrajectoryId
from learner.commands.run import parse
from learner.records.run_folder import RunFolder
from learner.runs import recipes
from learner.runs.complete import reads_by_trajectory

K, SCENES = 4, 32
CORES = 4
HERE = Path(__file__).parent
LONG_S = 900.0
"""How long a run may take on a machine that others use [s]: tens of processes start for each."""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --engine ray and --stream.address"),
        (["--stream.address", "auto", "--engine", "serial"], "give --engine ray"),
        (["--stream.address", "auto", "--workers", "1"], "raise --workers 1"),
        (["--stream.address", "auto", "--stream.limit", "6", "--ring.min-ready", "4"], "in each of 2 rings"),
        (["--stream.address", "auto", "--stream.camera", "darkroom"], "choose --stream.camera reels"),
    ],
)
def test_several_nodes_that_cannot_be_are_refused_before_anything_begins(tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        parse(["seconds_cpu", "--nodes", "2", "--out", str(tmp_path / "run"), *words])


# --------------------------------------------------------------------------------------------------------- on two nodes


class Two:
    """A Ray cluster of two nodes on this machine, and runs on both."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.runs: list[subprocess.Popen[str]] = []
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CORES, "object_store_memory": 100 << 20})
        self.far = self.give()
        self.address = str(self.cluster.address)

    def give(self):
        self.far = self.cluster.add_node(num_cpus=CORES, object_store_memory=100 << 20)
        return self.far

    def take(self) -> None:
        self.cluster.remove_node(self.far, allow_graceful=False)

    def begin(self, out: Path, *words: str) -> subprocess.Popen[str]:
        resumes = "--resume" in words
        command = [sys.executable, "-m", "embodichain.cli", "run", *([] if resumes else ["seconds_cpu"]), "--json"]
        command += ["--out", str(out), "--stream.address", self.address, *words]
        if not resumes:
            command += ["--physics", "counting", "--max-reads", str(K), "--learner.threads", "1", "--train.checkpoint-every", "4"]
        self.runs.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return self.runs[-1]

    def run(self, out: Path, *words: str) -> dict:
        process = self.begin(out, *words)
        said, errors = process.communicate(timeout=LONG_S)
        assert process.returncode == 0, said + errors
        return json.loads(said.splitlines()[-1])


@pytest.fixture
def two(monkeypatch):
    assert not ray.is_initialized(), "needs a Ray of its own"
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "4")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent), str(HERE)]))
    there = Two()
    yield there
    for process in there.runs:
        process.kill()  # no effect on one that has ended
        process.wait()
    if ray.is_initialized():
        ray.shutdown()
    there.cluster.shutdown()


def until_learning(process: subprocess.Popen[str], out: Path, steps: int) -> None:
    deadline = time.monotonic() + LONG_S
    while len(read_metrics(out / "metrics.jsonl", "train")) < steps:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def numbers_of(book: Path) -> set[int]:
    return {TrajectoryId.unpack(packed).sequence for packed in reads_by_trajectory(book)}


def check_story(out: Path, scenes: int, summary: dict) -> None:
    """Every scene has one fate, and no trajectory was read more than K times over all rings and lives."""
    report = verify(ledgers(out)[0], beside=ledgers(out)[1:])
    report.raise_on_violation()
    assert max(report.reads_histogram) == K and report.max_reads == K
    assert sum(summary["fates"].values()) + len(summary["crashed"]) == scenes
    sequences = Counter(TrajectoryId.unpack(packed).sequence for packed in reads_by_trajectory(*ledgers(out)))
    assert max(sequences.values()) == 1 and set(sequences) <= set(range(scenes))


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_each_trajectory_is_in_one_ring_and_read_at_most_k_times_over_both(two, tmp_path):
    """Two learners on each node, each with a slice of every weight."""
    words = ["--nodes", "2", "--ranks", "2", "--learner.parallel", "fsdp", "--stream.limit", str(SCENES)]
    summary = two.run(tmp_path / "run", *words, "--learner.data.batch-size", "2")
    first = verify(ledgers(tmp_path / "run")[0])
    assert first.reads > first.iterations * 2, "both learners of a node read its ring"
    check_story(tmp_path / "run", SCENES, summary)
    first, second = map(numbers_of, ledgers(tmp_path / "run"))
    assert first and second and not first & second
    assert {number % 2 for number in first} == {0} and {number % 2 for number in second} == {1}, "a number decides its ring"
    assert len(first | second) == summary["published"]
    unread = sum(count * (K - reads) for reads, count in summary["reads_histogram"].items() for reads in [int(reads)])
    assert unread <= 0.25 * K * summary["published"], "who is read empty first ends the run for both, and the other is nearly empty"
    command = [sys.executable, "-m", "embodichain.cli", "ledger", "verify", str(tmp_path / "run")]
    proof = subprocess.run(command, capture_output=True, text=True)
    assert proof.returncode == 0 and f"{summary['reads']} reads" in proof.stdout


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_both_nodes_end_at_the_same_step_with_equal_weights(two, tmp_path):
    from embodichain.ray_engine.learners import Learners, run_on_nodes

    config = recipes.counting(recipes.seconds_cpu())
    config = dataclasses.replace(
        config,
        out=tmp_path / "run",
        stream=dataclasses.replace(config.stream, address=two.address, limit=SCENES),
        train=dataclasses.replace(config.train, nodes=2, steps=8, verify=True),
        learner=dataclasses.replace(config.learner, threads=1, loggers=()),
    )
    folder = RunFolder.create(config.out)
    (folder.path / ".learners").touch()
    world = prepare(config.world, lambda name, done, total: None)
    places = Learners(nodes=2, ranks=1, cores=1, address=two.address, storage=folder.path / "train")
    with Board(quiet=True) as board:
        work = partial(learned, config=config, folder=folder, resume=False, accepted=bool)
        ends = run_on_nodes(work, world, places, board, lambda: False)
    (steps, weights, node), (other_steps, other_weights, other_node) = ends
    assert steps == other_steps == 8 and node != other_node
    assert weights == other_weights
    check_ledgers = verify(ledgers(folder.path)[0], beside=ledgers(folder.path)[1:])
    assert check_ledgers.holds and check_ledgers.iterations >= 8


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_ctrl_c_stops_both_nodes_and_the_run_goes_on_with_as_many_fewer_or_more(two, tmp_path):
    out = tmp_path / "run"
    process = two.begin(out, "--nodes", "2", "--stream.limit", "100000")
    until_learning(process, out, 6)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 130, said + errors
    assert not list(out.glob("ring*.txt")), "the rings of both nodes were closed"
    stopped = json.loads(said.splitlines()[-1])
    assert stopped["interrupted"] and stopped["steps"] >= 6
    for nodes in (1, 2, 3):
        shutil.copytree(out, tmp_path / str(nodes))
        if nodes == 3:
            two.give()
        more = ["--workers", str(nodes)] if nodes > 2 else []
        summary = two.run(tmp_path / str(nodes), "--resume", "--nodes", str(nodes), "--stream.limit", "160", *more)
        check_story(tmp_path / str(nodes), 160, summary)
        assert summary["steps"] > stopped["steps"] and summary["lives"] == 2
        assert bool(summary["reads_given_up"]) == (nodes == 1), "the second ring's rest, where nobody has that ring any more"


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_a_learner_node_that_dies_ends_the_run_with_one_error_and_a_checkpoint_to_go_on_from(two, tmp_path):
    out = tmp_path / "run"
    process = two.begin(out, "--nodes", "2", "--stream.limit", "100000")
    until_learning(process, out, 10)
    two.take()
    began = time.monotonic()
    said, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 2 and time.monotonic() - began < 60.0
    error = json.loads(said.splitlines()[-1])["error"]
    assert "learner rank 1 on" in error and "lost with its node" in error and "--resume" in error
    assert "Traceback" not in errors, errors
    summary = two.run(out, "--resume", "--nodes", "1", "--stream.limit", "160")
    check_story(out, 160, summary)
    assert summary["reads_given_up"] > 0 and summary["steps"] > 8
