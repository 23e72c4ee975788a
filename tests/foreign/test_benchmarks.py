"""Meta-World and robosuite themselves, in an environment of their own: every expert streams, and every verdict is theirs.

The environment is installed by name and kept in `.venv-foreign` at the root, where `make bench-exchange` looks for it too.
"""

import json
import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
from foreign_waiting import first_line

from embodichain import cli
from embodichain.config import WorldConfig
from embodichain.episode import Episode, NoPictures
from embodichain.motion.action import ActionCodec
from embodichain.physics.foreign.wire import INTERPRETER
from embodichain.prepare import prepare
from embodichain.processes import call
from embodichain.resimulation import fingerprints, resimulate
from embodichain.rollout import ExpertPilot, drive
from embodichain.stages import SceneStage
from embodichain.tasks.benchmarks import names

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
METAWORLD, ROBOSUITE = names("metaworld"), names("robosuite")


def world(*tasks):
    return prepare(WorldConfig(tasks=tasks, width=32, height=32, painter="raster", horizon=32))


def play(made, physics, scenes, number):
    """One scripted episode without pictures."""
    task, scene = scenes.step(number)
    out = made.trajectory_spec.allocate()
    pilot = ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))
    episode = Episode(scene, pilot, task.grader(scene), ActionCodec(made.robot), NoPictures(), out, made.trajectory_spec)
    states = list(drive(physics, scene, episode))
    return scene, episode.finish(), out, states


def rates(tasks, each):
    """Successes of each task's expert in so many scenes."""
    made = world(*tasks)
    physics = made.make_physics()
    scenes = SceneStage(made, physics=physics)
    found = {
        name: sum(play(made, physics, scenes, i + len(tasks) * k)[1].verdict.success for k in range(each))
        for i, name in enumerate(tasks)
    }
    physics.close()
    return found


def test_every_expert_of_metaworld_streams(foreign):
    found = rates(METAWORLD, 3)
    assert len(found) == 50 and not [name for name, count in found.items() if not count]
    assert sum(found.values()) >= 0.95 * 150, {name: count for name, count in found.items() if count < 3}


def test_our_experts_solve_robosuites_tasks(foreign):
    found = rates(ROBOSUITE, 8)
    assert min(found.values()) >= 7, found


