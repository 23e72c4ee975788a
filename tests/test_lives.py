"""A run is one story: however often it is stopped or killed, every read behind the last weights is known and bounded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lives_parts import K

from embodichain.ring.ledger import Event, Ledger, load
from embodichain.ring.proof import LedgerReport, undone, verify
from embodichain.types import Field, RingSpec, TrajectoryId, TrajectorySpec
from learner.records.run_folder import RunFolder
from learner.runs.lives import Life, begin


def story(out: Path, lives: int, seed: int, **settings) -> Path:
    """Tells a story of so many lives in a fresh process; its ledger."""
    script = Path(__file__).with_name("lives_parts.py")
    words = json.dumps({"out": str(out), "lives": lives, "seed": seed, **settings})
    done = subprocess.run([sys.executable, str(script), words], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    return out / "ledger.bin"


_LONG = [pytest.param(lives, ahead, marks=pytest.mark.slow) for lives, ahead in ((5, 0), (20, 2))]


@pytest.mark.parametrize(("lives", "ahead"), [(5, 2), *_LONG])
def test_a_run_that_is_stopped_and_killed_reads_everything_exactly_k_times(tmp_path, lives, ahead, no_shared_memory_left):
    """Whether or not batches are under way when it ends."""
    report = verify(story(tmp_path / "run", lives, 2, limit=12 * lives, ahead=ahead))
    report.raise_on_violation()
    assert report.lives == lives + 1
    assert report.reads_histogram == {K: report.trajectories}, "each exactly K times"
    assert report.undone > 0, "some life died after its checkpoint"
    assert not report.given_up


def test_what_a_run_without_snapshots_loses_is_booked_and_never_read_too_often(tmp_path, no_shared_memory_left):
    ledger = story(tmp_path / "run", 2, 1, limit=30, snapshot_mib=0)
    report = verify(ledger)
    report.raise_on_violation()
    assert report.given_up, "the rings of both lives"
    assert max(report.reads_histogram) == K
    read = dict.fromkeys(report.given_up, 0)
    records, _ = load(ledger)
    for packed in records["trajectory_id"][(records["event"] == Event.READ) & ~undone(records)].tolist():
        if packed in read:
            read[packed] += 1
    assert all(count + report.given_up[packed] == K for packed, count in read.items())


@pytest.mark.slow
def test_workers_and_all_a_run_is_one_story(tmp_path, no_shared_memory_left):
    report = verify(story(tmp_path / "run", 3, 7, engine="ray"))
    report.raise_on_violation()
    assert max(report.reads_histogram) == K


@pytest.mark.slow
def test_a_changed_ring_is_given_up_and_said_so(tmp_path, no_shared_memory_left):
    report = verify(story(tmp_path / "run", 1, 1, last_slots=20))
    report.raise_on_violation()
    assert report.given_up


@pytest.mark.slow
@pytest.mark.parametrize("reads", [2, 5])
def test_a_resumed_run_with_another_bound_keeps_its_ring_and_is_judged_by_both(tmp_path, reads, no_shared_memory_left):
    report = verify(story(tmp_path / "run", 1, 3, limit=40, last_reads=reads))
    report.raise_on_violation()
    assert not report.given_up and report.bounds == tuple(sorted((K, reads)))
    assert reads in report.reads_histogram and set(report.reads_histogram) <= {K, reads} | set(range(1, K))


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


def _undone_after(tmp_path, lives: int, *, before: bool) -> tuple[list[Life], LedgerReport]:
    """A run of so many lives with a checkpoint each, then one that read and left none, and its sibling from the same checkpoint.

    `before`: what was written as versions did that named a life by its first epoch.
    """
    spec = RingSpec(
        trajectory=TrajectorySpec(horizon=1, fields=(Field(name="x", shape=(1,), dtype="float32"),)), num_slots=2, max_reads=2
    )
    folder, begun = RunFolder(path=tmp_path), []
    with Ledger.open(folder.ledger) as ledger:
        ledger.bound(0)
        for number in range(lives):
            epoch, parent = min(number, 255), max(0, number - 1)
            if before:
                ledger.record(Event.LIFE, epoch, step=number, pairs=parent + 1 if number else 0)
            else:
                ledger.life(number, step=number, parent=parent if number else None, epoch=epoch)
            ledger.record(Event.READ, TrajectoryId(worker=0, epoch=epoch, sequence=number).pack(), step=number)
        ledger.flush()
        for last in range(2):
            state = {"leases": lives, **({"epoch": lives - 1} if before else {"life": lives - 1})}
            life = begin(spec, "host", folder, state)
            life.ring.close()
            begun.append(life)
            life.book(ledger)
            for sequence in range(3 - last):
                packed = TrajectoryId(worker=0, epoch=life.start.epoch, sequence=1000 + sequence).pack()
                ledger.record(Event.READ, packed, step=lives + sequence)
            ledger.flush()
    return begun, verify(folder.ledger)


@pytest.mark.parametrize(("lives", "before"), [(2, True), (256, True), (2, False), (256, False), (300, False)])
def test_a_life_is_told_from_its_sibling_after_any_number_of_lives(tmp_path, lives, before):
    begun, report = _undone_after(tmp_path, lives, before=before)
    assert [(life.number, life.parent) for life in begun] == [(lives, lives - 1), (lives + 1, lives - 1)]
    assert begun[0].start.epoch != begun[1].start.epoch, "the trajectories of both differ"
    assert (report.lives, report.undone, report.reads) == (lives + 2, 3, lives + 2)
    assert not report.faults


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
