"""Where episodes come from ends when it should: with the job that makes them, or with a task that cannot be done."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from exchange_parts import ROOT, episodes_in, start

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
    said, errors = along.communicate(timeout=60)
    ring.unlink(missing_ok=True)
    report = json.loads(said.splitlines()[-1])
    assert along.returncode == 0 and report["episodes"] == 2 and not report["interrupted"], errors
