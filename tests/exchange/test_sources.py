"""Where episodes come from ends when it should: with the job that makes them, or with a task that cannot be done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from exchange_parts import ROBOT, ROOT, ended, episodes_in, schema, start

from embodichain.errors import SceneError
from embodichain.exchange import sources
from embodichain.types import RING_FILE

_OWNER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from exchange_parts import begin_run, fill, schema
ring = begin_run(Path(sys.argv[2]), schema(chunk=4, horizon=4))
fill(ring, range(2))
print("there", flush=True)
time.sleep(600)
"""


def test_an_export_along_with_a_job_that_is_killed_ends_by_itself(tmp_path, no_shared_memory_left):
    run, out = tmp_path / "run", tmp_path / "set"
    command = [sys.executable, "-c", _OWNER, str(Path(__file__).parent), str(run)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        assert owner.stdout.readline() == "there\n"
        ring = Path((run / RING_FILE).read_text())
        along = start("export", "lerobot", "--run", run, "-n", 0, "-o", out, "--json")
        deadline = time.monotonic() + 240
        while episodes_in(out) < 2:
            assert along.poll() is None and time.monotonic() < deadline, along.communicate()
            time.sleep(0.05)
    finally:
        owner.kill()
        owner.communicate()
    said, errors = ended(along, timeout=60)
    refused = start("export", "lerobot", "--run", run, "-o", tmp_path / "other", "--dry-run")
    assert "no ring now" in ended(refused, timeout=240)[1] and refused.returncode == 2
    ring.unlink(missing_ok=True)
    report = json.loads(said.splitlines()[-1])
    assert along.returncode == 0 and report["episodes"] == 2 and not report["interrupted"], errors


@pytest.mark.parametrize("first", [0, 37])
def test_a_task_that_never_succeeds_is_given_up_with_its_commonest_reason(first, monkeypatch):
    class Stage:
        """Scenes of which none is valid."""

        def __init__(self, world, physics):
            pass

        def step(self, number):
            raise SceneError("the cup does not fit" if number % 3 else "no place for the tray")

    monkeypatch.setattr(sources, "SceneStage", Stage)
    world = SimpleNamespace(robot=ROBOT, trajectory_spec=schema(), make_physics=lambda: SimpleNamespace(close=lambda: None))
    told, looks = sources.Told(), []
    scenes = sources.from_scenes(world, first, told, lambda: looks.append(sum(told.refused.values())))
    with pytest.raises(SceneError, match=rf"100 scenes in a row, {first} to {first + 99}; 6[67] of them: the cup does not fit"):
        next(scenes)
    assert looks == list(range(100)), "whoever watches sees it move"


def catches(pid, number):
    """Whether a process has a handler for a signal."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["SigCgt"], 16) >> (number - 1) & 1


def test_a_signal_before_the_first_scene_ends_the_export_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBODICHAIN_CACHE", str(tmp_path / "cache"))
    export = start("export", "lerobot", "--task", "turn_switch", "-n", 1, "-o", tmp_path / "set")
    deadline = time.monotonic() + 240
    while not catches(export.pid, signal.SIGTERM):
        assert export.poll() is None and time.monotonic() < deadline, export.communicate()
        time.sleep(0.02)
    time.sleep(1.0)  # now it builds assets, and after them the table of reach
    export.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    _, said = ended(export, timeout=60)
    assert export.returncode == 130 and time.monotonic() - asked < 10, said
    assert "Traceback" not in said and not (tmp_path / "set").exists()
