"""The same stages give the same trajectories wherever they run, and survive the death of a worker."""

import contextlib
import dataclasses
import os
import signal
import time

import numpy as np
import psutil
import pytest

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.engine import Engine
from embodichain.errors import RingTimeout
from embodichain.physics import counting
from embodichain.prepare import prepare
from embodichain.ray_engine import RayConfig, RayEngine
from embodichain.recovery.config import RecoveryConfig
from embodichain.ring.ring import Ring
from embodichain.ring.stats import Observer
from embodichain.stages import Fate, RolloutStage, SceneStage
from embodichain.types import RingSpec, TrajectoryId, TrajectoryInfo
from embodichain.world import Split, World, scene_seed

pytestmark = pytest.mark.usefixtures("one_ray")


def quiet(name: str, done: int, total: int) -> None:
    """No progress bars in tests."""


@pytest.fixture(scope="module")
def counting_world() -> World:
    return prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12), quiet)


@pytest.fixture(scope="module")
def switch_world() -> World:
    assets = AssetsConfig(counts={"switch": 1})
    return prepare(WorldConfig(tasks=("turn_switch",), assets=assets, recovery=RecoveryConfig(probability=0.5), seed=5), quiet)


def ring_for(world: World, *, slots: int = 8, reads: int = 1) -> Ring:
    return Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=slots, max_reads=reads))


def drain(ring: Ring, engine: RayEngine | Engine, timeout_s: float = 300.0) -> list[dict[str, np.ndarray]]:
    """Copies of every trajectory read until the engine is exhausted and the ring is empty."""
    read: list[dict[str, np.ndarray]] = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended = engine.exhausted
        try:
            with ring.sample(1, timeout_s=0.0 if ended or isinstance(engine, Engine) else 0.2) as batch:
                read.append({f.name: batch[0][f.name].copy() for f in ring.spec.trajectory.fields})
        except RingTimeout:
            if ended:
                return read
            engine.feed()
    raise AssertionError(f"not drained after {timeout_s} s: {engine.report}")


def children() -> set[str]:
    """Names of the processes that this one has started, and they."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(process.cmdline()[:1])
    return found


def by_number(trajectories: list[dict[str, np.ndarray]]) -> dict[int, dict[str, np.ndarray]]:
    return {TrajectoryId.unpack(int(t["trajectory_id"])).sequence: t for t in trajectories}


def test_streamed_and_held_out_scenes_share_no_seed():
    stream = {scene_seed(3, Split.STREAM, n) for n in range(2000)}
    held_out = {scene_seed(3, Split.HELD_OUT, n) for n in range(2000)}
    assert len(stream) == len(held_out) == 2000
    assert not stream & held_out


def test_same_seed_same_trajectory_in_the_serial_engine_and_in_any_worker(switch_world, no_shared_memory_left):
    count = 5
    with ring_for(switch_world) as ring, Engine(switch_world, ring, limit=count) as engine:
        serial = by_number(drain(ring, engine))
    with (
        ring_for(switch_world) as ring,
        RayEngine(switch_world, ring, RayConfig(workers=2), limit=count) as engine,
    ):
        parallel = by_number(drain(ring, engine))
    assert set(serial) == set(parallel)
    assert len(serial) >= 4
    assert {TrajectoryId.unpack(int(t["trajectory_id"])).worker for t in parallel.values()} == {0, 1}
    for number, trajectory in serial.items():
        for name, values in trajectory.items():
            if name not in ("trajectory_id", "info"):
                assert np.array_equal(values, parallel[number][name]), f"{name} of scene {number}"
        infos = [TrajectoryInfo.decode(t["info"]) for t in (trajectory, parallel[number])]
        assert dataclasses.replace(infos[0], worker=0) == dataclasses.replace(infos[1], worker=0)


def test_stored_actions_replay_the_episode_bitwise(switch_world):
    task, scene = SceneStage(switch_world).step(0)
    physics = switch_world.make_physics()
    with ring_for(switch_world) as ring:
        stage = RolloutStage(switch_world, ring, worker=0, epoch=0)
        out = switch_world.trajectory_spec.allocate()
        outcome = stage.play(task, scene, out)
        codec = stage.codec
        state = physics.reset(scene)
        for chunk in range(outcome.num_chunks):
            assert np.array_equal(codec.encode(state.measured), out["proprio"][chunk])
            for action in out["action"][chunk]:
                state = physics.step(codec.decode(action))
        assert np.array_equal(codec.encode(state.measured), out["proprio"][outcome.num_chunks])
        stage.close()
    physics.close()


def test_a_killed_worker_is_replaced_and_counted_and_nothing_is_torn(counting_world, no_shared_memory_left):
    limit = 60
    with (
        ring_for(counting_world, slots=4, reads=2) as ring,
        RayEngine(counting_world, ring, RayConfig(workers=2), limit=limit) as engine,
    ):
        while engine.report.published < 3:  # both are at work and the ring is full
            engine.check()
            time.sleep(0.02)
        os.kill(engine.pids[0], signal.SIGKILL)
        known, observer = {os.getpid(), *engine.pids}, Observer.open(ring.path)
        deadline = time.monotonic() + 300.0
        while {view.identity.pid for view in observer.participants()} <= known:  # the ring stays full until its heir is there
            engine.check()
            assert time.monotonic() < deadline, "nobody came in its place"
            time.sleep(0.02)
        read = drain(ring, engine)
        for trajectory in read:
            counting.verify(trajectory, robot=counting_world.robot)
        report = engine.report
        assert ring.stats().over_reads == 0
    assert len(report.crashed) == 1
    assert sum(report.fates.values()) + len(report.crashed) == limit
    reads = [int(t["trajectory_id"]) for t in read]
    assert sorted(reads) == sorted(2 * list(set(reads)))
    assert len(set(reads)) in (report.published, report.published + 1)  # the dead one may have published before it could say so
    assert {TrajectoryId.unpack(packed).epoch for packed in reads} == {0, 1}


def test_the_set_of_scenes_does_not_depend_on_the_number_of_workers(counting_world):
    numbers = []
    for workers in (1, 3):
        with (
            ring_for(counting_world) as ring,
            RayEngine(counting_world, ring, RayConfig(workers=workers), limit=20) as engine,
        ):
            numbers.append(set(by_number(drain(ring, engine))))
            assert "ray::IDLE" not in children(), "Ray starts nobody for later"
    assert numbers[0] == numbers[1]


def test_a_rejected_episode_never_reaches_the_ring(counting_world):
    with ring_for(counting_world) as ring, Engine(counting_world, ring, limit=64) as engine:
        read = drain(ring, engine)
        assert engine.report.fates[Fate.REJECTED] > 0
        assert all(TrajectoryInfo.decode(t["info"]).success for t in read)
        assert len(read) == engine.report.published
        assert ring.stats().free == ring.spec.num_slots
