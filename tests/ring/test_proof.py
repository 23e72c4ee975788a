"""The proof judges every read by the bound of the process that made it, over all processes of a run."""

import pytest

from embodichain.ring.ledger import Event, Ledger
from embodichain.ring.proof import ledgers, verify


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.bin"


def read(ledger: Ledger, trajectory: int, first: int, count: int, *, step: int) -> None:
    for index in range(first, first + count):
        ledger.record(Event.READ, trajectory, read_index=index, step=step, pairs=16)


def begin(ledger: Ledger, epoch: int, bound: int, *, step: int, parent: int | None = None) -> None:
    ledger.bound(bound)
    ledger.life(epoch, step=step, parent=parent)


def test_a_larger_bound_of_a_later_life_hides_no_earlier_violation(path):
    with Ledger.open(path) as ledger:
        begin(ledger, 0, 2, step=0)
        read(ledger, 7, 0, 5, step=0)
        begin(ledger, 1, 10, step=1, parent=0)
        read(ledger, 8, 0, 10, step=1)
    report = verify(path)
    assert report.violations == {7: 5} and not report.holds
    assert report.bounds == (2, 10) and report.max_reads == 10
    assert verify(path, max_reads=10).holds, "unless one asks by another bound"


def test_reads_of_several_lives_add_up_and_each_is_judged_by_its_own(path):
    with Ledger.open(path) as ledger:
        begin(ledger, 0, 2, step=0)
        read(ledger, 7, 0, 2, step=0)
        begin(ledger, 1, 4, step=1, parent=0)
        read(ledger, 7, 2, 2, step=1)
    assert verify(path).holds
    with Ledger.open(path) as ledger:
        begin(ledger, 2, 3, step=2, parent=1)
        read(ledger, 8, 0, 3, step=2)
    assert verify(path).holds, "a smaller bound condemns no earlier read"
    with Ledger.open(path) as ledger:
        read(ledger, 7, 4, 1, step=2)
    assert verify(path).violations == {7: 5}


def test_a_life_without_a_bound_of_single_trajectories_is_not_judged_and_judges_nobody(path):
    with Ledger.open(path) as ledger:
        begin(ledger, 0, 2, step=0)
        read(ledger, 7, 0, 2, step=0)
        begin(ledger, 1, 0, step=1, parent=0)
        read(ledger, 9, 0, 30, step=1)
    assert verify(path).holds
    with Ledger.open(path) as ledger:
        begin(ledger, 2, 2, step=2, parent=1)
        read(ledger, 7, 2, 1, step=2)
    assert verify(path).violations == {7: 3}


def test_a_bound_that_is_changed_while_it_is_read_holds_for_the_whole_life(path):
    """Two processes write: the reads of one may come before the change that allowed them, as it wrote first."""
    with Ledger.open(path) as ledger:
        begin(ledger, 0, 2, step=0)
        read(ledger, 7, 0, 4, step=0)
        ledger.bound(4)
    assert verify(path).holds


def test_what_an_undone_life_was_allowed_counts_for_nobody(path):
    with Ledger.open(path) as ledger:
        begin(ledger, 0, 2, step=0)
        read(ledger, 7, 0, 3, step=0)
        begin(ledger, 1, 50, step=1, parent=0)
        read(ledger, 8, 0, 50, step=1)
        begin(ledger, 2, 2, step=1, parent=0)
        read(ledger, 9, 0, 2, step=1)
    report = verify(path)
    assert report.violations == {7: 3} and report.max_reads == 2 and report.undone == 50


def test_the_reads_of_a_trajectory_count_together_in_whichever_ring_of_a_run_they_were(tmp_path):
    first, second = tmp_path / "ledger.bin", tmp_path / "ledger-1.bin"
    for number, book in enumerate((first, second)):
        with Ledger.open(book) as ledger:
            begin(ledger, 0, 3, step=0)
            read(ledger, 10 + number, 0, 3, step=0)
            read(ledger, 7, 0, 2, step=number)
    assert ledgers(tmp_path) == (first, second)
    assert verify(first).holds and not verify(second).gaps
    report = verify(first, beside=[second])
    assert report.violations == {7: 4} and report.duplicates == 2
    assert (report.reads, report.trajectories, report.iterations, report.lives) == (10, 3, 2, 1)


def test_each_ring_undoes_the_reads_after_the_checkpoint_that_its_next_life_goes_on_from(tmp_path):
    first, second = tmp_path / "ledger.bin", tmp_path / "ledger-1.bin"
    for number, book in enumerate((first, second)):
        with Ledger.open(book) as ledger:
            begin(ledger, number, 2, step=0)
            read(ledger, 20 + number, 0, 1, step=0)
            read(ledger, 20 + number, 1, 1, step=1)
    with Ledger.open(first) as ledger:
        begin(ledger, 2, 2, step=1, parent=0)
        read(ledger, 20, 1, 1, step=1)
    assert verify(first, beside=[second]).undone == 1, "of the second ring nothing says yet that it went on from elsewhere"
    with Ledger.open(second) as ledger:
        ledger.life(2, step=1, parent=1)
        ledger.give_up({21: 1}, step=1)
    report = verify(first, beside=[second])
    assert (report.undone, report.lives, dict(report.given_up)) == (2, 2, {21: 1})
    assert report.reads_histogram == {1: 1, 2: 1} and report.holds
