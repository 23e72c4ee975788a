"""What a ring on any device owes its users: one suite for the fake on the CPU and for real hardware.

A `bench` makes devices and puts late work on them; `start` runs a function in a process of its own.
"""

import time

import numpy as np
import pytest
import torch
from ring_parts import eventually, kill, ring_spec, trajectory_spec, write

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import device_ring
from embodichain.ring.device_ring import DeviceRing

FIELDS = ("content", "action")


def put(ring, number: int, timeout_s: float = 120.0) -> None:
    slot = ring.reserve(timeout_s)
    write(slot, number)
    slot.publish(timeout_s)


def whole(content, action, number: int) -> bool:
    expected = np.arange(1, len(content) + 1, dtype=np.uint64) * np.uint64(number | 1)
    return np.array_equal(content, expected) and bool((action == number % 1000).all())


def is_whole(bench, sample) -> bool:
    views = [bench.to_host(sample[name]) for name in FIELDS]
    return whole(*views, sample.trajectory_id) and int(sample["trajectory_id"]) == sample.trajectory_id


def produce(bench, path, numbers) -> None:
    with DeviceRing.attach(path, bench.device()) as ring:
        for number in numbers:
            put(ring, number, 200.0)


def produce_and_hang(bench, path, number) -> None:
    """Leaves a copy under way, a slot open and a kernel running, and waits to be killed."""
    ring = DeviceRing.attach(path, bench.device(stuck=True))
    slot = ring.reserve(200.0)
    write(slot, number)
    slot.publish(0.0)
    other = ring.reserve(200.0)
    bench.write_late(ring.device, other.device("content"), 7)
    time.sleep(600)


def own_and_hang(bench, path) -> None:
    ring = DeviceRing.create(ring_spec(4), bench.device(), path)
    put(ring, 1)
    time.sleep(600)


