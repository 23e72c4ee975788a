"""An exception of a signal handler at any point of a call on a device: no slot is freed under its work, no trajectory is lost."""

import gc
import time

import numpy as np
import pytest
from device_laws import is_whole, put, write
from interrupts import Interrupt, interrupt
from ring_parts import ring_spec

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Host:
    """What `is_whole` asks of a bench."""

    to_host = staticmethod(np.asarray)


class Stage:
    """A ring of one slot on a device that is held: nothing happens on it until `let_go`."""

    def __init__(self, seed: int) -> None:
        self.device = DelayedDevice(seed, steps_per_poll=0)
        self.ring = DeviceRing.create(ring_spec(1, 2, words=16), self.device)

    def let_go(self) -> None:
        self.device._steps_per_poll = 50

    def hold(self) -> None:
        self.device._steps_per_poll = 0

    def look(self) -> tuple[int, int, int]:
        """Slots free, being written, and held, after everybody who can has taken back what was dropped."""
        gc.collect(0)
        self.ring.poll()
        self.ring.stats()
        stats = self.ring.stats()
        return stats.free, stats.writing, stats.held

    def end(self, where: str) -> None:
        """Everything has been given back."""
        self.let_go()
        self.ring.flush()
        assert len(self.ring._staging.free) == self.ring._staging.made, where
        stats = self.ring.stats()
        assert (stats.writing, stats.held, stats.refused, stats.over_reads) == (0, 0, 0, 0), where
        self.ring.close()
        assert not self.device._arenas, where


def stages(interrupted):
    """For each point of a call: a stage and where it was interrupted. `interrupted(stage)` prepares the stage, returns the call."""
    at = 1
    while True:
        stage = Stage(at)
        where = interrupt(interrupted(stage), at)
        if not where:
            stage.end(where)
            break
        yield stage, where
        stage.end(where)
        at += 1
    assert at > 20


def late_slot(stage: Stage):
    """A slot that is copied from the host and written by a kernel on a stream of its own."""
    slot = stage.ring.reserve()
    write(slot, 5)
    return slot


def test_publishing():
    def publish(stage):
        slot = late_slot(stage)
        return lambda: slot.publish(0.0)

    ready = 0
    for stage, where in stages(publish):
        free, writing, _ = stage.look()
        assert not stage.device.busy or (free, writing) == (0, 1), where
        stage.let_go()
        stage.ring.flush()
        ready += stage.ring.stats().ready
        if stage.ring.stats().ready:
            with stage.ring.sample(1) as lease:
                assert is_whole(Host, lease[0]), where
    assert ready > 10


def test_abandoning_what_a_kernel_writes_on_a_named_stream():
    ran = []

    def abandon(stage):
        slot = stage.ring.reserve()
        slot.device("content")
        stage.device.launch(lambda: ran.append(1), 7)
        ran.clear()
        return lambda: slot.abandon(streams=(7,))

    for stage, where in stages(abandon):
        slot = stage.ring
        free, writing, _ = stage.look()
        # Interrupted before it took the stream's name, the call has told the ring nothing of that stream.
        assert (free, writing) == (0, 1) or not stage.ring._pending, where
        del slot


def test_releasing():
    def release(stage):
        stage.let_go()
        put(stage.ring, 1)
        stage.hold()
        lease = stage.ring.acquire(1)
        lease.used_on(7)
        for stream in (1, 7):
            stage.device.launch(lambda: None, stream)
        return lease.release

    for stage, where in stages(release):
        _, _, held = stage.look()
        assert not stage.device.busy or held == 1, where


def test_polling_loses_no_trajectory_and_no_release():
    def poll_publish(stage):
        late_slot(stage).publish(0.0)
        stage.let_go()
        while stage.device.busy:
            stage.device.step()
        return stage.ring.poll

    for stage, where in stages(poll_publish):
        assert stage.ring.poll() == 0, where
        assert stage.ring.stats().ready == 1, where

    def poll_release(stage):
        stage.let_go()
        put(stage.ring, 1)
        stage.hold()
        stage.ring.acquire(1).release()
        stage.let_go()
        while stage.device.busy:
            stage.device.step()
        return stage.ring.poll

    for stage, where in stages(poll_release):
        assert stage.ring.poll() == 0, where
        assert stage.look()[2] == 0, where


