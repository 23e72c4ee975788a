"""What whoever runs the engine asks first: is all there, and what will it come to?"""

import json
import os
import socket
import subprocess
import sys

import pytest
from token_cluster import cluster_with_token

from embodichain.cli import main
from embodichain.operations.doctor import State, examine
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
    assert str(tmp_path) in finding.found and finding.state in (State.GOOD, State.BAD)
