"""A copy of what a ring hands out holds nothing: whatever can be copied or pickled is worth as much as the original, or refuses."""

import copy
import inspect
import os
import pickle
import signal
from contextlib import ExitStack

import pytest
from ring_parts import put, ring_spec, trajectory_spec

from embodichain import ring as public
from embodichain.errors import RingError
from embodichain.ring import Event, Ledger, Observer, Ring, verify
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.gateway import Gateway
from embodichain.ring.journal import Journal
from embodichain.ring.ledger import HEADER, RECORD, last_step, load
from embodichain.ring.remote import RemoteRing

WAYS = {"copy": copy.copy, "deep copy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}
PLAIN = ("RingStats", "LedgerReport", "Event")


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """One of everything that the ring hands out, by the name of its class."""
    folder = tmp_path_factory.mktemp("copies")
    with ExitStack() as stack:
        ring = stack.enter_context(Ring.create(ring_spec(num_slots=4, max_reads=9)))
        device_ring = stack.enter_context(DeviceRing.create(ring_spec(num_slots=4, max_reads=9), DelayedDevice()))
        ledger = stack.enter_context(Ledger.open(folder / "ledger"))
        ledger.bound(1)
        ledger.flush()
        made = [ring, device_ring, ledger, verify(folder / "ledger"), Event.READ, ring.stats(), Observer.open(ring.path)]
        for each in (ring, device_ring):
            put(each, 1, timeout_s=1.0)
            lease = stack.enter_context(each.acquire(1, 1.0))
            made += [lease, lease[0], each.reserve(1.0)]
        remote = RemoteRing(trajectory_spec(), lambda parcels, timeout_s: [True for _ in parcels])
        made += [remote, Gateway(ring, folder / "journal"), Journal(folder / "other", timeout_s=1.0)]
        yield {type(thing).__name__: thing for thing in made}
        for slot in (made[9], made[12]):
            slot.abandon()


def test_everything_public_is_looked_at(things):
    classes = [getattr(public, name) for name in public.__all__ if inspect.isclass(getattr(public, name))]
    real = {kind.__name__ for kind in classes if not inspect.isabstract(kind) and not getattr(kind, "_is_protocol", False)}
    assert real <= things.keys()


NAMES = ("Ledger", "Observer", "Lease", "Sample", "Slot", "DeviceLease", "DeviceSample", "DeviceSlot")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*NAMES, "RemoteRing", "Gateway", "Journal"])
def test_what_exists_once_refuses_to_be_copied_and_says_what_to_do(things, name, way):
    with pytest.raises(RingError, match=f"a {name} can be neither copied nor pickled: [a-z]"):
        WAYS[way](things[name])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PLAIN)
def test_values_are_copied(things, name, way):
    assert WAYS[way](things[name]) == things[name]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["Ring", "DeviceRing"])
def test_a_copied_ring_is_another_attachment(things, name, way):
    ring = things[name]
    with WAYS[way](ring) as other:
        assert ring.stats().participants == 2
        with other.acquire(1, 1.0) as lease:
            assert lease[0].trajectory_id == 1
    assert not ring.closed and ring.stats().participants == 1


def test_an_ended_lease_cannot_live_on_in_a_copy():
    with Ring.create(ring_spec(num_slots=2, max_reads=9)) as ring:
        put(ring, 1)
        with ring.acquire(1, 0.0) as lease:
            sample = lease[0]
        for way in WAYS.values():
            for thing in (lease, sample):
                with pytest.raises(RingError, match="neither copied nor pickled"):
                    way(thing)


def in_a_fork(function) -> int:
    """Runs a function in a forked child; what it returned."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = function()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_does_not_write_its_parents_records_again(tmp_path):
    path = tmp_path / "ledger"
    ledger = Ledger.open(path)
    ledger.record(Event.READ, 7, read_index=0)

    def child() -> int:
        refused = 0
        for call in (ledger.flush, ledger.sync, lambda: ledger.bound(3), lambda: ledger.publish(1, pairs=1)):
            try:
                call()
            except RingError as error:
                refused += "forked child" in str(error)
        with ledger:
            pass
        with Ledger.open(path) as own:
            own.record(Event.READ, 8, read_index=0)
        return refused

    assert in_a_fork(child) == 4
    ledger.record(Event.READ, 9, read_index=0)
    ledger.close()
    assert load(path)[0]["trajectory_id"].tolist() == [8, 7, 9]


def test_only_a_regular_file_is_a_ledger_and_nothing_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    def too_long(*_):
        raise TimeoutError("waited for the other end of a pipe")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(20)
    try:
        for look in (Ledger.open, load, last_step, verify):
            with pytest.raises(RingError, match="no regular file"):
                look(tmp_path / "pipe")
            with pytest.raises(RingError, match="no regular file"):
                look("/dev/null")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert len(HEADER) == RECORD.itemsize