@pytest.mark.parametrize("task", ["metaworld:pick-place-v3", "metaworld:door-open-v3", "metaworld:reach-v3"])
def test_the_verdict_is_that_of_metaworld_by_itself(foreign, tmp_path, task):
    made = world(task)
    physics = made.make_physics()
    scenes = SceneStage(made, physics=physics)
    play(made, physics, scenes, 0)  # ours begins its environments again, theirs is fresh
    scene, outcome, out, states = play(made, physics, scenes, 1)
    physics.close()
    commands = ActionCodec(made.robot).decode(out["action"][: outcome.num_chunks]).reshape(-1, 4)
    np.savez(tmp_path / "asked.npz", task=task.partition(":")[2], seed=np.array(scene.seed), commands=commands)
    script = [str(foreign), str(ROOT / "tests/foreign/stock_metaworld.py"), str(tmp_path / "asked.npz"), str(tmp_path / "said.npz")]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.run(script, env=clean, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[-2000:]
    theirs = np.load(tmp_path / "said.npz")
    assert np.array_equal(theirs["observations"], [state.observation["observation"] for state in states])
    assert theirs["successes"].tolist() == [state.success for state in states[1:]]
    assert np.array_equal(theirs["rewards"], [state.reward for state in states[1:]])
    assert bool(theirs["successes"].any()) == outcome.verdict.success


def test_what_is_played_ahead_is_what_step_by_step_gives(foreign, monkeypatch):
    tasks = (*METAWORLD[::7], "metaworld:door-open-v3")  # whose expert changes what it is shown
    made = world(*tasks)
    physics = made.make_physics()
    scenes = SceneStage(made, physics=physics)
    ahead = [play(made, physics, scenes, number)[2]["action"] for number in range(len(tasks))]
    monkeypatch.setattr("embodichain.physics.foreign.physics._TRUSTED", 1 << 30)
    for number, actions in enumerate(ahead):
        assert np.array_equal(play(made, physics, scenes, number)[2]["action"], actions)
    physics.close()


def fingerprint(task, number):
    return fingerprints(resimulate(world(task), number).trajectory)


@pytest.mark.parametrize("task", ["metaworld:drawer-open-v3", "metaworld:hammer-v3", "robosuite:Lift", "robosuite:Stack"])
def test_a_seed_is_a_trajectory_in_any_process(foreign, task):
    here = fingerprint(task, 1)
    assert call(fingerprint, task, 1) == here != fingerprint(task, 2)


def run(python, *words):
    environment = os.environ | {INTERPRETER: str(python)}
    command = [sys.executable, "-m", "embodichain.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=400, env=environment)


@pytest.fixture(scope="module")
def trained(python, tmp_path_factory):
    """The folder of a short run in Meta-World."""
    out = tmp_path_factory.mktemp("trained") / "run"
    settings = {"train.steps": 4, "evaluate.episodes": 1, "engine": "serial", "ring.num-slots": 8, "ring.min-ready": 2}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    said = run(python, "run", "metaworld_cpu", "--out", str(out), "--max-reads", "3", *words)
    assert said.returncode == 0, said.stderr[-3000:]
    return out


def test_a_policy_trained_there_is_judged_there(foreign, trained, capsys):
    assert cli.main(["ledger", "verify", str(trained)]) == 0
    assert "K = 3" in capsys.readouterr().out
    judged = json.loads((trained / "summary.json").read_text())
    assert {row["pilot"]: row["successes"] for row in judged["evaluation"]}["expert"] == 1
    traced = run(foreign, "trace", str(trained), "step:2", "--json")
    assert traced.returncode == 0, traced.stderr[-2000:]
    record = json.loads(traced.stdout.splitlines()[-1])
    replayed = run(foreign, "replay", next(str(path) for path in trained.glob("traces/*/record.json")))
    assert replayed.returncode == 0 and "the same to the bit" in replayed.stdout, (replayed.stderr, record)


def drives(python, *words, program="metaworld_openpi.py"):
    """A benchmark's own loop, in a Python without ours."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"MUJOCO_GL": "osmesa"}
    command = [str(python), f"benchmarks/peers/{program}", *words]
    return subprocess.run(command, env=clean, capture_output=True, text=True, cwd=ROOT, timeout=300)


needs_osmesa = pytest.mark.skipif(
    find_library("OSMesa") is None, reason="Meta-World's own renderer needs OSMesa (apt-get install libosmesa6)"
)


def driven(python, run, program):
    """What a benchmark's own loop says of 64 steps of each of two episodes with the policy of a run."""
    command = [sys.executable, "-m", "embodichain.cli", "serve", str(run), "--dialect", "openpi", "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT)
    try:
        port = json.loads(first_line(server, 120.0))["port"]
        played = drives(python, "--port", str(port), "--episodes", "2", "--steps", "64", program=program)
    finally:
        server.terminate()
        try:
            server.wait(60.0)
        finally:
            server.kill()
            server.stdout.close()
    assert played.returncode == 0, played.stderr[-3000:]
    figures = json.loads(played.stdout.splitlines()[-1])
    assert figures["steps"] == 16 * figures["requests"] and figures["episodes"] == 2
    return figures


@needs_osmesa
def test_a_policy_drives_metaworld_through_openpis_own_client(foreign, trained):
    pytest.importorskip("websockets")
    assert driven(foreign, trained, "metaworld_openpi.py")["chunk"] == [16, 4]


@needs_osmesa
def test_a_policy_drives_robosuite_through_openpis_own_client(foreign, tmp_path):
    pytest.importorskip("websockets")
    small = "--engine serial --steps 3 --episodes 0 --ring.num-slots 8 --ring.min-ready 2 --learner.data.batch-size 2"
    words = ["run", "metaworld_cpu", "--task", "robosuite:Lift", "--out", str(tmp_path / "lift"), *small.split()]
    said = run(foreign, *words, "--learner.measure-batches", "1")
    assert said.returncode == 0, said.stderr[-3000:]
    assert driven(foreign, tmp_path / "lift", "robosuite_openpi.py")["chunk"] == [16, 7]


@needs_osmesa
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--episodes", "0"], "--episodes is 1 or more, got 0"),
        (["--steps", "501"], "--steps is 1 to 500, got 501"),
        (["--steps", "0"], "--steps is 1 to 500, got 0"),
    ],
)
def test_that_program_refuses_what_cannot_be_played_in_one_line(foreign, words, said):
    refused = drives(foreign, *words)
    assert refused.returncode == 2 and said in refused.stderr and refused.stderr.count("\n") == 1, refused.stderr
