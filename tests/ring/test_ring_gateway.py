"""What comes through the gateway is published once, whole, and only when it fits, whoever dies on the way."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gateway_parts import batch, drain, made, named
from interrupts import interrupt
from ring_parts import put, ring_spec, start, trajectory_spec, write

from embodichain.errors import RingClosed, RingError, RingTimeout, TrajectoryForfeited
from embodichain.ring.delivered import REMEMBERED
from embodichain.ring.gateway import Gateway, Parcel
from embodichain.ring.journal import RecordKind
from embodichain.ring.lease import Slot
from embodichain.ring.remote import RemoteRing
from embodichain.ring.ring import Ring
from embodichain.types import MOST_TOGETHER


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


def dies(path, journal, moment: str, numbers) -> None:
    """A gateway that is killed in the middle of its second delivery, of these numbers, or between the first two of them."""
    ring = Ring.attach(path)
    gateway = Gateway(ring, journal)
    gateway.deliver(made(named(1)), named(1))
    append, publish = gateway._journal.append, Slot.publish

    def deadly(records) -> None:
        kind = RecordKind(records[0].kind).name
        if kind == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        append(records)
        if f"after {kind}" == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def publishes(slot, timeout_s) -> None:
        publish(slot, timeout_s)
        if moment == "after publishing one":
            os.kill(os.getpid(), signal.SIGKILL)

    gateway._journal.append, Slot.publish = deadly, publishes
    gateway.deliver_all(batch(*numbers))


def death(process) -> int:
    process.join()
    return process.exitcode


@pytest.mark.parametrize("numbers", [(2,), (2, 3, 4)], ids=["one", "a batch"])
@pytest.mark.parametrize("moment", ["INTENT", "after INTENT", "after publishing one", "DONE", "after DONE"])
def test_whenever_the_gateway_dies_a_retry_with_its_successor_publishes_exactly_once(ring, journal, moment, numbers):
    assert death(start(dies, ring.path, journal, moment, numbers)) == -signal.SIGKILL
    with Gateway(ring, journal) as successor:
        for number in (1, *numbers):
            successor.deliver(made(named(number)), named(number), timeout_s=60.0)
            assert not successor.deliver(made(named(number)), named(number))
    assert sorted(drain(ring)) == sorted(2 * [named(number).pack() for number in (1, *numbers)])
    ring.reap()
    assert ring.stats().free == 4


def test_a_batch_is_delivered_as_far_as_there_is_room_and_the_rest_when_it_comes_again(ring, journal):
    sent = batch(1, 2, 3, 4, 5, 6)
    with Gateway(ring, journal) as gateway:
        assert gateway.deliver(made(named(2)), named(2))
        outcomes = gateway.deliver_all(sent, timeout_s=0.0)
        assert outcomes[:4] == [True, False, True, True]
        assert all(isinstance(outcome, RingTimeout) and "readers are behind" in str(outcome) for outcome in outcomes[4:])
        assert sorted(drain(ring)) == sorted(2 * [named(number).pack() for number in (1, 2, 3, 4)])
        assert gateway.deliver_all(sent, timeout_s=0.0) == [False, False, False, False, True, True]
        assert sorted(drain(ring)) == sorted(2 * [named(number).pack() for number in (5, 6)])
    assert ring.stats().free == 4


def test_in_a_batch_each_has_an_outcome_of_its_own(ring, journal):
    wrong = Parcel({**made(named(2)), "trajectory_id": np.array(7, np.uint64)}, named(2))
    with Gateway(ring, journal) as gateway:
        first, refused, third, twice = gateway.deliver_all([*batch(1), wrong, *batch(3, 3)])
        assert (first, third) == (True, True)
        assert isinstance(refused, RingError) and "came as" in str(refused)
        assert isinstance(twice, RingTimeout), "the same is being delivered already"
        assert gateway.deliver_all([]) == []
        with pytest.raises(RingError, match=f"{MOST_TOGETHER + 1} trajectories came in one batch: send at most {MOST_TOGETHER}"):
            gateway.deliver_all(batch(1) * (MOST_TOGETHER + 1))
    assert sorted(drain(ring)) == sorted(2 * [named(1).pack(), named(3).pack()])


@pytest.mark.parametrize("moment", ["after INTENT", "DONE"])
def test_when_the_slot_has_been_used_since_the_trajectory_is_forfeited_and_never_published_twice(ring, journal, moment):
    assert death(start(dies, ring.path, journal, moment, (2,))) == -signal.SIGKILL
    ring.reap()
    before = drain(ring)
    for number in range(20, 24):
        put(ring, number)
    drain(ring)
    for _ in range(2):  # its successor's successor knows as well
        with Gateway(ring, journal) as successor, pytest.raises(TrajectoryForfeited, match="sequence=2"):
            successor.deliver(made(named(2)), named(2))
    assert before.count(named(2).pack()) == (2 if moment == "DONE" else 0)


def test_a_remote_ring_is_written_like_the_ring_itself(ring, journal):
    with Gateway(ring, journal) as gateway:
        remote = RemoteRing(trajectory_spec(), lambda parcels, timeout_s: gateway.deliver_all(parcels, timeout_s=0.0))
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


def test_a_remote_ring_keeps_a_batch_until_it_is_flushed_and_says_what_became_of_it(ring, journal):
    with Gateway(ring, journal) as gateway:
        calls = []

        def deliver(parcels, timeout_s):
            calls.append(len(parcels))
            return gateway.deliver_all(parcels, timeout_s=0.0)

        remote = RemoteRing(trajectory_spec(), deliver, together=3)
        for first in (1, 4):
            for number in range(first, first + 3):
                with remote.reserve() as slot:
                    write(slot, named(number).pack())
            with pytest.raises(RingError, match=r"3 trajectories wait to be sent.*call flush\(\)"):
                remote.reserve()
            lost = remote.flush()
        assert calls == [3, 3] and not remote.flush()
        assert set(lost) == {named(5), named(6)} and all(isinstance(error, RingTimeout) for error in lost.values())
        with pytest.raises(RingError, match=f"together must be 1 to {MOST_TOGETHER} trajectories, got 0"):
            RemoteRing(trajectory_spec(), deliver, together=0)
    assert sorted(drain(ring)) == sorted(2 * [named(number).pack() for number in (1, 2, 3, 4)])


def test_wherever_a_delivery_is_interrupted_it_is_published_at_most_once_and_may_be_sent_again(journal):
    numbers = iter(range(10_000))
    with Ring.create(ring_spec(num_slots=8, max_reads=1, words=1)) as ring, Gateway(ring, journal) as gateway:
        for at in range(1, 2000):
            sent = batch_of_one_word(next(numbers), next(numbers))
            where = interrupt(lambda sent=sent: gateway.deliver_all(sent), at)
            again = gateway.deliver_all(sent, timeout_s=0.0)
            assert set(map(type, again)) == {bool}, (where, again)
            assert sorted(drain_ids(ring)) == sorted(parcel.identity.pack() for parcel in sent), where
            if not where:
                break
        assert at > 100
        gateway.close()
        with Gateway(ring, journal) as successor:
            assert not any(successor.deliver_all(sent))


def batch_of_one_word(*numbers: int) -> list[Parcel]:
    parcels = [Parcel(trajectory_spec(1).allocate(), named(number)) for number in numbers]
    for parcel in parcels:
        parcel.arrays["trajectory_id"][()] = parcel.identity.pack()
    return parcels


def drain_ids(ring: Ring) -> list[int]:
    ids: list[int] = []
    while ring.stats().ready:
        with ring.acquire(1, 0.0) as lease:
            ids += map(int, lease.trajectory_ids)
    return ids


def test_what_is_no_array_is_refused_and_the_others_of_its_batch_are_not(ring, journal):
    wrong = Parcel({**made(named(2)), "action": [1.0, 2.0]}, named(2))
    with Gateway(ring, journal) as gateway:
        first, refused = gateway.deliver_all([*batch(1), wrong])
        assert first is True and "field 'action' came as list" in str(refused)
        assert gateway.deliver_all(batch(1, 2)) == [False, True]


def test_a_slot_of_a_remote_ring_that_was_dropped_is_free_again(ring, journal):
    with Gateway(ring, journal) as gateway:
        remote = RemoteRing(trajectory_spec(), lambda parcels, timeout_s: gateway.deliver_all(parcels, timeout_s=0.0))
        remote.reserve()  # nobody keeps it
        with remote.reserve() as slot:
            write(slot, named(1).pack())
    assert drain(ring) == 2 * [named(1).pack()]


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
        gateway.close()
        with Gateway(ring, journal) as successor:
            again = [successor.deliver(made(named(sequence)), named(sequence)) for sequence in range(50)]
        assert not any(again), "all of it is noted"
