"""`embodichain run` as a user meets it: complete, resumable, stoppable, and honest about the bound."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import embodichain

from embodichain import cli
from embodichain.metrics import read_metrics
from embodichain.prepare import prepare
from embodichain.ring.ledger import Event, load
from embodichain.ring.proof import verify
from embodichain.ring.ring import Ring
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.policy_file import load_agent
from learner.records.run_folder import RunFolder
from learner.runs import recipes
from learner.runs.complete import reads_by_trajectory
from learner.training.module import AgentModule, RingDataModule, fit

COUNTING = ["run", "--physics", "counting", "--json"]
TINY = ["--stream.limit", "10", "--max-reads", "3"]


def run(*arguments: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "embodichain.cli", *arguments, "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


def test_counting_data_reach_a_non_zero_gradient(no_shared_memory_left):
    config = recipes.counting(recipes.tiny_cpu())
    world = prepare(config.world, lambda name, done, total: None)
    from embodichain.engine import Engine

    with Ring.create(config.ring_spec(world.trajectory_spec)) as ring, Engine(world, ring, limit=20) as engine:
        dataset = RingDataset(ring, DataConfig(batch_size=4, window=2), on_starved=engine.feed)
        agent = AgentModule(config.learner).agent
        optimizer = torch.optim.AdamW([p for p in agent.parameters() if p.requires_grad], lr=1e-2)
        measurement = agent.new_measurement()
        for step in range(3):  # the gates start closed: the first steps open them for the blocks behind
            leased = dataset.draw()
            batch = leased.gather()
            if step == 0:
                agent.measure(batch, measurement)
                agent.normalizer.fit(measurement)
            optimizer.zero_grad()
            agent.losses(batch, torch.Generator().manual_seed(step)).total.backward()
            leased.release()
            optimizer.step()
    gradients = {name: p.grad for name, p in agent.named_parameters() if p.requires_grad and p.grad is not None}
    assert sum(float(g.abs().sum()) > 0 for g in gradients.values()) > 0.8 * len(gradients) > 10


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """The folder of a counting run on two workers, and its last words."""
    folder = tmp_path_factory.mktemp("counted") / "run"
    result = run(*COUNTING, *TINY, "--workers", "2", out=folder)
    assert result.returncode == 0, result.stderr
    return folder, json.loads(result.stdout.splitlines()[-1])


def test_a_counting_run_on_workers_delivers_every_trajectory_exactly_k_times(counted):
    folder, summary = counted
    assert summary["bound_violations"] == 0
    assert summary["reads_histogram"] == {"3": summary["published"]}
    assert summary["reads"] == 3 * summary["published"]
    report = verify(folder / "ledger.bin", 3)
    assert (report.trajectories, len(report.violations), report.duplicates) == (summary["published"], 0, 0)
    assert cli.main(["ledger", "verify", str(folder)]) == 0


def test_a_run_folder_holds_what_is_needed_to_read_and_repeat_it(counted):
    folder = RunFolder.open(counted[0])
    html = folder.report.read_text()
    assert folder.command in html
    assert "<svg" in html
    assert 'src="http' not in html
    assert 'href="http' not in html
    versions = json.loads((folder.path / "versions.json").read_text())
    assert versions["torch"] == torch.__version__
    steps = [record["step"] for record in read_metrics(folder.metrics, "train")]
    assert steps == list(range(1, len(steps) + 1))
    assert folder.checkpoint.exists()
    assert folder.command.startswith("embodichain run --physics counting")
    assert cli.main(["export", str(folder.path)]) == 0
    exported, trained = load_agent(folder.path / "policy.safetensors"), load_agent(folder.checkpoint)
    assert all(torch.equal(mine, trained.state_dict()[name]) for name, mine in exported.state_dict().items())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--learner.agent.model.ffn", "52"], "does not fit this configuration"),
        (["--ring.num-slots", "100000000"], "bytes does not fit: "),
        (["--size", "base"], "--size cannot be given with --resume"),
    ],
    ids=["another shape", "no room", "another size"],
)
def test_a_resume_that_is_refused_leaves_the_run_as_it_was(counted, tmp_path, changed, said, no_shared_memory_left):
    out = tmp_path / "run"
    shutil.copytree(counted[0], out)
    folder = RunFolder.open(out)
    before = {path: path.read_bytes() for path in (folder.config, folder.ledger, folder.checkpoint, out / "versions.json")}
    refused = embodichain("run", "--resume", *changed, "--out", str(out))
    assert refused.code == 2 and said in refused.err and len(refused.err.strip().splitlines()) <= 3, refused.err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_ctrl_c_leaves_checkpoint_and_report_and_nothing_else(tmp_path, rings_of):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "embodichain.cli",
        "run",
        "--physics",
        "counting",
        "--stream.limit",
        "100000",
        "--workers",
        "1",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(read_metrics(out / "metrics.jsonl", "train")) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    folder = RunFolder.open(out)
    assert folder.checkpoint.exists()
    assert "interrupted" in folder.report.read_text()
    assert not rings_of(process.pid)
    assert not children_in_session(process.pid)
    before = len(read_metrics(folder.metrics, "train"))
    result = run("run", "--resume", "--engine", "serial", "--train.steps", str(before + 2), out=out)
    assert result.returncode == 0, result.stderr
    steps = [record["step"] for record in read_metrics(folder.metrics, "train")]
    assert steps == list(range(1, before + 3))
    notes = [json.loads(line) for line in folder.sessions.read_text().splitlines()]
    assert ["began" in note for note in notes] == [True, False, True, False]
    assert "--resume" in notes[2]["command"] and "--resume" not in folder.command, "the run is known by how it was made"
    summary = json.loads(folder.summary.read_text())
    assert summary["sessions"] == 2 and summary["wall_s_total"] >= summary["wall_s"] > 0
    # Told from the ledger of both lives: what was published after the last checkpoint is no part of the run, and is made again.
    read = reads_by_trajectory(folder.ledger)
    assert notes[1]["published"] > 0
    assert summary["published"] >= len(read) > 0, "counted from the beginning of the run"


@pytest.mark.slow
@pytest.mark.parametrize("physics", ["counting", "weather_parts:IdlePhysics"])
def test_whoever_takes_a_machine_back_asks_once_and_nothing_is_lost(tmp_path, physics, rings_of):
    """SIGTERM to the run alone, in the middle of learning, or while it waits for a first trajectory that never comes."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "embodichain.cli", "run", "--out", str(out), "--workers", "1", "--stream.limit", "100000"]
    command += ["--train.checkpoint-every", "10000", "--world.tasks", "counting", "--physics", physics]
    paths = os.pathsep.join((str(Path(__file__).parent.parent), str(Path(__file__).parent)))
    said = tmp_path / "said"
    with said.open("w") as errors:
        process = subprocess.Popen(command, stderr=errors, start_new_session=True, env={**os.environ, "PYTHONPATH": paths})
    deadline = time.monotonic() + 300
    idle = physics != "counting"
    while "start workers: " not in said.read_text() or not (idle or len(read_metrics(out / "metrics.jsonl", "train")) >= 3):
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=200) == 130, said.read_text()
    folder = RunFolder.open(out)
    assert folder.checkpoint.exists() != idle
    assert "interrupted" in folder.report.read_text()
    assert json.loads(folder.sessions.read_text().splitlines()[-1])["interrupted"]
    assert not rings_of(process.pid) and not children_in_session(process.pid)