@pytest.mark.parametrize("call", ["reserve", "acquire"])
def test_reserving_and_acquiring(call):
    def taking(stage):
        stage.let_go()
        if call == "acquire":
            put(stage.ring, 1)
            return lambda: stage.ring.acquire(1, 0.0)
        return lambda: stage.ring.reserve(0.0)["content"].fill(1)

    for stage, where in stages(taking):
        stage.ring.flush()
        assert stage.look()[1:] == (0, 0), where


def test_what_was_interrupted_twice():
    """The second exception comes while the first one's slot is being abandoned."""
    for at in range(1, 90, 4):
        for again in range(1, 60, 9):
            stage = Stage(at)
            slot = late_slot(stage)
            where = interrupt(lambda slot=slot: slot.publish(0.0), at)
            more = interrupt(slot.abandon, again)
            del slot
            free, writing, _ = stage.look()
            assert not stage.device.busy or (free, writing) == (0, 1), (where, more)
            stage.end(f"{where} {more}")


def test_a_dropped_lease_waits_for_the_streams_that_were_named():
    stage = Stage(1)
    stage.let_go()
    put(stage.ring, 1)
    stage.hold()
    lease = stage.ring.acquire(1)
    lease.used_on(7)
    stage.device.launch(lambda: None, 7)
    del lease
    stage.look()
    queue = stage.device._queues[1]
    while queue:
        next(queue[0], None)
        queue.popleft()
    assert stage.look()[2] == 1
    stage.end("")


def test_an_attachment_that_is_dropped_waits_for_the_streams_that_were_named():
    with DeviceRing.create(ring_spec(1, 2, words=16), DelayedDevice(2)) as owner:
        put(owner, 1)
        device = DelayedDevice(1, steps_per_poll=1)
        ring, ran = DeviceRing.attach(owner.path, device), []
        lease = ring.acquire(1)
        lease.used_on(7)
        device.launch(lambda: ran.append(1), 7)
        del ring, lease
        gc.collect()
        assert ran == [1]
        assert owner.stats().held == 0
        assert not device._arenas


def test_an_exception_while_an_attachment_ends_keeps_its_slots_until_the_process_dies():
    class Interrupts(DelayedDevice):
        def done(self, marker):
            raise Interrupt

    with DeviceRing.create(ring_spec(1, 2, words=16), DelayedDevice(2)) as owner:
        device = Interrupts(1)
        ring = DeviceRing.attach(owner.path, device)
        slot = late_slot_of(ring)
        with pytest.raises(Interrupt):
            ring._finalizer()
        ring._control.close()  # as at the exit of the interpreter
        assert owner.stats().writing == 1
        # As in the death of the process:
        device.lose_everything()
        device.unmap(ring._arena)
        del slot
        owner._watch = None


def late_slot_of(ring):
    slot = ring.reserve()
    write(slot, 3)
    return slot


def test_a_slot_abandoned_in_a_capture_is_still_open():
    stage = Stage(1)
    slot = stage.ring.reserve()
    slot.device("content")
    stage.device.capturing = True
    with pytest.raises(RingError, match="captured"):
        slot.abandon()
    stage.device.capturing = False
    assert stage.look()[:2] == (0, 1)
    slot.abandon()
    stage.end("")


def test_a_staging_buffer_that_was_refused_is_asked_for_again():
    class Refuses(DelayedDevice):
        refusing = True

        def staging(self, size_bytes):
            if self.refusing:
                raise RingError("no memory to pin")
            return super().staging(size_bytes)

    device = Refuses()
    with DeviceRing.create(ring_spec(4), device) as ring:
        slot = ring.reserve()
        for _ in range(3):
            with pytest.raises(RingError, match="no memory to pin"):
                slot["content"]
        device.refusing = False
        write(slot, 1)
        slot.publish()
        assert ring.stats().ready == 1


