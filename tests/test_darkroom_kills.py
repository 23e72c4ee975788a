"""A darkroom that serves several workers is killed again and again while they go on: nothing is torn, doubled, lost or left.

Without Ray, so that a death costs milliseconds and there can be hundreds: workers and darkrooms are forks of this process.
"""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from ended import has_ended

from embodichain.config import WorldConfig
from embodichain.darkroom_stage import DarkroomStage
from embodichain.errors import RingTimeout
from embodichain.physics import counting
from embodichain.prepare import prepare
from embodichain.ring.ring import Ring
from embodichain.stages import Fate, RolloutStage, SceneStage
from embodichain.types import RingSpec, TrajectoryId
from embodichain.types.reels import CameraMode, reel_spec

FORK = multiprocessing.get_context("fork")
WORKERS = 3
EDGE_S = 0.03
"""Most kills come within this time after a darkroom began: about as long as a few reels take."""


@pytest.fixture(scope="module")
def world():
    return prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12, depth=True), lambda *_: None)


def play(world, path: Path, worker: int, stop, told: Path) -> None:
    """A worker: plays its numbers until it is told to stop, and writes down what became of each."""
    ring = Ring.attach(path, reels(world), reads=False)
    stage, scenes = RolloutStage(world, ring, worker=worker, epoch=0, camera=CameraMode.DARKROOM), SceneStage(world)
    number = worker
    with told.open("w", buffering=1) as file:
        while not stop.is_set():
            try:
                produced = stage.step(number, *scenes.step(number), timeout_s=20.0)
            except RingTimeout:
                continue
            file.write(f"{number} {produced.fate.value}\n")
            number += WORKERS
    stage.close()
    ring.close()


def develop(world, reel_path: Path, path: Path, ready) -> None:
    """A darkroom: develops until it is killed."""
    rings = Ring.attach(reel_path, reels(world)), Ring.attach(path, world.stream_spec, reads=False)
    stage = DarkroomStage(world, *rings)
    ready.set()
    while True:
        try:
            stage.step(timeout_s=0.05)
        except RingTimeout:
            continue


def reels(world):
    return reel_spec(world.stream_spec, numbers=8, scene_bytes=4096)


def fork(target, *arguments):
    process = FORK.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def take(ring: Ring, found: dict, timeout_s: float) -> bool:
    """Reads one trajectory, checks every byte of it, and that its number is new; False when none comes."""
    try:
        with ring.sample(1, timeout_s=timeout_s) as batch:
            read = {field.name: batch[0][field.name].copy() for field in ring.spec.trajectory.fields}
    except RingTimeout:
        return False
    number = TrajectoryId.unpack(int(read["trajectory_id"])).sequence
    assert number not in found, f"{number} was published twice"
    counting.verify(read, robot=ROBOT[0])
    found[number] = True
    return True


ROBOT: list = []


@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_a_darkroom_killed_at_random_moments_costs_the_reel_in_its_hand(world, kills, tmp_path, no_shared_memory_left):
    ROBOT[:] = [world.robot]
    rng, found, gone = np.random.default_rng(kills), {}, []
    stop = FORK.Event()
    source = RingSpec(trajectory=reels(world), num_slots=8, max_reads=1)
    with Ring.create(source) as shot, Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=4, max_reads=1)) as ring:
        told = [tmp_path / f"{worker}.txt" for worker in range(WORKERS)]
        workers = [fork(play, world, shot.path, worker, stop, told[worker]) for worker in range(WORKERS)]
        before_last = 0
        for _ in range(kills):
            ready = FORK.Event()
            darkroom = fork(develop, world, shot.path, ring.path, ready)
            gone.append(psutil.Process(darkroom.pid))
            assert ready.wait(60.0)
            until = time.monotonic() + rng.uniform(0.0, EDGE_S) * (10.0 if rng.random() < 0.2 else 1.0)
            while time.monotonic() < until:
                take(ring, found, 0.002)
            os.kill(darkroom.pid, signal.SIGKILL)
            darkroom.join(30.0)
            before_last = len(found)
        assert all(process.is_alive() for process in workers), "workers go on"
        ready = FORK.Event()
        last = fork(develop, world, shot.path, ring.path, ready)
        gone.append(psutil.Process(last.pid))
        assert ready.wait(60.0)
        while len(found) < before_last + 20:
            assert take(ring, found, 60.0)
        stop.set()
        while any(process.is_alive() for process in workers) or shot.stats().ready or take(ring, found, 1.0):
            take(ring, found, 0.05)
        for process in workers:
            process.join(30.0)
        assert [process.exitcode for process in workers] == [0] * WORKERS
        os.kill(last.pid, signal.SIGKILL)
        last.join(30.0)
        ring.reap(), shot.reap()
        while take(ring, found, 0.1):
            pass
        for one in (ring.stats(), shot.stats()):
            assert one.over_reads == 0 and one.writing == 0 and one.ready == 0
    fates = dict(line.split() for path in told for line in path.read_text().splitlines())
    good = {int(number) for number, fate in fates.items() if fate == Fate.EXPOSED.value}
    lost = good - found.keys()
    assert found.keys() <= good
    assert len(found) > kills / 4, "trajectories went on"
    print(f"{len(found)} of {len(good)} reels came through {kills} kills, {len(lost)} were lost")
    assert len(lost) <= kills, f"{len(lost)} of {len(good)} reels were lost in {kills} kills: one in hand at most"
    assert all(has_ended(process, 10.0) for process in gone)