class DeviceLaws:
    @pytest.fixture
    def ring(self, bench):
        with DeviceRing.create(ring_spec(4, 2), bench.device()) as ring:
            yield ring

    @pytest.fixture
    def producer(self, bench, ring):
        with DeviceRing.attach(ring.path, bench.device(), trajectory_spec()) as producer:
            yield producer

    def test_what_was_written_is_what_is_read_k_times(self, bench, ring, producer):
        for number in (1, 2, 3):
            put(producer, number)
        counts = {}
        for _ in range(2):
            with ring.sample(3) as lease:
                for sample in lease:
                    assert is_whole(bench, sample)
                    counts[sample.trajectory_id] = counts.get(sample.trajectory_id, 0) + 1
        ring.flush()
        assert counts == {1: 2, 2: 2, 3: 2}
        assert ring.stats().free == 4
        assert ring.device.outstanding == producer.device.outstanding == 0

    def test_views_share_the_arena_with_torch(self, bench, ring, producer):
        if not bench.torch_reaches(ring.device):
            pytest.skip("this build of torch has no CUDA: install one that has")
        for number in (5, 6):
            put(producer, number)
        with ring.sample(2) as lease:
            everything = torch.from_dlpack(ring.field("action"))
            for sample in lease:
                tensor = torch.from_dlpack(sample["action"])
                assert tensor.data_ptr() == everything[sample.slot].data_ptr()
                assert tensor.data_ptr() == ring._arena + ring._slot_at(sample.slot) + ring._offsets["action"]
            batch = everything[torch.as_tensor(lease.slots).to(everything.device)].cpu()
            assert batch[:, 0, 0].tolist() == [int(number) for number in lease.trajectory_ids]
            assert ring.field("trajectory_id")[lease.slots].tolist() == lease.trajectory_ids.tolist()

    def test_not_readable_before_the_kernel_that_writes_it_is_complete(self, bench, ring, producer):
        slot = producer.reserve()
        slot["trajectory_id"][()] = 8
        slot["action"][:] = 8
        bench.write_late(producer.device, slot.device("content"), 8)
        slot.publish(0.0)
        assert producer.poll() == 1
        assert (ring.stats().writing, ring.stats().ready) == (1, 0)
        bench.let_go(producer.device)
        producer.flush()
        with ring.sample(1) as lease:
            assert (bench.to_host(lease[0]["content"]) == 8).all()
            assert (bench.to_host(lease[0]["action"]) == 8).all()

    def test_not_rewritten_before_the_last_kernel_that_reads_it_is_complete(self, bench, ring, producer):
        for number in range(4):
            put(producer, number)
        ring.set_max_reads(1)
        lease = ring.acquire(4)
        results = [(s.trajectory_id, bench.read_late(ring.device, s["content"])) for s in lease]
        lease.release()
        with pytest.raises(RingTimeout, match="4 held"):
            producer.reserve(0.0)
        assert ring.poll() == 1
        bench.let_go(ring.device)
        ring.flush()
        for number in range(10, 14):
            put(producer, number)
        for number, result in results:
            assert np.array_equal(bench.to_host(result()), np.arange(1, 513, dtype=np.uint64) * np.uint64(number | 1))

    def test_an_abandoned_slot_waits_for_the_kernel_that_writes_it(self, bench, ring, producer):
        slot = producer.reserve()
        bench.write_late(producer.device, slot.device("content"), 8)
        slot.abandon()
        assert ring.stats().writing == 1
        bench.let_go(producer.device)
        producer.flush()
        assert ring.stats().free == 4

    def test_another_process_writes_what_is_read_here(self, bench, ring):
        process = bench.start(produce, ring.path, range(20, 28))
        seen = {}
        while sum(seen.values()) < 16:
            with ring.sample(4, 200.0, partial=True) as lease:
                for sample in lease:
                    assert is_whole(bench, sample)
                    seen[sample.trajectory_id] = seen.get(sample.trajectory_id, 0) + 1
        process.join(200)
        ring.flush()
        assert seen == dict.fromkeys(range(20, 28), 2)
        assert ring.stats().free == 4

    def test_a_killed_producer_leaves_no_slot_behind(self, bench, ring, producer):
        process = bench.start(produce_and_hang, ring.path, 3)
        eventually(lambda: ring.stats().writing == 2)
        kill(process)
        eventually(lambda: ring.reap() == 1)
        assert ring.stats().free == 4
        for number in range(4):
            put(producer, number)
        with ring.sample(4) as lease:
            assert all(is_whole(bench, sample) for sample in lease)

    def test_the_owners_death_ends_the_ring(self, bench, tmp_path):
        path = tmp_path / "ring"
        process = bench.start(own_and_hang, path)
        eventually(lambda: path.exists())
        producer = DeviceRing.attach(path, bench.device())
        slot = producer.reserve()
        write(slot, 5)
        handle = device_ring._read_note(producer._control).handle
        kill(process)
        process.join()
        with pytest.raises(RingClosed, match="died"):
            slot.publish()
        with pytest.raises(RingClosed, match="died"):
            producer.reserve()
        producer.close()
        with pytest.raises(RingClosed):
            DeviceRing.attach(path, bench.device())
        with pytest.raises(RingError, match="owner"):
            bench.device().open(handle)

    def test_a_lease_and_a_slot_left_open_are_settled_by_closing(self, bench):
        ring = DeviceRing.create(ring_spec(4), bench.device())
        producer = DeviceRing.attach(ring.path, bench.device())
        put(producer, 1)
        lease, slot = ring.acquire(1), producer.reserve()
        write(slot, 2)
        producer.close()
        assert ring.stats().writing == 0
        ring.close()
        with pytest.raises(RingError, match="lease was released"):
            lease.check()
        with pytest.raises(RingClosed):
            producer.reserve()
        assert not ring.path.exists()

    def test_the_arena_outlives_everybody_who_maps_it(self, bench):
        ring = DeviceRing.create(ring_spec(4), bench.device())
        producer = DeviceRing.attach(ring.path, bench.device())
        with pytest.raises(RingTimeout, match="still map its arena"):
            ring.close(timeout_s=0.05)
        with pytest.raises(RingClosed):
            put(producer, 1)
        producer.close()
        ring.close()

    def test_the_arena_is_freed_once_a_killed_participant_is_dead(self, bench):
        ring = DeviceRing.create(ring_spec(4), bench.device())
        process = bench.start(produce_and_hang, ring.path, 3)
        eventually(lambda: ring.stats().writing == 2)
        with pytest.raises(RingTimeout, match=rf"processes \[{process.pid}\] still map its arena"):
            ring.close(timeout_s=0.05)
        kill(process)
        process.join()
        ring.close(timeout_s=5.0)
        assert not ring.path.exists()

    def test_poison_marks_what_was_retired_on_the_device_too(self, bench):
        with DeviceRing.create(ring_spec(2, 1), bench.device(), debug=True) as ring:
            put(ring, 1)
            with ring.sample(1) as lease:
                assert is_whole(bench, lease[0])
                view = ring.field("content")
                slot = lease[0].slot
            ring.flush()
            assert (bench.to_host(view)[slot] == np.uint64(2**64 - 1)).all()
            del view
