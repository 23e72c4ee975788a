"""What comes through the gateway is published once, whole, and only when it fits, whoever dies on the way."""

import errno
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ring_parts import fork, is_whole, kill, put, ring_spec, start, trajectory_spec, write

from embodichain.errors import RingClosed, RingError, RingTimeout, TrajectoryForfeited
from embodichain.ring.gateway import REMEMBERED, Gateway, RemoteRing
from embodichain.ring.journal import ROOM, Kind
from embodichain.ring.ring import Ring
from embodichain.types import TrajectoryId


@pytest.fixture
def ring():
    with Ring.create(ring_spec(num_slots=4, max_reads=2)) as made:
        yield made


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal"


def named(sequence: int, *, worker: int = 3, epoch: int = 1) -> TrajectoryId:
    return TrajectoryId(worker=worker, epoch=epoch, sequence=sequence)


def made(identity: TrajectoryId):
    arrays = trajectory_spec().allocate()
    write(arrays, identity.pack())
    return arrays


def drain(ring: Ring) -> list[int]:
    ids = []
    while True:
        try:
            with ring.sample(1, 0.0) as batch:
                assert is_whole(batch[0])
                ids.append(batch[0].trajectory_id)
        except RingTimeout:
            return ids


def test_a_duplicate_is_dropped_and_other_epochs_workers_and_numbers_are_not(ring, journal):
    several = [named(5), named(6), named(5, epoch=2), named(5, worker=4)]
    with Gateway(ring, journal) as gateway:
        for identity in several:
            assert gateway.deliver(made(identity), identity, timeout_s=0.0)
            assert not gateway.deliver(made(identity), identity, timeout_s=0.0)
        assert sorted(drain(ring)) == sorted(2 * [identity.pack() for identity in several])
        assert not gateway.deliver(made(named(5)), named(5), timeout_s=0.0), "still known when long read and gone"


def test_memory_is_bounded_and_what_was_forgotten_counts_as_delivered(journal):
    with Ring.create(ring_spec(num_slots=1, max_reads=1, words=1)) as ring, Gateway(ring, journal) as gateway:
        arrays = trajectory_spec(1).allocate()
        for sequence in range(REMEMBERED + 50):
            arrays["trajectory_id"][()] = named(sequence).pack()
            assert gateway.deliver(arrays, named(sequence))
            ring.acquire(1, 0.0).release()
        for sequence in (0, 49, 50, REMEMBERED):
            arrays["trajectory_id"][()] = named(sequence).pack()
            assert not gateway.deliver(arrays, named(sequence))


def test_what_does_not_fit_the_schema_is_refused_and_nothing_is_written(ring, journal):
    identity, free = named(1), ring.stats().free
    good = made(identity)
    wrong = {
        "shape": {**good, "action": good["action"][:3]},
        "dtype": {**good, "action": good["action"].astype(np.float64)},
        "missing": {name: array for name, array in good.items() if name != "action"},
        "extra": {**good, "smell": good["action"]},
        "another identity": {**good, "trajectory_id": np.uint64(7)},
    }
    with Gateway(ring, journal) as gateway:
        for kind, arrays in wrong.items():
            with pytest.raises(RingError, match="came"):
                gateway.deliver(arrays, identity)
            assert ring.stats().free == free, kind
        assert gateway.deliver(good, identity), "refusals do not count as deliveries"


def test_a_full_ring_pushes_back_and_the_same_delivery_works_once_there_is_room(ring, journal):
    for number in range(4):
        put(ring, number)
    identity = named(9)
    with Gateway(ring, journal) as gateway:
        with pytest.raises(RingTimeout, match="readers are behind"):
            gateway.deliver(made(identity), identity, timeout_s=0.05)
        drain(ring)
        assert gateway.deliver(made(identity), identity, timeout_s=0.0)
        assert drain(ring) == 2 * [identity.pack()]


def test_a_closed_ring_ends_the_gateway(journal):
    ring = Ring.create(ring_spec())
    with Gateway(ring, journal) as gateway:
        ring.close()
        with pytest.raises(RingClosed):
            gateway.deliver(made(named(1)), named(1))


def dies(path, journal, moment: str) -> None:
    """A gateway that is killed in the middle of its second delivery."""
    ring = Ring.attach(path)
    gateway = Gateway(ring, journal)
    gateway.deliver(made(named(1)), named(1))
    note = gateway._note

    def deadly(kind, *rest) -> None:
        if kind.name == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        note(kind, *rest)
        if f"after {kind.name}" == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    gateway._note = deadly
    gateway.deliver(made(named(2)), named(2))


@pytest.mark.parametrize("moment", ["INTENT", "after INTENT", "DONE", "after DONE"])
def test_whenever_the_gateway_dies_a_retry_with_its_successor_publishes_exactly_once(ring, journal, moment):
    start(dies, ring.path, journal, moment).join()
    with Gateway(ring, journal) as successor:
        for number in (1, 2):
            successor.deliver(made(named(number)), named(number), timeout_s=60.0)
            assert not successor.deliver(made(named(number)), named(number))
    assert sorted(drain(ring)) == sorted(2 * [named(1).pack(), named(2).pack()])
    ring.reap()
    assert ring.stats().free == 4


