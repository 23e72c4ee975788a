"""The journal of a gateway survives full disks, interrupts, deaths and successors, and forgets nothing that was delivered."""

import errno
import os
import signal
import time

import pytest
from gateway_parts import batch, drain, made, named
from interrupts import interrupt
from ring_parts import fork, kill, put, ring_spec, start, trajectory_spec

from embodichain.errors import RingError, RingTimeout
from embodichain.ring.gateway import Gateway, Parcel
from embodichain.ring.journal import ROOM, Journal, JournalRecord, RecordKind
from embodichain.ring.ring import Ring
from embodichain.types import MOST_TOGETHER


def holds(path, journal, ready) -> None:
    with Ring.attach(path) as ring, Gateway(ring, journal):
        ready.set()
        signal.pause()


def tries_to_take(path, journal, outcome) -> None:
    try:
        with Ring.attach(path) as ring, Gateway(ring, journal, timeout_s=0.05):
            outcome.put("took it")
    except RingTimeout as error:
        outcome.put(str(error))


def test_what_a_failed_record_left_behind_is_never_read_as_a_record(ring, journal, monkeypatch):
    """Two of three intents and a half are written when the disk fails; shorter records follow them later."""
    pwrite = os.pwrite

    def failing(descriptor, data, at):
        if len(data) > 80:
            return pwrite(descriptor, data[:80], at)
        raise OSError(errno.EIO, "Input/output error")

    with Gateway(ring, journal) as gateway:
        with monkeypatch.context() as patch, pytest.raises(RingError, match="Input/output error"):
            patch.setattr(os, "pwrite", failing)
            gateway.deliver_all(batch(2, 3, 4))
        gateway._journal.append(
            [JournalRecord(named(9).pack(), 0, 0, RecordKind.DONE)]
        )  # its end lies on the second of those intents
        copy = journal.with_name("copy")
        copy.write_bytes(journal.read_bytes())
    with Gateway(ring, copy) as successor:
        assert successor.deliver_all(batch(2, 3, 4)) == [True, True, True]


def test_a_batch_that_fits_no_more_is_written_into_a_trimmed_journal(journal):
    with Ring.create(ring_spec(num_slots=MOST_TOGETHER, max_reads=1, words=1)) as ring, Gateway(ring, journal) as gateway:
        arrays = [trajectory_spec(1).allocate() for _ in range(MOST_TOGETHER)]
        rounds = ROOM // MOST_TOGETHER
        for first in range(0, rounds * MOST_TOGETHER, MOST_TOGETHER):
            for number, one in enumerate(arrays):
                one["trajectory_id"][()] = named(first + number).pack()
            parcels = [Parcel(one, named(first + number)) for number, one in enumerate(arrays)]
            assert all(gateway.deliver_all(parcels))
            ring.acquire(MOST_TOGETHER, 0.0).release()
        assert journal.stat().st_size <= 32 * ROOM
        gateway.close()
        with Gateway(ring, journal) as successor:
            assert not any(successor.deliver_all(parcels))


def test_a_journal_cut_short_in_a_record_is_read_up_to_there(ring, journal):
    with Gateway(ring, journal) as gateway:
        gateway.deliver(made(named(1)), named(1))
    with journal.open("ab") as file:
        file.write(b"\1" * 11)
    for _ in range(2):
        with Gateway(ring, journal) as gateway:
            assert not gateway.deliver(made(named(1)), named(1))
            gateway.deliver(made(named(2)), named(2))
    assert sorted(drain(ring)) == sorted(2 * [named(1).pack(), named(2).pack()])


def test_two_living_gateways_never_share_a_journal_and_death_hands_it_over(ring, journal):
    import multiprocessing

    ready = multiprocessing.get_context("fork").Event()
    first = start(holds, ring.path, journal, ready)
    assert ready.wait(120)
    with pytest.raises(RingTimeout, match="another process is the gateway"):
        Gateway(ring, journal, timeout_s=0.05)
    kill(first)
    Gateway(ring, journal, timeout_s=60.0).close()


