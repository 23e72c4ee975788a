"""What whoever runs the engine asks first: is all there, and what will it come to?"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from token_cluster import cluster_with_token

from embodichain.cli import main
from embodichain.operations import chaos, doctor
from embodichain.operations.doctor import Severity, examine
from embodichain.operations.plan import DEMO, expect
from embodichain.ring.waiting import Side, Waiting

# ------------------------------------------------------------------------------------------------------------ who waits


def test_who_waits_is_a_share_of_one_process_of_each_side():
    waiting = Waiting.over(10.0, blocked_writer_s=21.2, blocked_reader_s=1.0, writers=4, readers=2)
    assert (waiting.workers, waiting.learner) == (pytest.approx(0.53), pytest.approx(0.05))
    assert waiting.side is Side.WORKERS and waiting.advice == "workers blocked 53%: lower K or add learners"
    other = Waiting.over(10.0, blocked_writer_s=0.0, blocked_reader_s=4.0)
    assert other.advice == "learner waits 40%: add workers or raise K"
    assert Waiting.over(10.0, blocked_writer_s=0.5, blocked_reader_s=0.9).side is Side.NOBODY


# ---------------------------------------------------------------------------------------------------------------- plan


@pytest.mark.parametrize("cores", [1, 3, 40])
@pytest.mark.parametrize("reads", [1, 10, 213])
def test_a_plan_makes_as_many_trajectories_as_it_uses_up(cores, reads):
    rates = DEMO.replaced({"max_reads": reads})
    found = expect(rates, cores=cores, learners=2)
    assert found.published == pytest.approx(min(found.made, found.used))
    assert found.steps_per_s * 2 * rates.batch_size == pytest.approx(found.published * reads)
    assert min(found.waiting.workers, found.waiting.learner) == pytest.approx(0.0)
    assert found.slots >= 2 * rates.batch_size + 1


def test_with_as_many_cores_or_reads_as_a_plan_says_nobody_waits():
    rates = DEMO.replaced({"max_reads": 2})
    found = expect(rates, cores=2, learners=4)
    assert found.waiting.side is not Side.NOBODY
    balanced = expect(rates, cores=found.cores_in_balance, learners=4)
    assert balanced.waiting.side is Side.NOBODY
    assert expect(rates.replaced({"max_reads": found.reads_in_balance}), cores=2, learners=4).waiting.side is Side.NOBODY


@pytest.mark.parametrize("reads", [1, 2, 10, 50, 213])
@pytest.mark.parametrize("cores", [1, 4, 64])
def test_a_plan_says_of_no_cores_and_of_no_bound_that_nobody_waits_when_workers_would(cores, reads):
    rates = DEMO.replaced({"max_reads": reads})
    found = expect(rates, cores=cores, learners=1)
    (*_, balance) = told = list(found.told(rates))
    text = " ".join(told)
    for given, name, again in (
        (found.cores_in_balance, "cores", lambda n: expect(rates, cores=n, learners=1)),
        (found.reads_in_balance, "reads", lambda n: expect(rates.replaced({"max_reads": n}), cores=cores, learners=1)),
    ):
        if given >= 1:  # the whole number next to the balance, within half a core or half a read of it
            waiting = again(given).waiting
            assert max(waiting.workers, waiting.learner) <= 0.5 / given + 1e-9, name
        else:
            assert again(1).waiting.workers >= 0.5 - 1e-9, name
    assert "1 cores" not in text and ("would wait too" in text) == (found.cores_in_balance == 0)
    assert ("even K = 1" in balance) == (found.reads_in_balance == 0)


def test_plan_is_a_command_that_refuses_what_cannot_be(tmp_path, capsys):
    assert main(["plan", "--cores", "8", "--max-reads", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rates"]["max_reads"] == 10 and "workers blocked" in found["advice"]
    for words, message in (
        (["--cores", "0"], "at least one core"),
        (["--cores", "2", "--step-s", "0"], "--step-s must be positive"),
        (["--cores", "2", "--run", str(tmp_path)], "is no finished run"),
    ):
        assert main(["plan", *words]) == 2
        assert message in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- doctor


def test_the_doctor_says_what_is_there_and_ends_with_1_when_something_is_bad(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"  # bound, and nobody listens
        command = [sys.executable, "-m", "embodichain.cli", "doctor", "--json", "--out", str(tmp_path)]
        well = subprocess.run(command, capture_output=True, text=True)
        ill = subprocess.run([*command, "--address", address], capture_output=True, text=True)
    found = {row["subject"]: row for row in json.loads(well.stdout)["findings"]}
    assert {"system", "lightning", "shared memory", "memory", "open files", "GPU", "disk", "clock", "Ray"} <= found.keys()
    assert well.returncode == int(any(row["state"] == "bad" for row in found.values()))
    ray = {row["subject"]: row for row in json.loads(ill.stdout)["findings"]}["Ray"]
    assert ill.returncode == 1 and ray["state"] == "bad" and "no Ray cluster answers" in ray["found"] and ray["remedy"]


@pytest.mark.slow
@pytest.mark.cluster
def test_the_doctor_tells_a_wrong_token_and_a_missing_one_from_a_cluster_that_is_not_there(tmp_path):
    command = [sys.executable, "-m", "embodichain.cli", "doctor", "--json", "--out", str(tmp_path), "--address"]

    def ray_of(address: str, environment: dict[str, str]) -> tuple[int, dict[str, str]]:
        done = subprocess.run([*command, address], env=environment, capture_output=True, text=True, timeout=300)
        rows = {row["subject"]: row for row in json.loads(done.stdout)["findings"]}
        return done.returncode, rows["Ray"]

    with cluster_with_token() as (address, member):
        stranger = {name: value for name, value in member.items() if not name.startswith("RAY_AUTH")}
        for environment in (member | {"RAY_AUTH_TOKEN": "b" * 32}, stranger):
            code, found = ray_of(address, environment)
            assert code == 1 and found["state"] == "bad"
            assert f"something answers at '{address}' and refuses" in found["found"] and "RAY_AUTH_TOKEN" in found["remedy"]
            assert "b" * 32 not in str(found) and "a" * 32 not in str(found), "no token is shown"
        _, found = ray_of(address, member)
        assert found["state"] == "good" and f"1 nodes with 1 cores at {address}" in found["found"]
    code, found = ray_of(address, member)
    assert code == 1 and "no Ray cluster answers" in found["found"] and "ray start --head" in found["remedy"]


def test_a_doctor_looks_on_where_something_cannot_be_looked_at(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(doctor, "_GPU_S", 0.2)
    used = shutil.disk_usage

    def none_there(path):
        if str(path) == "/dev/shm":
            raise FileNotFoundError(2, "No such file or directory", "/dev/shm")
        return used(path)

    monkeypatch.setattr(shutil, "disk_usage", none_there)
    found = {finding.subject: finding for finding in examine(folder=tmp_path)}
    assert found["shared memory"].state is Severity.BAD and "/dev/shm" in found["shared memory"].found
    assert found["GPU"].state is Severity.BAD and "has not answered" in found["GPU"].found
    assert found["disk"].state is not Severity.BAD or "free" in found["disk"].found


def test_what_is_stopped_goes_on_however_the_wait_ends(monkeypatch):
    process = subprocess.Popen(["sleep", "60"])

    def becomes(stopped: bool) -> bool:
        deadline = time.monotonic() + 20.0
        while (Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T") is not stopped and time.monotonic() < deadline:
            os.sched_yield()
        return time.monotonic() < deadline

    def interrupted(seconds):
        assert becomes(True)
        raise KeyboardInterrupt

    try:
        monkeypatch.setattr(chaos.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            chaos.slowed(process.send_signal)
        assert becomes(False)
    finally:
        process.kill()
        process.wait()


def test_a_plan_from_a_run_that_published_nothing_is_refused_with_its_name(tmp_path, capsys):
    summary = {"trajectories_per_s": 0.0, "worker_shares": {"waiting for room in the ring": 0.0}, "reads_histogram": {"1": 1}}
    summary |= {"max_reads": 2, "unique_pairs_per_iteration": 1.0, "steps": 1, "slot_bytes": 1}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    config = {"learner": {"data": {"batch_size": 1, "window": 1}}, "stream": {"workers": 1}, "world": {"chunk": 8}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    records = [{"kind": "train", "step": step, "wait_share": 0.0, "samples_per_s": 2.0} for step in range(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["plan", "--run", str(tmp_path), "--cores", "2"]) == 2
    assert f"{tmp_path} is no finished run with rates in it" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"trajectories_per_s": 1.0}))
    assert main(["plan", "--run", str(tmp_path), "--cores", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rates"]["window_pairs"] == 8


def test_both_lightnings_at_once_are_told(tmp_path):
    fake = tmp_path / "lightning-2.6.6.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: lightning\nVersion: 2.6.6\n")
    code = "from embodichain.operations.doctor import examine; print([f.state for f in examine() if f.subject == 'lightning'])"
    for path, expected in (("", "good"), (str(tmp_path), "bad")):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in (path, *sys.path) if part)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert f"'{expected}'" in done.stdout


def test_a_folder_that_cannot_be_written_is_bad(tmp_path):
    (finding,) = [f for f in examine(folder=tmp_path / "deep" / "down") if f.subject == "disk"]
    assert str(tmp_path) in finding.found and finding.state in (Severity.GOOD, Severity.BAD)