def test_an_operation_that_is_refused_for_good_is_forgotten():
    owner = DeviceRing.create(ring_spec(1, 2, words=16), DelayedDevice(2))
    device = DelayedDevice(1, steps_per_poll=0)
    ring = DeviceRing.attach(owner.path, device)
    slot = late_slot_of(ring)
    slot.publish(0.0)
    with pytest.raises(RingError, match="still map"):
        owner.close(0.0)
    device._steps_per_poll = 50
    with pytest.raises(RingClosed):
        ring.flush()
    assert ring.poll() == 0
    ring.close()
    owner.close()


# ----------------------------------------------------------------------------- a handler that closes the ring, and goes on


def handled(stage: Stage, call, at: int) -> str:
    """Runs a call, with a handler that closes the ring at the `at`-th point."""
    return interrupt(call, at, lambda: stage.ring.close(2.0))


def closings(prepare, step: int = 1):
    """As `stages`, but the handler closes the ring and the call goes on; yields also what the call raised."""
    at = 1
    while True:
        stage, error = Stage(at), None
        call = prepare(stage)
        stage.let_go()
        try:
            where = handled(stage, call, at)
        except RingError as raised:
            where, error = "raised", raised
        if where:
            assert stage.ring.closed and not stage.device._arenas, where
            assert not stage.device.busy, where
            yield stage, where, error
        else:
            stage.ring.close()
            break
        at += step
    assert at > 20


def calls() -> dict:
    def publish(stage):
        slot = late_slot(stage)
        return slot.publish

    def write_and_publish(stage):
        return lambda: put(stage.ring, 1)

    def poll(stage):
        late_slot(stage).publish(0.0)
        return stage.ring.flush

    def release(stage):
        stage.let_go()
        put(stage.ring, 1)
        return stage.ring.acquire(1).release

    def read(stage):
        stage.let_go()
        put(stage.ring, 1)
        lease = stage.ring.acquire(1)
        return lambda: [lease[0]["content"], stage.ring.field("content")]

    return {f.__name__: f for f in (publish, write_and_publish, poll, release, read)}


@pytest.mark.parametrize("name", calls())
def test_a_handler_that_closes_the_ring_at_any_point_of_a_call(name):
    for _, where, error in closings(calls()[name], step=3):
        assert error is None or "closed" in str(error) or "no longer ours" in str(error) or "released" in str(error), where


def test_a_close_put_off_by_an_operation_that_fails_is_told_with_its_error():
    class Raises(DelayedDevice):
        def copy(self, pointer, source):
            ring.close(0.0)
            raise KeyboardInterrupt

    device = Raises(1, steps_per_poll=50)
    ring = DeviceRing.create(ring_spec(1, words=16), device)
    device.launch(lambda: None)
    device._steps_per_poll = 0
    slot = late_slot_of(ring)
    with pytest.raises(KeyboardInterrupt) as caught:
        slot.publish()
    assert "the ring was to be closed as well: " in caught.value.__notes__[0]
    assert ring.closed
    device._steps_per_poll = 50
    ring.close()
    assert not device._arenas


def test_a_view_of_a_closed_ring_is_refused_and_poison_does_not_reach_its_arena():
    device = DelayedDevice(1)
    ring = DeviceRing.create(ring_spec(1, words=16), device, debug=True)
    slot = ring.reserve()
    poison = ring._control.poison_payload
    ring.close()
    for refused in (lambda: slot.device("content"), lambda: ring.view(0, "content"), lambda: ring.field("content")):
        with pytest.raises(RingError, match=r"closed|abandoned"):
            refused()
    with pytest.raises(RingClosed, match="arena"):
        ring.copy(0, "content", np.zeros(8, np.uint8))
    poison(0)


def test_a_handler_does_not_wait_for_what_it_interrupted():
    class Flushes(DelayedDevice):
        waited = None

        def done(self, marker):
            if self.waited is None:
                self.waited = -1.0
                before = time.monotonic()
                with pytest.raises(RingTimeout):
                    ring.flush(5.0)
                self.waited = time.monotonic() - before
            return super().done(marker)

    device = Flushes(1, steps_per_poll=50)
    with DeviceRing.create(ring_spec(1, words=16), device) as ring:
        put(ring, 1)
        assert 0.0 <= device.waited < 1.0
        assert ring.stats().ready == 1
