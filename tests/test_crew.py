"""A crew over many worlds makes of every number what a single loop makes of it, and survives its members."""

import os
import signal
import time

import numpy as np
import pytest

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.crew_engine import CrewEngine
from embodichain.engine import Engine
from embodichain.errors import ConfigError, RingTimeout
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.recovery.config import RecoveryConfig
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, TrajectoryId, TrajectoryInfo


@pytest.fixture(scope="module")
def world():
    """Two tasks whose looks, sizes and physics vary, half of whose episodes are provoked to fail at first."""
    config = WorldConfig(
        tasks=("turn_switch", "switch_as_it_was"),
        painter="raster",
        width=16,
        height=16,
        depth=True,
        segmentation=True,
        assets=AssetsConfig(counts={"switch": 2}),
        visual=VisualConfig(enabled=True),
        physical=PhysicalConfig(enabled=True),
        recovery=RecoveryConfig(probability=0.5),
        seed=11,
    )
    return prepare(config, lambda *_: None)


def ring_for(world, slots=8):
    return Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=slots, max_reads=1))


def drained(ring, engine, timeout_s=300.0):
    """Every trajectory until the engine is exhausted and the ring empty, by the number of its scene."""
    found, deadline = {}, time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended = engine.exhausted
        try:
            with ring.sample(1, timeout_s=0.0 if ended or isinstance(engine, Engine) else 0.2) as batch:
                read = {f.name: batch[0][f.name].copy() for f in ring.spec.trajectory.fields}
        except RingTimeout:
            if ended:
                engine.check()
                return found
            engine.feed()
            continue
        number = TrajectoryId.unpack(int(read["trajectory_id"])).sequence
        assert number not in found, f"scene {number} came twice"
        found[number] = read
    raise AssertionError(f"not drained after {timeout_s} s: {engine.report}")


@pytest.mark.slow
def test_three_processes_over_six_worlds_make_of_each_number_what_a_single_loop_does(world, no_shared_memory_left):
    count = 12
    with ring_for(world) as ring, Engine(world, ring, limit=count) as engine:
        serial, account = drained(ring, engine), engine.report
    with (
        ring_for(world) as ring,
        CrewEngine(world, ring, num_worlds=6, members=3, groups=3, limit=count) as engine,
    ):
        made, report = drained(ring, engine), engine.report
        assert engine.world_steps > 0 and 0.0 < engine.tick_wait_share < 1.0 and engine.thinking_s > 0.0
    assert made.keys() == serial.keys() and len(serial) >= 8
    assert {TrajectoryId.unpack(int(t["trajectory_id"])).worker for t in made.values()} == {0, 1, 2}
    for number, trajectory in serial.items():
        for name, values in trajectory.items():
            if name not in ("trajectory_id", "info"):
                assert values.tobytes() == made[number][name].tobytes(), f"{name} of scene {number}"
        ours, theirs = (TrajectoryInfo.decode(t["info"]) for t in (trajectory, made[number]))
        assert (ours.scene_seed, ours.reason, ours.failed, ours.pushed) == (
            theirs.scene_seed,
            theirs.reason,
            theirs.failed,
            theirs.pushed,
        )
    assert (report.fates, report.reasons, report.chunks, report.recovered) == (
        account.fates,
        account.reasons,
        account.chunks,
        account.recovered,
    )
    assert any(TrajectoryInfo.decode(t["info"]).failed for t in serial.values()), "nothing was provoked: pushes were not tried"


@pytest.mark.slow
def test_two_groups_of_two_take_turns_and_the_death_of_a_member_costs_its_numbers(world, no_shared_memory_left):
    count = 24
    with (
        ring_for(world, slots=4) as ring,
        CrewEngine(world, ring, num_worlds=4, members=4, groups=2, limit=count) as engine,
    ):
        deadline = time.monotonic() + 120.0
        while engine.report.published < 2:
            engine.check()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(engine.pids[1], signal.SIGKILL)
        made, report = drained(ring, engine), engine.report
        assert ring.stats().over_reads == 0
    assert report.deaths["crash"] == 1 and 0 <= len(report.crashed) <= 2
    assert sum(report.fates.values()) + len(report.crashed) == count
    assert report.published <= len(made) <= report.published + len(report.crashed)
    assert all(np.isfinite(t["proprio"]).all() and t["rgb"].std() > 5 for t in made.values())


def test_worlds_that_cannot_be_shared_out_are_refused(world, no_shared_memory_left):
    with ring_for(world) as ring, pytest.raises(ConfigError, match="multiple"):
        CrewEngine(world, ring, num_worlds=5, members=2)
