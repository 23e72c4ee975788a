"""One darkroom serves the workers of an engine, and its death costs what it had in hand and nothing else."""

import os
import signal
import time

import numpy as np
import psutil
import pytest
from ended import has_ended

from embodichain.config import WorldConfig
from embodichain.engine import Engine
from embodichain.errors import RingTimeout
from embodichain.physics import counting
from embodichain.prepare import prepare
from embodichain.ray_engine import RayConfig, RayEngine
from embodichain.ray_engine.weather import Budgets
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, TrajectoryId
from embodichain.types.reels import CameraMode

pytestmark = pytest.mark.usefixtures("one_ray")


@pytest.fixture(scope="module")
def world():
    return prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12, depth=True), lambda *_: None)


def ring_for(world, slots=8):
    return Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=slots, max_reads=1))


def take(ring, timeout_s):
    """A copy of one trajectory that is read; None when none comes."""
    try:
        with ring.sample(1, timeout_s=timeout_s) as batch:
            return {f.name: batch[0][f.name].copy() for f in ring.spec.trajectory.fields}
    except RingTimeout:
        return None


def drained(ring, engine, timeout_s=300.0):
    """Every trajectory until the engine is exhausted and the ring empty, by the number of its scene."""
    found, deadline = {}, time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended = engine.exhausted
        read = take(ring, 0.0 if ended or isinstance(engine, Engine) else 0.2)
        if read is not None:
            number = TrajectoryId.unpack(int(read["trajectory_id"])).sequence
            assert number not in found, f"scene {number} came twice"
            found[number] = read
        elif ended:
            return found
        else:
            engine.feed()
    raise AssertionError(f"not drained after {timeout_s} s: {engine.report}")


def test_workers_with_a_darkroom_stream_what_a_serial_engine_does(world, no_shared_memory_left):
    with ring_for(world) as ring, Engine(world, ring, limit=40) as engine:
        serial = drained(ring, engine)
    config = RayConfig(workers=2, camera=CameraMode.DARKROOM, gateway_only=True)
    with ring_for(world) as ring, RayEngine(world, ring, config, limit=40) as engine:
        developed = drained(ring, engine)
        report = engine.report
    assert developed.keys() == serial.keys() and len(serial) > 25
    for number, trajectory in serial.items():
        for name, values in trajectory.items():
            if name not in ("trajectory_id", "info"):
                assert np.array_equal(values, developed[number][name]), f"{name} of scene {number}"
        counting.verify(developed[number], robot=world.robot)
    assert report.published == len(serial) and report.published + report.fates["rejected"] == 40
    assert report.timings.frames == sum(int(t["num_chunks"]) + 1 for t in serial.values())


@pytest.mark.parametrize(("kills", "limit"), [(3, 90), pytest.param(40, 1200, marks=pytest.mark.slow)])
def test_a_killed_darkroom_loses_what_it_had_in_hand_and_publishes_nothing_twice(world, kills, limit, no_shared_memory_left):
    rng, read, lost = np.random.default_rng(kills), {}, 0
    darkrooms: list[psutil.Process] = []
    config = RayConfig(workers=2, camera=CameraMode.DARKROOM, budgets=Budgets(crash=kills))
    with ring_for(world) as ring, RayEngine(world, ring, config, limit=limit) as engine:
        deadline = time.monotonic() + 60.0 + 15.0 * kills
        while lost < kills:
            engine.check()
            assert time.monotonic() < deadline, engine.report
            darkrooms.append(psutil.Process(engine.darkroom_pid))
            os.kill(darkrooms[-1].pid, signal.SIGKILL)
            lost += 1
            while engine.report.darkroom_deaths < lost:
                engine.check()
                time.sleep(0.02)
            end = time.monotonic() + rng.uniform(0.0, 0.5)
            while time.monotonic() < end and (got := take(ring, 0.05)) is not None:
                number = TrajectoryId.unpack(int(got["trajectory_id"])).sequence
                assert number not in read
                read[number] = got
        rest = drained(ring, engine, timeout_s=300.0 + limit / 4)
        report, stats = engine.report, ring.stats()
        darkrooms.append(psutil.Process(engine.darkroom_pid))
    assert len({process.pid for process in darkrooms}) == kills + 1
    assert all(has_ended(process, 20.0) for process in darkrooms), "a darkroom outlives its engine"
    assert not rest.keys() & read.keys()
    read |= rest
    assert len(read) > limit // 2, "trajectories went on"
    for trajectory in read.values():
        counting.verify(trajectory, robot=world.robot)
    assert report.darkroom_deaths == kills and not report.deaths
    assert stats.over_reads == 0 and stats.writing == 0
    assert sum(report.fates.values()) + len(report.crashed) == limit
    assert len(set(report.crashed)) == len(report.crashed)
    # What it developed in its last turn is in the ring, and it could not say so; what is not there it had in hand.
    assert len(set(report.crashed) - read.keys()) <= kills, "a darkroom has one reel in hand"
    # Every number that counts as published is there; one that was lost may have been published in the moment of its death.
    assert report.published <= len(read) <= report.published + len(report.crashed)
