"""The time limit of an asset does not count what its process waits for a core: a busy machine refuses no file."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from embodichain.assets.chain import batch
from embodichain.assets.chain.batch import BatchConfig
from embodichain.assets.chain.starved import starved_s
from embodichain.assets.families import source

SPIN = "import os; os.sched_setaffinity(0, {int(os.sys.argv[1])})\nwhile True: pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowJob:
    """A job that takes a while to read."""

    name: str = "block_slow"
    category: str = "block"

    def identity(self):
        return {"name": self.name}

    def source(self):
        time.sleep(1.5)
        return source.procedural("block", 7)


def test_waiting_for_a_core_is_told_from_working_and_from_sleeping():
    core = str(min(os.sched_getaffinity(0)))
    command = [sys.executable, "-c", SPIN, core]
    spinners = [subprocess.Popen(command) for _ in range(3)]
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        time.sleep(3.0)
        first = [starved_s(process.pid) for process in spinners]
        start, idle = time.monotonic(), starved_s(sleeper.pid)
        time.sleep(2.0)
        waited = sum(starved_s(process.pid) for process in spinners) - sum(first)
        elapsed = time.monotonic() - start
        # Of three on one core, two wait at any time, or more where others are there too.
        assert 1.5 * elapsed < waited < 3.2 * elapsed
        assert starved_s(sleeper.pid) - idle < 0.1 * elapsed
    finally:
        for process in (*spinners, sleeper):
            process.kill()
            process.wait()
    assert starved_s(sleeper.pid) == 0.0


@pytest.mark.parametrize("starved", [True, False])
def test_an_asset_is_given_up_for_its_own_time_alone(starved, tmp_path, monkeypatch):
    begun = time.monotonic()
    # An hour passes once the job is begun: the process slept through it, or it had no core.
    leap = lambda: 3600.0 * (time.monotonic() > begun + 1.0)  # noqa: E731
    monkeypatch.setattr(batch, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + leap()))
    monkeypatch.setattr(batch, "starved_s", lambda pid: starved_s(pid) + starved * leap())
    (outcome,) = batch.run([SlowJob()], tmp_path, BatchConfig(jobs=1))
    assert outcome.state == ("built" if starved else "failed"), outcome.reason
    if not starved:
        assert "not finished after 900 s, without what it waited for a core" in outcome.reason


def test_an_asset_is_given_up_although_it_tells_of_its_stages(tmp_path, monkeypatch):
    told = []

    def listen(outcome):
        if outcome.state == "building" and outcome.stage != "start":
            told.append(outcome.stage)
            time.sleep(2.0)  # by then it has told of its next stages

    leap = lambda: 3600.0 * bool(told)  # noqa: E731
    monkeypatch.setattr(batch, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + leap()))
    (outcome,) = batch.run([SlowJob()], tmp_path, BatchConfig(jobs=1), listener=listen)
    assert (outcome.state, len(told)) == ("failed", 1)
    assert "not finished after 900 s" in outcome.reason