def test_a_descriptor_closed_elsewhere_does_not_give_the_journal_away(ring, journal):
    with Gateway(ring, journal) as first:
        first.deliver(made(named(1)), named(1))
        os.close(os.open(journal, os.O_RDWR))  # to a POSIX lock this would be the end
        journal.read_bytes()
        Ring.create(ring_spec(num_slots=1)).close()
        outcome = fork.Queue()
        start(tries_to_take, ring.path, journal, outcome).join()
        assert "another process is the gateway" in outcome.get(timeout=120)


@pytest.mark.parametrize("record", [0, 1], ids=["before publishing", "after publishing"])
@pytest.mark.parametrize("written", [0, 11], ids=["nothing", "a part"])
def test_a_journal_that_cannot_be_written_never_lets_a_trajectory_in_twice(ring, journal, monkeypatch, record, written):
    """A disk that fails at the intent or at the outcome, after a part of the record or none of it."""
    pwrite, calls = os.pwrite, []

    def failing(descriptor, data, at):
        calls.append(at)
        if len(calls) == record + 1 and written:
            return pwrite(descriptor, data[:written], at)
        if len(calls) > record:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data, at)

    with Gateway(ring, journal) as gateway:
        gateway.deliver(made(named(1)), named(1))
        monkeypatch.setattr(os, "pwrite", failing)
        if record == 0:
            with pytest.raises(RingError, match="cannot write the journal"):
                gateway.deliver(made(named(2)), named(2))
            assert ring.stats().ready == 1, "nothing is published that cannot be noted"
        else:
            assert gateway.deliver(made(named(2)), named(2))
            assert not gateway.deliver(made(named(2)), named(2))
            with pytest.raises(RingError, match="cannot write the journal"):
                gateway.deliver(made(named(3)), named(3))
        monkeypatch.undo()
        if record == 1:  # as its author's death would leave it now: the slot itself tells
            copy = journal.with_name("copy")
            copy.write_bytes(journal.read_bytes())
            with Gateway(ring, copy) as successor:
                assert not successor.deliver(made(named(2)), named(2))
        assert gateway.deliver(made(named(2)), named(2)) == (record == 0)
        assert gateway.deliver(made(named(3)), named(3))
    with Gateway(ring, journal) as successor:
        for number in (1, 2, 3):
            assert not successor.deliver(made(named(number)), named(number))
    assert sorted(drain(ring)) == sorted(2 * [named(number).pack() for number in (1, 2, 3)])