def children_in_session(session: int) -> list[int]:
    """Processes of a session that outlive its leader."""
    deadline = time.monotonic() + 120
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@pytest.fixture(scope="module")
def trajectories() -> list[dict[str, np.ndarray]]:
    """A few counting trajectories in private memory."""
    from embodichain.engine import Engine

    config = recipes.counting(recipes.tiny_cpu())
    world = prepare(config.world, lambda name, done, total: None)
    found = []
    with Ring.create(config.ring_spec(world.trajectory_spec)) as ring, Engine(world, ring, limit=12) as engine:
        while not engine.exhausted:
            engine.feed()
        rng = np.random.default_rng(0)  # a ring draws by chance, and so would the losses below
        for _ in range(ring.stats().ready):
            with ring.sample(1, rng=rng) as batch:
                found.append({f.name: batch[0][f.name].copy() for f in ring.spec.trajectory.fields})
    return found


def test_a_resumed_training_continues_the_loss_curve_bit_for_bit(tmp_path, trajectories):
    config = recipes.tiny_cpu().learner

    def train(path: Path, *, steps: int, resume: bool = False) -> list[float]:
        losses: list[float] = []

        def keep(step: int, values) -> bool:
            losses.append(values["loss"])
            return False

        dataset = RingDataset(MemorySource(trajectories), DataConfig(batch_size=3, window=2))
        data = RingDataModule(dataset)
        fit(AgentModule(config), data, steps=steps, clip=1.0, checkpoint=path, checkpoint_every=100, resume=resume, on_step=keep)
        return losses

    whole = train(tmp_path / "whole.ckpt", steps=6)
    first = train(tmp_path / "parts.ckpt", steps=3)
    second = train(tmp_path / "parts.ckpt", steps=6, resume=True)
    assert first + second == whole
    assert len(set(whole)) == len(whole), "every step changes the weights"


@pytest.mark.slow
def test_ranks_of_one_run_share_the_bound_and_are_gone_with_it(tmp_path, no_shared_memory_left):
    result = run(*COUNTING, *TINY, "--engine", "serial", "--ranks", "2", "--ring.placement", "delayed", out=tmp_path / "run")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["bound_violations"] == 0
    assert summary["reads_histogram"] == {"3": summary["published"]}
    assert not list((tmp_path / "run").glob(".meeting*"))
    records, _ = load(tmp_path / "run" / "ledger.bin")
    by_step = np.unique(records["step"][records["event"] == Event.READ], return_counts=True)[1]
    assert by_step.max() >= 2 * 8, "both ranks read in one step"


@pytest.mark.slow
def test_whoever_ends_all_processes_of_a_job_with_two_ranks_loses_nothing(tmp_path, rings_of):
    """As a scheduler does: SIGTERM reaches every process of the job at once."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "embodichain.cli", *COUNTING, "--engine", "serial", "--ranks", "2", "--out", str(out)]
    command += ["--stream.limit", "100000", "--train.checkpoint-every", "10000"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    deadline = time.monotonic() + 400
    while len(read_metrics(out / "metrics.jsonl", "train")) < 3:
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "said").read_text()
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=200) == 130, (tmp_path / "said").read_text()
    assert RunFolder.open(out).checkpoint.exists()
    assert not rings_of(process.pid) and not children_in_session(process.pid)
