"""Wherever the payload lies, the ring is used alike: by engines, gateways, learners, and from a snapshot."""

import threading
import zlib
from collections import Counter

import msgpack
import numpy as np
import pytest
from ring_parts import AGGREGATE, is_whole, ring_spec, trajectory_spec, write

from embodichain.config import WorldConfig
from embodichain.engine import Engine
from embodichain.errors import ConfigError, RingError, RingTimeout, StreamEnded
from embodichain.physics import counting
from embodichain.prepare import prepare
from embodichain.ring import layout, snapshot
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.gateway import Gateway
from embodichain.ring.open import attach_ring, create_ring
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, TrajectoryId
from learner.data.config import DataConfig
from learner.data.dataset import RingDataset

PLACEMENTS = ["host", "delayed"]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_who_attaches_need_not_know_where_the_payload_lies(placement):
    with create_ring(ring_spec(), placement) as ring:
        with attach_ring(ring.path, ring.spec.trajectory) as other:
            assert type(other) is type(ring) is (Ring if placement == "host" else DeviceRing)
            with other.reserve() as slot:
                write(slot, 5)
        with ring.sample(1) as lease:
            assert is_whole(lease[0])
        with pytest.raises(RingError, match="asked for"):
            attach_ring(ring.path, trajectory_spec(9))


def test_an_unknown_placement_names_those_that_exist():
    with pytest.raises(ConfigError, match=r"cloud.*cuda.*host"):
        create_ring(ring_spec(), "cloud")


@pytest.mark.parametrize("source", PLACEMENTS)
@pytest.mark.parametrize("target", PLACEMENTS)
def test_a_snapshot_moves_between_placements_with_the_reads_that_are_left(tmp_path, source, target):
    reads, rng = Counter(), np.random.default_rng(0)

    def draw(ring, draws):
        for _ in range(draws):
            with ring.sample(2, 0.0, rng, partial=True) as lease:
                assert all(is_whole(sample) for sample in lease)
                reads.update(lease.trajectory_ids.tolist())

    with create_ring(ring_spec(num_slots=4, max_reads=5), source) as ring:
        for number in range(1, 5):
            with ring.reserve() as slot:
                write(slot, number)
        draw(ring, 4)
        assert ring.snapshot(tmp_path / "ring") == 4
    restore = Ring.restore if target == "host" else lambda path: DeviceRing.restore(path, DelayedDevice(3))
    with restore(tmp_path / "ring") as ring:
        with pytest.raises(RingTimeout):
            draw(ring, 100)
        assert ring.stats().over_reads == 0
    assert reads == dict.fromkeys(range(1, 5), 5)


def test_a_change_of_k_waits_until_a_snapshot_of_a_device_is_complete(tmp_path):
    """Every trajectory in the file was counted under the K of the file."""

    class Reads(DelayedDevice):
        reads = 0

        def read(self, pointer, size_bytes):
            self.reads += 1
            if self.reads == 4:  # within the second trajectory
                change.start()
                change.join(0.2)
            return super().read(pointer, size_bytes)

    with DeviceRing.create(ring_spec(num_slots=4, max_reads=8), Reads()) as ring:
        change = threading.Thread(target=ring.set_max_reads, args=(2,))
        for number in range(4):
            with ring.reserve() as slot:
                write(slot, number)
        assert ring.snapshot(tmp_path / "ring") == 4
        change.join()
        assert ring.stats().max_reads == 2
    with Ring.restore(tmp_path / "ring") as ring:
        assert (ring.stats().max_reads, ring.stats().reads_left) == (8, 4 * 8)