@pytest.mark.parametrize("moment", ["after INTENT", "DONE"])
def test_when_the_slot_has_been_used_since_the_trajectory_is_forfeited_and_never_published_twice(ring, journal, moment):
    start(dies, ring.path, journal, moment).join()
    ring.reap()
    before = drain(ring)
    for number in range(20, 24):
        put(ring, number)
    drain(ring)
    for _ in range(2):  # its successor's successor knows as well
        with Gateway(ring, journal) as successor, pytest.raises(TrajectoryForfeited, match="sequence=2"):
            successor.deliver(made(named(2)), named(2))
    assert before.count(named(2).pack()) == (2 if moment == "DONE" else 0)


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


def holds(path, journal, ready) -> None:
    with Ring.attach(path) as ring, Gateway(ring, journal):
        ready.set()
        signal.pause()


def test_two_living_gateways_never_share_a_journal_and_death_hands_it_over(ring, journal):
    import multiprocessing

    ready = multiprocessing.get_context("fork").Event()
    first = start(holds, ring.path, journal, ready)
    assert ready.wait(120)
    with pytest.raises(RingTimeout, match="another process is the gateway"):
        Gateway(ring, journal, timeout_s=0.05)
    kill(first)
    Gateway(ring, journal, timeout_s=60.0).close()


def test_a_remote_ring_is_written_like_the_ring_itself(ring, journal):
    with Gateway(ring, journal) as gateway:
        remote = RemoteRing(trajectory_spec(), lambda arrays, identity, timeout_s: gateway.deliver(arrays, identity, timeout_s=0.0))
        with remote.reserve() as slot:
            write(slot, named(1).pack())
            with pytest.raises(RingError, match="still open"):
                remote.reserve()
        with pytest.raises(RingError, match="no longer ours"):
            slot["content"]
        with remote.reserve() as slot:
            write(slot, named(2).pack())
            slot.abandon()
        with pytest.raises(ZeroDivisionError), remote.reserve() as slot:
            1 / 0  # noqa: B018
        with remote.reserve() as slot:
            write(slot, named(3).pack())
    assert sorted(drain(ring)) == sorted(2 * [named(1).pack(), named(3).pack()])


def tries_to_take(path, journal, outcome) -> None:
    try:
        with Ring.attach(path) as ring, Gateway(ring, journal, timeout_s=0.05):
            outcome.put("took it")
    except RingTimeout as error:
        outcome.put(str(error))


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
            gateway._note(Kind.UNDONE, 1)
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


class Held(dict):
    """A trajectory whose fields can be looked at, and that lets itself be copied only when it may."""

    def __init__(self, arrays) -> None:
        super().__init__(arrays)
        self.looked_at: set[str] = set()
        self.copying, self.may = threading.Event(), threading.Event()

    def __getitem__(self, name):
        if name in self.looked_at and name != "trajectory_id":
            self.copying.set()
            assert self.may.wait(30.0)
        self.looked_at.add(name)
        return super().__getitem__(name)


def test_while_one_trajectory_is_copied_another_is_delivered_and_the_same_is_put_off(ring, journal):
    slow = Held(made(named(1)))
    with Gateway(ring, journal) as gateway, ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.deliver, slow, named(1))
        assert slow.copying.wait(30.0)
        try:
            assert gateway.deliver(made(named(2)), named(2), timeout_s=0.0), "at least two are at work"
            with pytest.raises(RingTimeout, match="being delivered already"):
                gateway.deliver(made(named(1)), named(1), timeout_s=0.0)
        finally:
            slow.may.set()
        assert first.result(30.0)
        assert not gateway.deliver(made(named(1)), named(1), timeout_s=0.0)
        assert sorted(drain(ring)) == sorted(2 * [named(1).pack(), named(2).pack()])


def test_many_threads_with_the_same_trajectories_publish_each_once(journal):
    with Ring.create(ring_spec(num_slots=64, max_reads=1)) as ring, Gateway(ring, journal) as gateway:

        def deliver_all(seed: int) -> int:
            delivered = 0
            for sequence in np.random.default_rng(seed).permutation(50):
                while True:
                    try:
                        delivered += gateway.deliver(made(named(int(sequence))), named(int(sequence)))
                        break
                    except RingTimeout:
                        time.sleep(0.001)
            return delivered

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(deliver_all, range(6))) == 50
        assert sorted(drain(ring)) == sorted(named(sequence).pack() for sequence in range(50))
    with Ring.create(ring_spec(num_slots=64, max_reads=1)) as ring, Gateway(ring, journal) as successor:
        assert not any(successor.deliver(made(named(sequence)), named(sequence)) for sequence in range(50)), "all of it is noted"
