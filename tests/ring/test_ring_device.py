"""The laws of a ring on a device, under a fake one that completes late and out of order; and what it refuses."""

import gc
import sys

import numpy as np
import pytest
from device_laws import DeviceLaws, put, write
from ring_parts import ring_spec, start, trajectory_spec

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import layout, placement
from embodichain.ring.cuda import CudaDevice
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.ring import ControlRing, Ring
from embodichain.ring.stats import Observer
from embodichain.types import Field, RingSpec, TrajectorySpec
from embodichain.types.trajectories import camera_spec


class DelayedBench:
    """Late work on `DelayedDevice`: nothing at all happens on one that is held, until it is let go."""

    def __init__(self) -> None:
        self.made = 0

    def device(self, *, stuck: bool = False) -> DelayedDevice:
        self.made += 1
        return DelayedDevice(self.made, steps_per_poll=0 if stuck else 2)

    def write_late(self, device, view, value) -> None:
        device._steps_per_poll = 0
        device.launch(lambda: view.fill(value))

    def read_late(self, device, view):
        device._steps_per_poll = 0
        copy = []
        device.launch(lambda: copy.append(view.copy()))
        return lambda: copy[0]

    def let_go(self, device) -> None:
        device._steps_per_poll = 2

    def to_host(self, view) -> np.ndarray:
        return np.asarray(view)

    def start(self, function, *arguments):
        return start(function, self, *arguments)

    def torch_reaches(self, _device) -> bool:
        return True


@pytest.fixture
def bench():
    return DelayedBench()


class TestDelayed(DeviceLaws):
    pass


@pytest.fixture
def device():
    return DelayedDevice(1)


@pytest.fixture
def ring(device):
    with DeviceRing.create(ring_spec(4), device) as ring:
        yield ring


# ------------------------------------------------------------------------------------------------------------ refusals


def test_a_stale_event_is_refused_not_answered_for_its_next_use(device):
    first = device.mark()
    device.step(5)
    assert device.done(first)
    device.forget(first)
    with pytest.raises(RingError, match="stale event"):
        device.done(first)
    second = device.mark()
    assert second.event == first.event
    for refused in (first, DelayedDevice(2).mark()):
        with pytest.raises(RingError, match="stale event"):
            device.done(refused)
    with pytest.raises(RingError, match="stale event"):
        device.forget(first)


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RingError, match=r"needs cupy .*pip install 'embodichain\[cuda\]'.*Ring\.create"):
        CudaDevice()


def test_host_and_device_rings_are_not_mistaken_for_each_other(ring):
    with pytest.raises(RingError, match=r"lies on a device: attach with DeviceRing\.attach"):
        Ring.attach(ring.path)
    with Ring.create(ring_spec(4)) as host:
        with pytest.raises(RingError, match=r"lies in host memory: attach with Ring\.attach"):
            DeviceRing.attach(host.path, DelayedDevice())
        assert host.stats().participants == 1


def test_another_device_another_schema_and_another_generation_are_refused(ring, device):
    other = DelayedDevice()
    other.identity = "0000:3B:00.0"
    with pytest.raises(RingError, match=r"delayed device host memory, asked .* 0000:3B:00.0"):
        DeviceRing.attach(ring.path, other)
    with pytest.raises(RingError, match=r"content uint64\[512\].*asked for .*content uint64\[9\]"):
        DeviceRing.attach(ring.path, DelayedDevice(), trajectory_spec(9))
    device.write(ring._arena, b"another!")
    with pytest.raises(RingError, match="its owner is gone"):
        DeviceRing.attach(ring.path, DelayedDevice())
    assert ring.stats().participants == 1


def test_schemas_that_cannot_lie_on_a_device_are_refused(device):
    scalars = TrajectorySpec(horizon=1, fields=(Field(name="x", shape=(), dtype="float64"),))
    with pytest.raises(RingError, match=r"use Ring\.create"):
        DeviceRing.create(RingSpec(trajectory=scalars, num_slots=1), device)
    many = TrajectorySpec(horizon=1, fields=tuple(Field(name=f"field_{i}", shape=(2,), dtype="float32") for i in range(99)))
    with pytest.raises(RingError, match=r"99 fields need \d+ bytes of a ring's header, 2048 are there"):
        DeviceRing.create(RingSpec(trajectory=many, num_slots=1), device)
    assert not device._arenas


