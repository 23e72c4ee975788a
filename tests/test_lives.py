"""A run is one story: however often it is stopped or killed, every read behind the last weights is known and bounded."""

import dataclasses
import os
import signal
import traceback
from pathlib import Path

import numpy as np
import pytest

from embodichain.metrics import MetricsWriter
from embodichain.prepare import prepare
from embodichain.progress import Board
from embodichain.ring.ledger import Event, Ledger, load
from embodichain.ring.proof import undone, verify
from embodichain.world import World
from learner.records.run_folder import RunFolder
from learner.runs import recipes
from learner.runs.config import RunConfig
from learner.runs.session import stream_and_learn

K = 3
LIMIT = 60
"""Scenes."""


def configured(out: Path, *, snapshot_mib: int = 64, engine: str = "serial", limit: int = LIMIT) -> RunConfig:
    """A counting run that checks every byte, and at its end that each trajectory was read K times."""
    config = recipes.counting(recipes.seconds_cpu())
    ring = dataclasses.replace(config.ring, max_reads=K, num_slots=16, snapshot_mib=snapshot_mib)
    stream = dataclasses.replace(config.stream, engine=engine, limit=limit)
    train = dataclasses.replace(config.train, steps=10_000, checkpoint_every=4, verify=True)
    return dataclasses.replace(config, out=out, ring=ring, stream=stream, train=train)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return prepare(configured(tmp_path_factory.mktemp("none")).world, lambda name, done, total: None)


def live(config: RunConfig, world: World, *, steps: int | None, kill: bool, resume: bool) -> int:
    """One life in a process of its own, ended after some steps by Ctrl-C or `kill -9`, or by the stream; its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        folder = RunFolder(path=config.out)
        metrics, done = MetricsWriter(folder.metrics), [0]

        def stopped() -> bool:
            done[0] += 1
            if steps is not None and done[0] > steps and kill:
                os.kill(os.getpid(), signal.SIGKILL)
            return steps is not None and done[0] > steps

        with Board(quiet=True) as board:
            stream_and_learn(world, config, folder, metrics, board, resume=resume, stopped=stopped)
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def story(config: RunConfig, world: World, lives: int, seed: int) -> RunFolder:
    """Lives that end after a random number of steps, by signal and by `kill -9` in turns, and one that sees the stream's end."""
    rng, folder = np.random.default_rng(seed), RunFolder.create(config.out)
    for number in range(lives + 1):
        last = number == lives
        kill = number % 2 == 1  # the first leaves a checkpoint to go on from
        steps = None if last else int(rng.integers(1, 8))
        code = live(config, world, steps=steps, kill=kill, resume=number > 0)
        assert code in ((0,) if not kill or last else (0, -signal.SIGKILL)), f"life {number}"
    return folder


@pytest.mark.parametrize("lives", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_and_killed_reads_everything_exactly_k_times(tmp_path, world, lives, no_shared_memory_left):
    folder = story(configured(tmp_path / "run", limit=12 * lives), world, lives, seed=2)
    report = verify(folder.ledger)
    report.raise_on_violation()
    assert report.lives == lives + 1
    assert report.reads_histogram == {K: report.trajectories}, "each exactly K times"
    assert report.undone > 0, "some life died after its checkpoint"
    assert not report.given_up


def test_what_a_run_without_snapshots_loses_is_booked_and_never_read_too_often(tmp_path, world, no_shared_memory_left):
    folder = story(configured(tmp_path / "run", snapshot_mib=0), world, 4, seed=1)
    report = verify(folder.ledger)
    report.raise_on_violation()
    assert report.given_up, "the rings of four lives"
    assert max(report.reads_histogram) == K
    read = dict.fromkeys(report.given_up, 0)
    records, _ = load(folder.ledger)
    for packed in records["trajectory_id"][(records["event"] == Event.READ) & ~undone(records)].tolist():
        if packed in read:
            read[packed] += 1
    assert all(count + report.given_up[packed] == K for packed, count in read.items())


@pytest.mark.slow
def test_workers_and_all_a_run_is_one_story(tmp_path, world, no_shared_memory_left):
    folder = story(configured(tmp_path / "run", engine="ray"), world, 3, seed=7)
    report = verify(folder.ledger)
    report.raise_on_violation()
    assert max(report.reads_histogram) == K


def test_a_changed_ring_is_given_up_and_said_so(tmp_path, world, no_shared_memory_left):
    config = configured(tmp_path / "run")
    folder = RunFolder.create(config.out)
    assert live(config, world, steps=5, kill=False, resume=False) == 0
    other = dataclasses.replace(config, ring=dataclasses.replace(config.ring, num_slots=20))
    assert live(other, world, steps=None, kill=False, resume=True) == 0
    report = verify(folder.ledger)
    report.raise_on_violation()
    assert report.given_up


# ------------------------------------------------------------------------------------------------------------ the ledger


def test_a_read_that_was_undone_does_not_count_and_one_that_is_missing_is_named(tmp_path):
    path = tmp_path / "ledger"
    with Ledger.open(path) as ledger:
        ledger.bound(2)
        ledger.life(0, step=0)
        for step in range(6):
            ledger.record(Event.READ, 7 + step // 2, read_index=step % 2, step=step)
        ledger.life(1, step=4, parent=0)  # goes on from a checkpoint before the last two
        for step in range(4, 6):
            ledger.record(Event.READ, 9, read_index=step - 4, step=step)
    report = verify(path)
    assert report.holds
    assert (report.lives, report.undone, report.gaps, report.reads) == (2, 2, (), 6)
    with Ledger.open(path) as ledger:
        ledger.life(2, step=9, parent=1)  # the records of three iterations were lost with a machine
        ledger.record(Event.READ, 10, step=9)
    report = verify(path)
    assert report.gaps == ((6, 8),)
    assert report.faults == ["no record of iterations 6 to 8"]


def test_a_life_that_left_no_checkpoint_counts_for_nothing(tmp_path):
    path = tmp_path / "ledger"
    with Ledger.open(path) as ledger:
        ledger.bound(2)
        ledger.life(0, step=0)
        ledger.record(Event.READ, 7, step=0)
        ledger.life(1, step=1, parent=0)
        ledger.give_up({8: 2}, step=1)
        ledger.record(Event.READ, 9, step=1)
        ledger.life(2, step=1, parent=0)  # from the same checkpoint once more
        ledger.give_up({8: 2}, step=1)
        ledger.record(Event.READ, 10, step=1)
        ledger.life(3, step=2, parent=2)
        ledger.life(4, step=2, parent=3)  # the third read nothing, and yet made a checkpoint
        ledger.record(Event.READ, 10, read_index=1, step=2)
    report = verify(path)
    assert report.holds
    assert (report.lives, report.undone, report.reads, report.given_up) == (5, 1, 3, {8: 2})


def test_a_ledger_of_nothing_proves_nothing(tmp_path):
    with Ledger.open(tmp_path / "ledger") as ledger:
        ledger.bound(3)
    report = verify(tmp_path / "ledger")
    assert not report.holds
    assert "nothing was read" in report.faults[0]


def test_a_life_that_began_at_an_iteration_that_nobody_booked_leaves_a_gap(tmp_path):
    with Ledger.open(tmp_path / "ledger") as ledger:
        ledger.bound(3)
        ledger.life(1, step=12, parent=0)
        ledger.record(Event.READ, 1, step=12)
    assert verify(tmp_path / "ledger").gaps == ((0, 11),)