def test_a_journal_is_trimmed_and_read_again_at_once_after_many_trajectories(journal):
    many = 3 * ROOM
    arrays = trajectory_spec(1).allocate()

    def deliver(gateway, sequence):
        identity = named(sequence // 4, worker=sequence % 4)
        arrays["trajectory_id"][()] = identity.pack()
        return gateway.deliver(arrays, identity)

    with Ring.create(ring_spec(num_slots=1, max_reads=1, words=1)) as ring:
        with Gateway(ring, journal) as gateway:
            for sequence in range(many):
                assert deliver(gateway, sequence)
                ring.acquire(1, 0.0).release()
        assert journal.stat().st_size <= 2 * 32 * ROOM
        begin = time.process_time()
        with Gateway(ring, journal) as successor:
            assert time.process_time() - begin < 1.0
            assert not any(deliver(successor, sequence) for sequence in (0, 1, many // 2, many - 1))


def test_a_journal_for_which_there_is_no_room_is_refused_at_once_and_when_it_is_to_be_trimmed(ring, journal, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RingError, match=r"no room for [\d,]+ bytes of the journal"):
        patch.setattr(os, "posix_fallocate", full)
        Gateway(ring, journal)
    with Gateway(ring, journal) as gateway:
        while gateway._journal.room >= 2:
            gateway._journal.append([JournalRecord(1, 0, 0, RecordKind.UNDONE)])
        with monkeypatch.context() as patch, pytest.raises(RingError, match="no room"):
            patch.setattr(os, "posix_fallocate", full)
            gateway.deliver(made(named(1)), named(1))
        assert ring.stats().free == 4
        assert gateway.deliver(made(named(1)), named(1))
        start(tries_to_take, ring.path, journal, outcome := fork.Queue()).join()
        assert "another process is the gateway" in outcome.get(timeout=120), "the trimmed one is locked as well"
    assert not list(journal.parent.glob("*.unfinished"))
    with Gateway(ring, journal) as successor:
        assert not successor.deliver(made(named(1)), named(1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_wherever_trimming_is_interrupted_one_gateway_has_the_journal_and_all_of_its_records(tmp_path):
    known = [JournalRecord(number, 0, 0, RecordKind.DONE) for number in range(50)]
    for at in range(1, 500):
        path = tmp_path / str(at)
        journal = Journal(path, timeout_s=0.0)
        journal.append(known)
        where = interrupt(lambda journal=journal: journal.trim(known), at)
        with pytest.raises(RingTimeout, match="another process is the gateway"):
            Journal(path, timeout_s=0.0)
        journal.append([JournalRecord(99, 0, 0, RecordKind.DONE)])
        journal.close()
        reopened = Journal(path, timeout_s=0.0)
        assert reopened.records == [*known, JournalRecord(99, 0, 0, RecordKind.DONE)], where
        reopened.close()
        if not where:
            break
    assert at > 10


def test_a_trimmed_journal_is_whole_though_the_disk_takes_it_in_pieces(journal, monkeypatch):
    pwrite, known = os.pwrite, [JournalRecord(number, 0, 0, RecordKind.DONE) for number in range(100)]
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: pwrite(descriptor, data[:333], at))
    opened = Journal(journal, timeout_s=0.0)
    opened.trim(known)
    opened.close()
    assert Journal(journal, timeout_s=0.0).records == known


def test_the_journal_of_an_earlier_ring_at_the_same_path_is_begun_anew(journal, tmp_path):
    for _ in range(2):
        with Ring.create(ring_spec(num_slots=4, max_reads=1), tmp_path / "ring") as ring, Gateway(ring, journal) as gateway:
            assert gateway.deliver_all(batch(1, 2)) == [True, True], "nothing of this run was delivered before"


def test_a_closed_gateway_refuses_and_leaves_its_successors_journal_alone(ring, journal):
    first = Gateway(ring, journal)
    first.close()
    with Gateway(ring, journal) as successor:
        assert successor.deliver(made(named(1)), named(1))
        with pytest.raises(RingError, match="was closed by this process"):
            first.deliver(made(named(2)), named(2))
        with pytest.raises(RingError, match="was closed by this process"):
            first._journal.trim([])
    with Gateway(ring, journal) as another:
        assert not another.deliver(made(named(1)), named(1))
    assert ring.stats().free == 3


def test_a_gateway_takes_over_on_a_full_disk_with_the_room_that_was_reserved(ring, journal, monkeypatch):
    with Gateway(ring, journal) as gateway:
        for _ in range(ROOM // 2):
            gateway._journal.append([JournalRecord(1, 0, 0, RecordKind.UNDONE)])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with Gateway(ring, journal) as successor:
        assert successor.deliver(made(named(1)), named(1))


def test_an_intent_that_was_refused_by_the_disk_forfeits_nothing(ring, journal, monkeypatch):
    pwrite, calls = os.pwrite, []

    def failing(descriptor, data, at):
        calls.append(at)
        if len(calls) == 1:
            return pwrite(descriptor, data[:40], at)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data, at)

    gateway = Gateway(ring, journal)
    with monkeypatch.context() as patch, pytest.raises(RingError, match="No space left"):
        patch.setattr(os, "pwrite", failing)
        gateway.deliver(made(named(1)), named(1))
    copy = journal.with_name("copy")
    copy.write_bytes(journal.read_bytes())  # as its author's death would leave it
    gateway.close()
    for number in range(20, 24):
        put(ring, number)
    drain(ring)
    with Gateway(ring, copy) as successor:
        assert successor.deliver(made(named(1)), named(1))