def test_a_field_is_written_on_the_host_or_on_the_device(ring):
    with ring.reserve() as slot:
        slot["content"][:] = 1
        slot["trajectory_id"][()] = 1
        slot.device("action")
        for wrong in (lambda: slot["action"], lambda: slot.device("content"), lambda: slot.device("trajectory_id")):
            with pytest.raises(RingError, match=r"'(action|content|trajectory_id)'"):
                wrong()
        with pytest.raises(KeyError, match="content"):
            slot["picture"]
    with pytest.raises(RingError, match="no longer ours"):
        slot["content"]


def test_more_open_slots_than_staging_buffers_is_an_error_not_a_deadlock(ring):
    slots = [ring.reserve() for _ in range(3)]
    for slot in slots[:2]:
        write(slot, 1)
    with pytest.raises(RingError, match="all 2 are in slots that are open"):
        write(slots[2], 1)
    slots[0].publish()
    write(slots[2], 1)


# ------------------------------------------------------------------------------------------------------------- lateness


def test_leaving_the_block_publishes_and_an_exception_abandons(ring):
    with ring.reserve() as slot:
        write(slot, 1)
    assert ring.stats().ready == 1
    with pytest.raises(ZeroDivisionError), ring.reserve() as slot:
        write(slot, 2)
        raise ZeroDivisionError
    assert (ring.stats().ready, ring.stats().free) == (1, 3)


def test_a_late_copy_times_out_and_is_published_by_a_later_call(ring, device):
    device._steps_per_poll = 0
    slot = ring.reserve()
    write(slot, 1)
    with pytest.raises(RingTimeout, match="a later call of the ring publishes it"):
        slot.publish(0.02)
    assert (ring.stats().writing, ring.stats().ready) == (1, 0)
    with pytest.raises(RingTimeout, match="1 of our own slots"):
        ring.flush(0.02)
    with pytest.raises(RingTimeout, match="close it again later"):
        ring.close(0.02)
    device._steps_per_poll = 2
    ring.close()


def test_a_publish_that_the_owners_close_overtakes_is_refused_and_closing_goes_on():
    ring = DeviceRing.create(ring_spec(4), DelayedDevice(1))
    producer = DeviceRing.attach(ring.path, DelayedDevice(2))
    put(producer, 1)
    lease = producer.acquire(1)
    producer.device._steps_per_poll = 0
    slot = producer.reserve()
    write(slot, 2)
    slot.publish(0.0)
    with pytest.raises(RingTimeout, match="still map its arena"):
        ring.close(0.01)
    producer.device._steps_per_poll = 2
    with pytest.raises(RingClosed):
        producer.flush()
    producer.device.launch(lambda: None)
    producer.close()
    with pytest.raises(RingError, match="lease was released"):
        lease.check()
    ring.close()
    assert not ring.device.outstanding
    assert not producer.device.outstanding


def test_closing_waits_for_the_kernels_of_a_lease_that_was_dropped(device):
    ring = DeviceRing.create(ring_spec(2), device)
    put(ring, 1)
    ran = []
    view = ring.acquire(1)[0]["action"]
    gc.collect()
    device.launch(lambda: ran.append(float(view[0, 0])))
    ring.close()
    assert ran == [1.0]


def test_observers_need_no_device(ring):
    put(ring, 1)
    assert Observer.open(ring.path).stats().ready == 1


def test_waiting_for_a_slot_serves_what_it_waits_for(device):
    """A single process whose ring is full of its own releases under way must not wait for itself."""
    with DeviceRing.create(ring_spec(1, 1), device) as ring:
        for number in range(5):
            put(ring, number)
            lease = ring.acquire(1)
            device.launch(lambda: None)
            lease.release()
        ring.flush()
        assert ring.stats().free == 1