def test_a_trajectory_published_with_a_higher_k_is_saved_with_the_reads_of_the_present_k(tmp_path):
    """A participant that is stopped while publishing may use the old K after the change; here the header alone is changed."""
    with Ring.create(ring_spec(num_slots=2, max_reads=8)) as ring:
        for number in range(2):
            with ring.reserve() as slot:
                write(slot, number)
        ring.sample(1, 0.0).release()
        ring._header[layout.AT_MAX_READS // 8] = 1
        assert ring.snapshot(tmp_path / "ring") == 1
    with Ring.restore(tmp_path / "ring") as ring:
        assert ring.stats().reads_left == 1


@pytest.mark.parametrize("mode", ["each", "aggregate"])
@pytest.mark.parametrize(("reads", "remaining"), [(-6, 8), (0, 9), (3, 0), (8, 1)])
def test_a_snapshot_with_more_reads_than_k_is_refused(tmp_path, mode, reads, remaining):
    spec = ring_spec(num_slots=1, max_reads=8, **({"mode": AGGREGATE} if mode == "aggregate" else {}))
    with Ring.create(spec) as ring:
        with ring.reserve() as slot:
            write(slot, 1)
        ring.snapshot(tmp_path / "ring")
    data = (tmp_path / "ring").read_bytes()
    at, _, magic = snapshot._TRAILER.unpack(data[-snapshot._TRAILER.size :])
    index = msgpack.unpackb(data[at : -snapshot._TRAILER.size])
    index["slots"][0] |= {"reads": reads, "remaining": remaining}
    changed = msgpack.packb(index)
    end = snapshot._TRAILER.pack(at, zlib.crc32(changed), magic)
    (tmp_path / "ring").write_bytes(data[:at] + changed + end)
    if mode == "aggregate" and (reads, remaining) == (8, 1):
        Ring.restore(tmp_path / "ring").close()  # there, only the ring as a whole is bounded
        return
    with pytest.raises(RingError, match=f"damaged: trajectory 0x1 was read {reads} times and has {remaining} reads left"):
        Ring.restore(tmp_path / "ring")


def test_only_the_owner_of_a_ring_on_a_device_takes_its_snapshot(tmp_path):
    with create_ring(ring_spec(), "delayed") as ring, attach_ring(ring.path) as other:
        assert isinstance(other, DeviceRing)
        with pytest.raises(RingError, match="owner"):
            other.snapshot(tmp_path / "ring")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_gateway_delivers_each_trajectory_once(tmp_path, placement):
    with create_ring(ring_spec(max_reads=1), placement) as ring, Gateway(ring, tmp_path / "journal") as gateway:
        for number, is_new in ((7, True), (8, True), (7, False)):
            identity = TrajectoryId(worker=1, epoch=0, sequence=number)
            arrays = trajectory_spec().allocate()
            write(arrays, identity.pack())
            assert gateway.deliver(arrays, identity) is is_new
        with ring.sample(2) as lease:
            assert sorted(TrajectoryId.unpack(int(i)).sequence for i in lease.trajectory_ids) == [7, 8]
            assert all(is_whole(sample) for sample in lease)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_learner_reads_every_trajectory_of_an_engine_k_times_and_whole(placement, no_shared_memory_left):
    world = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=8), lambda name, done, total: None)
    reads: Counter = Counter()
    with (
        create_ring(RingSpec(trajectory=world.trajectory_spec, num_slots=4, max_reads=3), placement) as ring,
        Engine(world, ring, limit=12) as engine,
    ):
        dataset = RingDataset(
            ring,
            DataConfig(batch_size=2, window=2),
            on_starved=engine.feed,
            exhausted=lambda: engine.exhausted,
            inspect=lambda view: counting.verify(view, robot=world.robot),
        )
        with pytest.raises(StreamEnded):
            while True:
                leased = dataset.draw()
                batch = leased.gather()
                reads.update(batch.trajectory_ids)
                assert bool(batch.actions_BTKA[batch.valid_BT].isfinite().all())
                leased.release()
        assert reads == dict.fromkeys(reads, 3)
        assert len(reads) == engine.report.published == 12
        assert ring.stats().over_reads == 0
