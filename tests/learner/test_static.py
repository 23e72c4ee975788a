"""A static set beside a ring: the bound, the share and a resume hold exactly, and the ledger knows every read."""

from collections import Counter

import numpy as np
import pytest

from embodichain.errors import ConfigError, RingTimeout, StreamEnded
from embodichain.ring.ledger import Ledger
from embodichain.ring.proof import verify
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, TrajectoryId, camera_spec
from learner.data.config import DataConfig
from learner.data.dataset import RingDataset
from learner.data.static import Mixture, StaticSet
from learner.runs.lives import book

SPEC = camera_spec(cameras=1, height=16, width=16, horizon=4)
OURS = 1 << 40
"""Ids from here on are of the static set."""


def arrays(number):
    out = SPEC.allocate()
    out["num_chunks"][()] = 4
    out["trajectory_id"][()] = number
    return out


def static(count, max_reads):
    return StaticSet([OURS + i for i in range(count)], lambda number: arrays(OURS + number), max_reads)


@pytest.fixture
def ring(no_shared_memory_left):
    with Ring.create(RingSpec(trajectory=SPEC, num_slots=8, max_reads=500)) as ring:
        for number in range(8):
            with ring.reserve() as slot:
                for name, value in arrays(TrajectoryId(worker=0, epoch=0, sequence=number).pack()).items():
                    slot[name][...] = value
        yield ring


def draw(source, batches, ledger=None, size=4):
    """Ids of every read."""
    record = None if ledger is None else lambda batch, pairs, step: book(ledger, batch, pairs, step)
    data = RingDataset(
        source, DataConfig(batch_size=size, window=2), record=record, exhausted=lambda: True, on_starved=lambda: None
    )
    ids = []
    for _ in range(batches):
        batch = data.draw()
        ids += [view.trajectory_id for view in batch.windows]
        batch.release()
    return ids


def test_a_set_alone_is_read_k_times_and_then_the_stream_ends(ring, tmp_path):
    source = Mixture(ring, static(6, 5), 1.0)
    with Ledger.open(tmp_path / "ledger.bin") as ledger:
        ledger.bound(5)
        counts, drawn = Counter(), 0
        with pytest.raises(StreamEnded):
            for _ in range(20):
                counts.update(draw_once := draw(source, 1, ledger))
                drawn += len(draw_once)
    assert counts == {OURS + i: 5 for i in range(6)}
    report = verify(tmp_path / "ledger.bin")
    assert report.reads == drawn == 30 and report.max_reads == 5 and not report.violations and not report.duplicates
    assert ring.stats().acquired == 0, "the ring was never asked"


@pytest.mark.parametrize("share", [0.25, 0.3, 0.5])
def test_the_share_is_exact_over_time(ring, share):
    ids = draw(Mixture(ring, static(50, 100), share), 100)
    own = np.array([packed >= OURS for packed in ids])
    assert own.sum() == round(share * 400)
    for batches in (10, 50):
        assert abs(own[: 4 * batches].sum() - share * 4 * batches) <= 1


def test_a_set_that_is_read_up_leaves_the_batches_to_the_ring(ring, tmp_path):
    with Ledger.open(tmp_path / "ledger.bin") as ledger:
        ledger.bound(500)
        ids = draw(Mixture(ring, static(3, 4), 0.5), 20, ledger)
    counts = Counter(packed >= OURS for packed in ids)
    assert counts == {True: 12, False: 68}
    assert verify(tmp_path / "ledger.bin").reads == 80 == 12 + ring.stats().acquired


def test_a_resumed_set_has_the_reads_left_that_the_checkpoint_says(ring):
    first = Mixture(ring, static(6, 5), 0.3)
    before = Counter(packed for packed in draw(first, 7) if packed >= OURS)
    second = Mixture(ring, static(6, 5), 0.3)
    second.restore(first.state())
    after = Counter(packed for packed in draw(second, 40) if packed >= OURS)
    assert before + after == {OURS + i: 5 for i in range(6)}
    with pytest.raises(ConfigError, match="6 episodes, and has 7"):
        Mixture(ring, static(7, 5), 0.3).restore(first.state())


def test_a_mixed_lease_says_of_each_trajectory_what_is_true_of_it(ring):
    source = Mixture(ring, static(6, 5), 0.5)
    for _ in range(3):
        lease = source.acquire(6, 0.0, rng=np.random.default_rng(3))
        assert len(lease) == 6 and (lease.ages_s >= 0).all()
        assert lease.trajectory_ids.tolist() == [lease[i].trajectory_id for i in range(6)]
        assert lease.read_indices.tolist() == [lease[i].read_index for i in range(6)]
        assert all(int(lease[i]["trajectory_id"]) == lease[i].trajectory_id for i in range(6))
        lease.release()


def test_a_draw_that_the_ring_cannot_complete_costs_the_set_nothing(no_shared_memory_left):
    with Ring.create(RingSpec(trajectory=SPEC, num_slots=4, max_reads=2)) as empty:
        source = Mixture(empty, found := static(6, 5), 0.5)
        with pytest.raises(RingTimeout):
            source.acquire(4, 0.0, rng=np.random.default_rng(0))
        assert found.reads_left == 30