def test_a_failed_device_gives_nothing_up_until_the_process_ends(device):
    ring = DeviceRing.create(ring_spec(2), device)
    device._steps_per_poll = 0
    slot = ring.reserve()
    write(slot, 1)
    slot.publish(0.0)
    device.failure = "illegal address"
    for _ in range(2):
        with pytest.raises(RingError, match="illegal address"):
            ring.reserve(0.0)
    assert ring.stats().writing == 1
    device.failure, device._steps_per_poll = None, 2
    ring.close()


def test_an_attachment_that_is_dropped_waits_for_its_copies_before_it_gives_its_slots_up(ring):
    device = DelayedDevice(3)
    producer = DeviceRing.attach(ring.path, device)
    device._steps_per_poll = 0
    slot = producer.reserve()
    write(slot, 1)
    slot.publish(0.0)
    device._steps_per_poll = 1
    busy = device.busy
    del producer, slot
    gc.collect()
    assert busy
    assert not device.busy
    assert ring.stats().writing == 0
    assert not device._arenas  # else the owner, which frees the arena at its end, would free it under a mapping


def test_a_restored_ring_can_be_attached_once_all_is_in_it(ring, tmp_path, monkeypatch):
    for number in range(3):
        put(ring, number)
    ring.snapshot(tmp_path / "snapshot")
    path, attached = tmp_path / "restored", []
    load = ControlRing.load

    def watched(control, *arguments):
        load(control, *arguments)
        attached.append(path.exists())

    monkeypatch.setattr(ControlRing, "load", watched)
    with DeviceRing.restore(tmp_path / "snapshot", DelayedDevice(2), path) as restored:
        assert attached == [False] and restored.stats().ready == 3


def test_the_draw_does_not_depend_on_how_long_it_waited():
    def draws(steps: int) -> list[int]:
        with DeviceRing.create(ring_spec(8, 3), DelayedDevice(steps, steps_per_poll=steps)) as ring:
            rng = np.random.default_rng(5)
            for number in range(8):
                put(ring, number)
            found = []
            for _ in range(6):
                with ring.sample(2, 5.0, rng) as lease:
                    found += lease.trajectory_ids.tolist()
            return found

    assert draws(1) == draws(7)


def test_the_note_fits_the_header():
    assert layout.AT_NOTE + placement.MAX_NOTE_BYTES <= layout.HEADER_BYTES
    assert layout.AT_NOTE_BYTES + 8 <= layout.AT_NOTE
    assert (
        max(value for name, value in vars(layout).items() if name.startswith("AT_") and "NOTE" not in name) < layout.AT_NOTE_BYTES
    )


def test_the_standard_trajectory_lies_on_a_device_but_for_what_the_host_decides_by():
    spec = camera_spec(cameras=3, height=16, width=16, horizon=4, depth=True)
    with DeviceRing.create(RingSpec(trajectory=spec, num_slots=2), DelayedDevice()) as ring:
        with ring.reserve() as slot:
            assert list(slot) == [f.name for f in spec.fields]
            for name in slot:
                slot[name][...] = 3
        with ring.sample(1) as lease, DeviceRing.attach(ring.path, DelayedDevice(), spec) as other:
            assert other.spec == ring.spec
            assert all((np.asarray(lease[0][f.name]) == 3).all() and lease[0][f.name].dtype == f.dtype for f in spec.fields)
            assert [f.name for f in spec.fields if placement.in_host(f)] == [
                "action_mask",
                "segment",
                "num_chunks",
                "trajectory_id",
                "instruction",
                "info",
            ]


def test_what_is_used_in_a_capture_is_given_back_after_it():
    """A graph's kernels run when the graph does: a release in its capture would not wait for them, so it is refused."""
    device = DelayedDevice()
    with DeviceRing.create(ring_spec(2, 1), device) as ring:
        put(ring, 1)
        lease, slot = ring.acquire(1), ring.reserve()
        slot["content"][:], slot["trajectory_id"][()] = 2, 2
        slot.device("action")[...] = 2
        device.capturing = True
        for refused in (lease.release, slot.publish):
            with pytest.raises(RingError, match="captured"):
                refused()
        device.capturing = False
        assert ring.stats().held == 1 and ring.stats().writing == 1
        lease.check()
        lease.release()
        slot.publish()
        ring.flush()
        assert ring.stats().held == 0 and ring.stats().published == 2
